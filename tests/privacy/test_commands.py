"""The commands: `check privacy=true` as text and JSON."""

import json

import numpy as np
import pytest
from breakage import IMAGE
from told_files import NAME

from segment.commands import check
from segment.config.compose import compose


@pytest.fixture
def data_set(make_dataset, tmp_path):
    """A sound data set, one image of which tells a name."""
    import nibabel as nib

    root = make_dataset(tmp_path / "in", n=4, shape=(6, 8, 7))
    path = root / IMAGE
    image = nib.load(path)
    image = nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header)
    image.header["descrip"] = NAME
    nib.save(image, path)
    return root


def test_check_lists_what_is_told_but_not_the_value(data_set, capsys):
    given = [f"{key}={value}" for key, value in {"data": "auto", "data.root": data_set}.items()]
    given.append(f"cache={data_set.parent / 'cache'}")
    check.run(compose("check", [*given, "format=json"]))
    assert json.loads(capsys.readouterr().out)["warnings"] == 0
    check.run(compose("check", [*given, "privacy=true", "format=json"]))
    problem = json.loads(capsys.readouterr().out)["problems"][0]
    assert (problem["severity"], problem["kind"], problem["file"]) == ("warning", "privacy", str(data_set / IMAGE))
    assert problem["what"] == "descrip holds a name (8 characters)."
    check.run(compose("check", [*given, "privacy=true"]))
    said = capsys.readouterr().out
    assert "Files tell something about patients" in said
    assert "anonymize=true" in said
    assert NAME not in said
    with pytest.raises(SystemExit):
        check.run(compose("check", [*given, "privacy=true", "strict=true"]))
