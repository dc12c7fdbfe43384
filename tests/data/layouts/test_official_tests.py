"""Official test scans beside the training scans, with labels of their own."""

import shutil

import numpy as np
import pytest
from PIL import Image

from segment.data import open_dataset


@pytest.mark.parametrize(
    "folders",
    [
        ("images/train", "labels/train", "images/test", "labels/test"),
        ("images/training", "masks/training", "images/test", "masks/test"),
        ("training/images", "training/masks", "test/images", "test/masks"),
        ("images", "labels", "imagesTs", "labelsTs"),
    ],
)
def test_official_test_scans_lie_beside_the_training_scans(make_dataset, tmp_path, folders):
    for part, (images, labels) in enumerate((folders[:2], folders[2:])):
        made = make_dataset(tmp_path / str(part), "folders", n=3 - part, shape=(8, 8), seed=part)
        for folder, target in (("images", images), ("labels", labels)):
            shutil.copytree(made / folder, tmp_path / "data" / target)
    if folders[2] == "imagesTs":
        next((tmp_path / "data" / "labelsTs").iterdir()).unlink()
    dataset = open_dataset(tmp_path / "data")
    assert [case.id for case in dataset.cases] == ["case_a00", "case_b01", "case_c02"]
    assert [case.id for case in dataset.test_cases] == ["case_a00", "case_b01"]  # names may recur
    assert sum(case.label is not None for case in dataset.test_cases) == (1 if folders[2] == "imagesTs" else 2)
    assert all(str(case.images[0].parent).endswith(folders[2]) for case in dataset.test_cases)


def test_a_folder_of_validation_images_is_not_left_out_in_silence(make_dataset, tmp_path):
    made = make_dataset(tmp_path / "made", "folders", n=2, shape=(8, 8))
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            shutil.copytree(made / kind, tmp_path / "data" / kind / part)
    problems = []
    assert len(open_dataset(tmp_path / "data", report=problems.append).cases) == 2
    assert [(problem.file, problem.severity) for problem in problems] == [
        (str(tmp_path / "data/images/val"), "warning")
    ]


def test_a_template_tells_test_scans_by_its_field_split(tmp_path):
    """As in DRIVE: training/images/21_training.tif, test/1st_manual/01_manual1.gif."""
    for part, names in (("training", ("21", "22")), ("test", ("01",)), ("other", ("31",))):
        for file in (f"images/{name}_{part}" for name in names):
            (tmp_path / part / "images").mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / part / f"{file}.png")
        for name in names:
            (tmp_path / part / "1st_manual").mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / part / "1st_manual" / f"{name}_manual1.png")
    image, label = "{split}/images/{case}_{split}.png", "{split}/1st_manual/{case}_manual1.png"
    dataset = open_dataset(tmp_path, layout="pattern", image=image, label=label)
    assert [case.id for case in dataset.cases] == ["21", "22"]
    assert [case.id for case in dataset.test_cases] == ["01"]
    assert dataset.test_cases[0].label == tmp_path / "test" / "1st_manual" / "01_manual1.png"
