"""BCCD: real annotations, as LabelImg wrote them."""

import shutil
from collections import Counter

import numpy as np
import pytest

from segment.data import open_dataset
from segment.data.check.dataset import check_dataset
from segment.data.splits import folds
from segment.io.annotations.find import find_annotations
from segment.io.images import read_label

pytestmark = pytest.mark.usefixtures("without_pages")
COUNTS = {"RBC": 4155, "WBC": 372, "Platelets": 361}
LABELS = {"background": 0, "RBC": 1, "WBC": 2, "Platelets": 3}
WITHOUT_AREA = {"BloodImage_00338.xml", "BloodImage_00343.xml"}


def test_all_boxes_of_bccd_are_read_and_two_have_no_area(shared_data):
    found = find_annotations(shared_data("bccd"))
    images = [image for file in found.files for image in found.read(file).images]
    assert (len(images), {image.size for image in images}) == (364, {(640, 480)})
    assert Counter(box.label for image in images for box in image.boxes) == COUNTS
    assert {image.file.name for image in images if image.left_out} == WITHOUT_AREA
    assert sum(len(image.left_out) for image in images) == 2


@pytest.mark.slow
def test_bccd_is_checked_split_as_stated_and_trained_on(shared_data, run_train, tmp_path):
    root, options = shared_data("bccd"), {"labels": LABELS, "boxes": "ellipse", "cache": tmp_path}
    checked = check_dataset(lambda report: open_dataset(root, report=report, **options), root)
    assert [(problem.kind, problem.severity) for problem in checked.problems] == [("shapes", "warning")] * 2
    dataset = checked.dataset
    assert (len(dataset.cases), len(dataset.test_cases)) == (292, 72)
    assert [len(part) for part in folds(dataset)[0].values()] == [205, 87]
    boxes = Counter(box.label for case in (*dataset.cases, *dataset.test_cases) for box in case.boxes)
    assert boxes == COUNTS
    assert "4,155 RBC, 372 WBC, 361 Platelets" in dataset.notice
    case = next(case for case in dataset.cases if case.id == "BloodImage_00001")
    white = next(box for box in case.boxes if box.label == "WBC")
    area = np.pi / 4 * (white.right - white.left) * (white.bottom - white.top)
    assert (read_label(case.label).array == 2).sum() == pytest.approx(area, rel=0.15)  # cells drawn later cover some

    few = tmp_path / "few"
    for folder, end in (("Annotations", "xml"), ("JPEGImages", "jpg")):
        (few / folder).mkdir(parents=True)
        for number in (0, 1, 2, 3, 4):
            shutil.copy(root / folder / f"BloodImage_{number:05d}.{end}", few / folder)
    run = run_train(few, "run", "data.boxes=ellipse", "plan.patch_size=[64,64]", "plan.spacing=[4,4]")
    assert (run / "model" / "weights.safetensors").is_file()
