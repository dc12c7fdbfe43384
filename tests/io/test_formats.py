import pytest

from segment.io.formats import is_image_file, stem, suffix


@pytest.mark.parametrize(
    ("name", "base", "end", "known"),
    [
        ("a.nii.gz", "a", ".nii.gz", True),
        ("a.b.NII.GZ", "a.b", ".nii.gz", True),
        ("a.nii", "a", ".nii", True),
        ("._a.nii.gz", "._a", ".nii.gz", False),
        ("a.tar.gz", "a.tar", ".gz", False),
        ("a", "a", "", False),
    ],
)
def test_names(name, base, end, known):
    assert (stem(name), suffix(name), is_image_file(name)) == (base, end, known)
