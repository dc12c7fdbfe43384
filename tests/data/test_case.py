from pathlib import Path

from segment.data.case import Case


def test_the_label_is_the_last_of_the_files():
    images = (Path("b"), Path("a"))
    assert Case("x", images, Path("label")).files == (*images, Path("label"))
    assert Case("x", images).files == images
