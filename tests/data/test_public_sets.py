"""Public data sets in miniature, with the folder structure of their downloads: opened, checked and read."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from miniatures import NEEDED, options, write

from segment.data import open_dataset
from segment.data.check import check_dataset
from segment.data.images import read_image, read_label
from segment.data.splits import folds
from segment.errors import UserError

# What each must come out as: cases, files and channels of the first, and its labels in their order.
WANTED = {
    "btcv": (["0001", "0002", "0003"], ["img/img0001.nii.gz"], 1, 14),
    "acdc": (
        [f"patient00{n}_frame{frame}" for n in (1, 2, 3) for frame in ("01", "12")],
        ["patient001/patient001_frame01.nii.gz"],
        1,
        4,
    ),
    "lits": (["0", "10", "2"], ["volume-0.nii"], 1, 3),
    "brats2018": (
        ["Brats18_A_1", "Brats18_B_1", "Brats18_C_1"],
        [f"HGG/Brats18_A_1/Brats18_A_1_{channel}.nii.gz" for channel in ("t1", "t1ce", "t2", "flair")],
        4,
        4,
    ),
    "brats2021": (
        ["BraTS2021_00000", "BraTS2021_00002", "BraTS2021_00003"],
        [f"BraTS2021_00000/BraTS2021_00000_{channel}.nii.gz" for channel in ("t1", "t1ce", "t2", "flair")],
        4,
        4,
    ),
    "kits": (["case_00000", "case_00001", "case_00002"], ["case_00000/imaging.nii.gz"], 1, 4),
    "amos": (["amos_0001", "amos_0004", "amos_0008"], ["imagesTr/amos_0001.nii.gz"], 1, 16),
    "promise12": (["Case00", "Case01", "Case02"], ["Case00.mha"], 1, 2),
    "spleen": (["spleen_10", "spleen_2", "spleen_3"], ["imagesTr/spleen_10.nii.gz"], 1, 2),
    "prostate": (["prostate_00", "prostate_01", "prostate_02"], ["imagesTr/prostate_00.nii.gz"], 2, 3),
    "nuclei": (["a", "b", "c"], ["images/a.png"], 3, 2),
    "xenopus_kidney": (["a", "b", "c"], [f"images/a_000{n}.tif" for n in range(3)], 3, 3),
}


@pytest.mark.parametrize("name", WANTED)
def test_a_public_data_set_is_read_as_it_is_downloaded(tmp_path, name):
    cases, files, channels, classes = WANTED[name]
    root = write(name, tmp_path)
    checked = check_dataset(partial(_open, name, root), root)
    assert [str(problem) for problem in checked.errors] == []
    dataset = checked.dataset
    assert [case.id for case in dataset.cases] == cases
    assert [path.relative_to(root).as_posix() for path in dataset.cases[0].images] == files
    assert (len(dataset.channels), len(dataset.labels)) == (channels, classes)
    shape = (24, 24) if name == "nuclei" else (10, 12, 16)
    for case in dataset.cases:
        assert read_image(case.images).array.shape == (channels, *shape)
        mask = read_label(case.label).array
        assert mask.shape == shape
        assert set(np.unique(dataset.labels.encode(mask))) - {255} == set(range(classes))


def test_every_data_set_that_needs_a_download_has_a_miniature():
    assert set(WANTED) <= set(NEEDED)


def test_scans_without_a_mask_become_test_scans(tmp_path):
    assert [case.id for case in _open("kits", write("kits", tmp_path)).test_cases] == ["case_00009"]
    assert [case.id for case in _open("amos", write("amos", tmp_path)).test_cases] == ["amos_0050"]


def test_both_phases_of_a_patient_stay_in_one_fold(tmp_path):
    dataset = _open("acdc", write("acdc", tmp_path))
    for fold in folds(dataset):
        assert {name[:10] for name in fold["train"]}.isdisjoint(name[:10] for name in fold["val"])


def test_the_regions_of_brats_are_those_of_the_challenge(tmp_path):
    labels = _open("brats2018", write("brats2018", tmp_path)).labels
    assert labels.structures == {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
    assert labels.region_order == (2, 1, 4)  # oedema, necrosis, enhancing tumour: the values of the challenge's masks


@pytest.mark.parametrize(
    ("image", "label", "said"),
    [
        ("v-{patient}.nii", "s-{case}.nii", r"data\.image=v-\{patient\}\.nii: there is no field \{patient\}"),
        ("volume.nii", "s-{case}.nii", r"data\.image=volume\.nii: has no \{case\}"),
        ("{case}{group}.nii", "s-{case}.nii", "where a name ends"),
        ("{case}*.nii", "s-{case}.nii", "where a name ends"),
        ("../{case}.nii", "s-{case}.nii", "not a path inside"),
        ("/{case}.nii", "s-{case}.nii", "not a path inside"),
        ("volume-{case}.nii", "other-{case}.nii", r"holds no image volume-\{case\}\.nii with a mask other-"),
        ("volume-{case}.nii", None, r"needs the templates data\.image and data\.label"),
    ],
)
def test_templates_that_are_not_sound_are_named(tmp_path, image, label, said):
    root = write("lits", tmp_path)
    with pytest.raises(UserError, match=said):
        open_dataset(root, layout="pattern", image=image, label=label, labels={"a": 1})


def test_templates_belong_to_their_layout(make_dataset, tmp_path):
    root = make_dataset(tmp_path, "msd", n=2, shape=(4, 5, 6))
    with pytest.raises(UserError, match=r"belong to data\.layout=pattern, not to auto"):
        open_dataset(root, image="{case}.nii.gz", label="{case}_seg.nii.gz")


def test_a_mask_without_an_image_and_two_files_of_one_case_are_named(tmp_path):
    root = write("lits", tmp_path)
    (root / "volume-2.nii").rename(root / "kept")
    with pytest.raises(UserError, match=r"segmentation-2\.nii: The case '2' has no image volume-\{case\}\.nii"):
        _open("lits", root)
    (root / "kept").rename(root / "volume-2.nii.copy")
    twice = write("brats2018", tmp_path / "twice")
    (twice / "LGG" / "Brats18_A_1").mkdir()
    for file in (twice / "HGG" / "Brats18_A_1").iterdir():
        (twice / "LGG" / "Brats18_A_1" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match=r"LGG/Brats18_A_1/.*are both data\.label"):
        _open("brats2018", twice)


def test_a_template_with_brackets_and_hidden_files(tmp_path):
    root = write("lits", tmp_path)
    for file in list(root.iterdir()):
        file.rename(root / f"[x]{file.name}")
        (root / f"._{file.name}").write_bytes(b"x")
    found = open_dataset(
        root, layout="pattern", image="[x]volume-{case}.nii", label="[x]seg*-{case}.nii", labels={"a": 1}
    )
    assert [case.id for case in found.cases] == ["0", "10", "2"]


def _open(name: str, root: Path, report=None):
    given = options(name) | {"root": root}
    return open_dataset(**given) if report is None else open_dataset(**given, report=report)
