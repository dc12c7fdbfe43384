import pytest

from segment.errors import UserError, did_you_mean


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("featuers", " Did you mean 'features'?"),
        ("stride", " Did you mean 'strides'?"),
        ("features", " Did you mean 'features'?"),
        ("quite_other", ""),
        ("", ""),
    ],
)
def test_the_nearest_name_is_named_and_a_far_one_is_not(word, answer):
    assert did_you_mean(word, ["features", "strides", "act"]) == answer


def test_any_collection_of_names_is_accepted():
    assert did_you_mean("unte", {"unet": 1, "dynunet": 2}) == " Did you mean 'unet'?"
    assert did_you_mean("unet_smal", (name for name in ["unet_small", "resnet"])) == " Did you mean 'unet_small'?"
    assert did_you_mean("unet", []) == ""


def test_user_error_prints_its_message():
    error = UserError("a.nii.gz: is truncated. Copy it again.")
    assert str(error) == "a.nii.gz: is truncated. Copy it again."
    # Not one of the kinds that library code catches and explains away.
    assert not isinstance(error, ValueError | OSError | LookupError | TypeError | RuntimeError)
