"""File names as people give them: digits, folders, spreadsheets, lists of MONAI, raters."""

import json

import pytest
from tiny_scans import put_masks, put_scans

from segment.data import open_dataset
from segment.data.check.dataset import check_dataset
from segment.data.problems import WARNING
from segment.data.splits import folds, inner_fold
from segment.errors import UserError


def problems_of(root, **options):
    return check_dataset(lambda report: open_dataset(root, report=report, **options), root).problems


def ids(cases):
    return [case.id for case in cases]


@pytest.mark.parametrize(
    ("training", "masks", "tests", "found"),
    [
        ("s_0001 s_0002", "s_0001 s_0002", "s_0010 s_0011", "s_0010 s_0011"),
        ("s_0001 s_0002", "s_0001 s_0002", "s_0000 s_0001", "s_0000 s_0001"),
        ("a_0000 b_0000", "a b", "c_0000", "c"),
        ("a_0000 a_0001", "a", "c_0000 c_0001", "c"),
    ],
)
def test_four_digits_are_channels_of_test_scans_only_if_they_are_of_training_scans(
    tmp_path, training, masks, tests, found
):
    put_scans(tmp_path, *(f"images/{name}.nii.gz" for name in training.split()))
    put_masks(tmp_path, *(f"labels/{name}.nii.gz" for name in masks.split()))
    put_scans(tmp_path, *(f"imagesTs/{name}.nii.gz" for name in tests.split()))
    dataset = open_dataset(tmp_path)
    assert ids(dataset.cases) == masks.split()
    assert ids(dataset.test_cases) == found.split()
    assert all(len(case.images) == len(dataset.channels) for case in (*dataset.cases, *dataset.test_cases))


def test_a_file_of_an_unread_format_is_named(tmp_path):
    put_scans(tmp_path, "images/a.nii.gz", "images/b.nii.gz")
    put_masks(tmp_path, "labels/a.nii.gz", "labels/b.nii.gz")
    (tmp_path / "images" / "b.nii.gz").rename(tmp_path / "images" / "b.webp")
    with pytest.raises(UserError, match=r"no matching image images/b\.\* \(b\.webp is there, but its format is not"):
        open_dataset(tmp_path)
    templates = {"layout": "pattern", "image": "images/{case}.webp", "label": "labels/{case}.nii.gz"}
    with pytest.raises(UserError, match=r"b\.webp: It fits images/\{case\}\.webp, but its format is not"):
        open_dataset(tmp_path, **templates)


def test_patients_are_recognised_beside_other_folders(tmp_path):
    put_scans(tmp_path, *(f"P{number}/t1.nii.gz" for number in range(3)))
    put_masks(tmp_path, "P1/seg.nii.gz", "P2/seg.nii.gz")
    (tmp_path / "0_docs").mkdir()
    (tmp_path / "0_docs" / "protocol.pdf").touch()
    found = problems_of(tmp_path)
    assert [(problem.file, problem.severity) for problem in found] == [(str(tmp_path / "0_docs"), WARNING)]
    dataset = open_dataset(tmp_path)
    assert (ids(dataset.cases), ids(dataset.test_cases)) == (["P1", "P2"], ["P0"])


def test_an_unknown_layout_is_told_of_patterns(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"data\.layout=pattern data\.image='\{case\}/image\.nii\.gz'"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ("image,label\nP1/img.nii.gz,P1/seg.nii.gz\nP2/img.nii.gz,P2/seg.nii.gz\n", "P1_img P2_img"),
        ("image,label\nP1/img.nii.gz,P1/seg.nii.gz\n", "img"),
        ("image;label;\nP1\\img.nii.gz;P1\\seg.nii.gz;\n;;\nP2\\img.nii.gz;P2\\seg.nii.gz;\n;;\n", "P1_img P2_img"),
        ("sep=;\nid;image;label\na;P1/img.nii.gz;P1/seg.nii.gz\n\n", "a"),
    ],
)
def test_tables_as_excel_and_windows_write_them(tmp_path, rows, found):
    put_scans(tmp_path, "P1/img.nii.gz", "P2/img.nii.gz")
    put_masks(tmp_path, "P1/seg.nii.gz", "P2/seg.nii.gz")
    (tmp_path / "scans.csv").write_text(rows, encoding="utf-8-sig", newline="\r\n")
    assert ids(open_dataset(tmp_path).cases) == found.split()


@pytest.mark.parametrize(("group", "errors"), [("p1,p1", 0), ("p1,p2", 2), (",", 2)])
def test_two_raters_of_a_scan_share_its_image_within_a_group(tmp_path, group, errors):
    put_scans(tmp_path, "a.nii.gz", "b.nii.gz")
    put_masks(tmp_path, "a1.nii.gz", "a2.nii.gz", "b1.nii.gz")
    first, second = group.split(",")
    (tmp_path / "t.csv").write_text(
        f"id,image,label,group\ns1,a.nii.gz,a1.nii.gz,{first}\ns2,a.nii.gz,a2.nii.gz,{second}\nb,b.nii.gz,b1.nii.gz,q\n"
    )
    found = problems_of(tmp_path)
    assert [problem.kind for problem in found] == ["duplicate", "identical"][:errors]
    if not errors:
        assert all(
            {"s1", "s2"} <= {*fold["train"]} or {"s1", "s2"} <= {*fold["val"]} for fold in folds(open_dataset(tmp_path))
        )


def listed(*names, **more):
    return [{"image": f"{name}/img.nii.gz", "label": f"{name}/seg.nii.gz"} | more for name in names]


@pytest.mark.parametrize(
    ("lists", "wanted"),
    [
        ({"training": listed("P0", "P1"), "validation": listed("P2")}, [{"P2_seg"}]),
        (
            {"training": [*listed("P0", fold=0), *listed("P1", fold=1), *listed("P2", fold=1)]},
            [{"P0_seg"}, {"P1_seg", "P2_seg"}],
        ),
        ({"training": [*listed("P0", "P1"), *listed("P2", fold=0)], "testing": ["P3/img.nii.gz"]}, [{"P2_seg"}]),
        ({"training": listed("P0", "P1", "P2", fold=0)}, None),
    ],
)
@pytest.mark.parametrize("name", ["dataset.json", "list_0.json"])
def test_lists_of_monai_state_the_folds(tmp_path, name, lists, wanted):
    put_scans(tmp_path, *(f"P{number}/img.nii.gz" for number in range(4)))
    put_masks(tmp_path, *(f"P{number}/seg.nii.gz" for number in range(4)))
    (tmp_path / name).write_text(json.dumps(lists | {"labels": {"0": "background", "1": "organ"}}))
    dataset = open_dataset(tmp_path if name == "dataset.json" else tmp_path / name)
    assert (dataset.name, ids(dataset.cases)) == (tmp_path.name, ["P0_seg", "P1_seg", "P2_seg"])
    assert ids(dataset.test_cases) == (["img"] if "testing" in lists else [])
    found = folds(dataset, 3)
    assert [set(fold["val"]) for fold in found] == (wanted or [{"P0_seg"}, {"P1_seg"}, {"P2_seg"}])
    assert all({*fold["train"], *fold["val"]} == {"P0_seg", "P1_seg", "P2_seg"} for fold in found)
    if wanted:
        inner = inner_fold(dataset, {"train": ["P0_seg", "P1_seg"], "val": ["P2_seg"]}, 2)
        assert {*inner["train"], *inner["val"]} == {"P0_seg", "P1_seg"}
