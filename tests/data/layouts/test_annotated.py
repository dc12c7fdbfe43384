"""Data sets of annotations: masks, boxes, parts and mistakes."""

import contextlib
import json

import numpy as np
import pytest
from annotated_sets import CELL, DISH, HEIGHT, WIDTH, WRITERS, put_images, voc, write_coco, write_voc

from segment.data import open_dataset
from segment.data.check.dataset import check_dataset
from segment.data.problems import ERROR, WARNING
from segment.data.splits import folds
from segment.errors import UserError
from segment.io.images import read_label

pytestmark = pytest.mark.usefixtures("without_pages")


@pytest.fixture
def opened(tmp_path):
    """``opened(root, **options)`` with masks in a folder of its own."""
    return lambda root, **options: open_dataset(root, cache=tmp_path / "made", **options)


@pytest.fixture
def checked(tmp_path, opened):
    """``checked(root, **options) -> problems`` of the whole check."""
    return lambda root, **options: (
        check_dataset(lambda report: opened(root, report=report, **options), root, tmp_path / "facts").problems
    )


def wanted(values=(1, 2)):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for (x0, y0, x1, y1), value in zip((DISH, CELL), values, strict=True):
        mask[y0:y1, x0:x1] = value
    return mask


@pytest.mark.parametrize("program", WRITERS)
def test_masks_and_boxes_are_those_that_were_drawn(tmp_path, opened, checked, program):
    WRITERS[program](tmp_path / "in", "a", "b", "c")
    dataset = opened(tmp_path / "in")
    values = (2, 1) if program in ("voc", "labelme") else (1, 2)  # by name, or in the order that the file states
    assert {name: dataset.labels[name] for name in ("dish", "cell")} == dict(zip(("dish", "cell"), values, strict=True))
    assert [case.id for case in dataset.cases] == ["a", "b", "c"]
    for case in dataset.cases:
        np.testing.assert_array_equal(read_label(case.label).array, wanted(values))
        assert sorted((box.label, tuple(map(round, box[1:]))) for box in case.boxes) == [("cell", CELL), ("dish", DISH)]
    assert all(f"3 {name}" in dataset.notice for name in ("dish", "cell"))
    # A point of LabelMe is no area.
    assert [problem.kind for problem in checked(tmp_path / "in")] == ["shapes"] * (3 if program == "labelme" else 0)
    given = opened(tmp_path / "in", labels={"background": 9, "dish": 3, "cell": 7})
    mask = wanted((3, 7))
    np.testing.assert_array_equal(read_label(given.cases[0].label).array, np.where(mask, mask, 9))


def test_boxes_can_be_drawn_as_ellipses_and_masks_are_made_once(tmp_path, opened):
    write_voc(tmp_path / "in", "a")
    square = opened(tmp_path / "in").cases[0].label
    before = square.stat().st_mtime_ns
    round_ = opened(tmp_path / "in", boxes="ellipse").cases[0].label
    assert opened(tmp_path / "in").cases[0].label == square != round_
    assert square.stat().st_mtime_ns == before
    mask = read_label(round_).array
    assert mask[DISH[1], DISH[0]] == 0
    assert mask[CELL[1], CELL[0]] == 2  # a corner of the cell's box lies in the dish alone
    assert (mask == 1).sum() == pytest.approx(np.pi * 9, abs=4)
    with pytest.raises(UserError, match=r"data\.boxes=circle"):
        opened(tmp_path / "in", boxes="circle")
    with pytest.raises(UserError, match=r"data\.boxes=ellipse applies to data\.layout=annotated, not to folders"):
        opened(tmp_path / "in", layout="folders", boxes="ellipse")


def test_official_lists_become_the_fold_and_the_test_scans(tmp_path, opened, checked):
    root = tmp_path / "in"
    write_voc(root, *"abcdef")
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for name, listed in {"train": "ab", "val": "c", "trainval": "abc", "test": "de"}.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{one}\n" for one in listed))
    dataset = opened(root)
    assert folds(dataset) == [{"train": ["a", "b"], "val": ["c"]}]
    assert [case.id for case in dataset.test_cases] == ["d", "e"]
    (problem,) = checked(root)
    assert (problem.kind, problem.file, problem.severity) == ("unlisted", str(root / "Annotations" / "f.xml"), WARNING)


def test_folders_called_train_and_val_are_the_parts_and_names_may_repeat(tmp_path, opened):
    for part in ("train", "valid", "test"):
        put_images(tmp_path / part, "a")
        (tmp_path / part / "a.xml").write_text(voc([("cell", CELL)]))
    dataset = opened(tmp_path)
    assert folds(dataset) == [{"train": ["train_a"], "val": ["valid_a"]}]
    assert [case.id for case in dataset.test_cases] == ["test_a"]
    assert [case.images[0].parent.name for case in dataset.cases] == ["train", "valid"]


ENTITY = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'


@pytest.mark.parametrize(
    ("file", "content", "severity", "kind", "said"),
    [
        ("b.xml", voc([("dish", (5, 5, 5, 5))]), WARNING, "shapes", "Object 1, a box of 'dish' at (5, 5), has no area"),
        ("b.xml", voc([("", CELL)]), ERROR, "unreadable", "object 1 has no label"),
        ("b.xml", voc([("cell", (1, 2, "x", 4))]), ERROR, "unreadable", "'x' is not a coordinate"),
        ("b.xml", voc([("cell", (1, 2, 1e300, 4))]), ERROR, "unreadable", "impossible coordinate"),
        ("b.xml", "<annotation><object>", ERROR, "unreadable", "not valid XML"),
        ("b.xml", ENTITY, ERROR, "unreadable", "defines entities"),
        ("b.xml", voc([("cell", CELL)], width=99), ERROR, "grid", "drawn on 99 x 16 pixels"),
        ("b.xml", None, WARNING, "unlisted", "1 of 3 images have no annotation"),
        ("b.png", None, ERROR, "missing", "Its image 'b' is not there"),
    ],
)
def test_mistakes_are_named_and_the_rest_is_read(tmp_path, checked, file, content, severity, kind, said):
    root = tmp_path / "in"
    write_voc(root, "a", "b", "c")
    (path,) = root.rglob(file)
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    problem, *others = checked(root)
    assert (problem.severity, problem.kind) == (severity, kind)
    assert said in str(problem)
    assert [other.kind for other in others] == (["empty"] if kind == "shapes" else [])


def test_objects_called_background_cut_something_out(tmp_path, opened):
    write_voc(tmp_path / "in", "a", boxes=(("dish", DISH), ("_background_", CELL)))
    dataset = opened(tmp_path / "in")
    assert dict(dataset.labels) == {"background": 0, "dish": 1}
    np.testing.assert_array_equal(read_label(dataset.cases[0].label).array, wanted((1, 0)))


def test_labels_that_are_not_declared_are_left_out_and_named(tmp_path, opened, checked):
    write_voc(tmp_path / "in", "a", "b")
    labels = {"background": 0, "cell": 5, "cel": 6}
    misspelt, left_out, *_ = checked(tmp_path / "in", labels=labels)
    assert left_out.what.startswith("Objects labelled 'dish' are left out (2, the first here)")
    assert misspelt.what == "No object is labelled 'cel'; there are cell, dish."
    dataset = opened(tmp_path / "in", labels=labels)
    assert dataset.notice.startswith("Masks are drawn from annotations (2 cell): boxes,")
    mask = read_label(dataset.cases[0].label).array
    assert sorted(np.unique(mask)) == [0, 5]


def test_numbers_of_cocos_categories_are_the_values_if_they_fit(tmp_path, opened):
    write_coco(tmp_path / "fits", "a", categories={7: "dish", 3: "cell"})
    assert dict(opened(tmp_path / "fits").labels) == {"background": 0, "cell": 3, "dish": 7}
    write_coco(tmp_path / "not", "a", categories={0: "dish", 900: "cell"})
    assert dict(opened(tmp_path / "not").labels) == {"background": 0, "dish": 1, "cell": 2}


@pytest.mark.parametrize("program", WRITERS)
def test_damaged_files_are_never_a_traceback(tmp_path, opened, program):
    WRITERS[program](tmp_path / "in", "a")
    (path,) = [
        path for path in (tmp_path / "in").rglob("*") if path.suffix in (".xml", ".json") or path.name == "a.txt"
    ]
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(25):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 4):
            damaged[place] = rng.choice(list(b'0]}<"[,-9e{\x00'))
        path.write_bytes(damaged[: rng.integers(1, len(damaged))] if rng.random() < 0.2 else damaged)
        with contextlib.suppress(UserError):
            opened(tmp_path / "in", layout="annotated", report=lambda problem: None)


def test_a_network_is_trained_on_annotations(tmp_path, run_train):
    root = tmp_path / "in"
    write_voc(root, *"abcd")
    run = run_train(root, "run", "data.boxes=ellipse", "plan.patch_size=[16,16]", "folds=2")
    record = json.loads((run / "provenance.json").read_text())
    sources = {path for case in record["cases"].values() for path in case["sha256"]}
    assert str(root / "Annotations" / "a.xml") in sources
    assert record["notice"].startswith("Masks are drawn from annotations (4 dish, 4 cell): boxes as ellipses")
    assert {row.split(",")[4] for row in (run / "scans.csv").read_text().splitlines()[1:]} == {"cell", "dish"}
    assert not list(root.rglob("*.nii.gz"))
