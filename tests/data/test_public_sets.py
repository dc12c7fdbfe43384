"""Public data sets in miniature, with the folder structure of their downloads: opened, checked and read."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from miniatures import CONF, FLAT, NEEDED, options, write
from PIL import Image

from segment.data import open_dataset
from segment.data.check.dataset import check_dataset
from segment.data.splits import folds
from segment.errors import UserError
from segment.io.images import read_image, read_label

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
    "dsb2018": (["a", "b", "c"], ["images/a.png"], 3, 2),
    "drive": (["01_test", "21_training", "22_training"], ["images/01_test.png"], 3, 2),
    "chase_db1": (["Image_01L", "Image_01R", "Image_02L"], ["images/Image_01L.png"], 3, 2),
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
    shape = (24, 24) if name in FLAT else (10, 12, 16)
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
        ("v-{patient}.nii", "s-{case}.nii", r"data\.image=v-\{patient\}\.nii: unknown field \{patient\}"),
        ("volume.nii", "s-{case}.nii", r"data\.image=volume\.nii: \{case\} is missing"),
        ("{case}{group}.nii", "s-{case}.nii", "adjacent wildcards"),
        ("{case}*.nii", "s-{case}.nii", "adjacent wildcards"),
        ("../{case}.nii", "s-{case}.nii", "not a path inside"),
        ("/{case}.nii", "s-{case}.nii", "not a path inside"),
        ("volume-{case}.nii", "other-{case}.nii", r"contains no image volume-\{case\}\.nii with a mask other-"),
        ("volume-{case}.nii", None, r"the templates data\.image and data\.label are required"),
    ],
)
def test_invalid_templates_are_named(tmp_path, image, label, said):
    root = write("lits", tmp_path)
    with pytest.raises(UserError, match=said):
        open_dataset(root, layout="pattern", image=image, label=label, labels={"a": 1})


def test_templates_belong_to_their_layout(make_dataset, tmp_path):
    root = make_dataset(tmp_path, "msd", n=2, shape=(4, 5, 6))
    with pytest.raises(UserError, match=r"apply to data\.layout=pattern, not to auto"):
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


def test_a_mask_is_no_image_where_both_templates_fit_it(tmp_path):
    root = write("kits", tmp_path)
    given = {"image": "{case}/*.nii.gz", "label": "{case}/segmentation.nii.gz", "labels": {"a": 1}}
    found = open_dataset(root, layout="pattern", **given)
    assert [path.name for case in found.cases for path in case.images] == ["imaging.nii.gz"] * 3


def test_repeated_fields_must_match_and_hidden_folders_are_skipped(tmp_path):
    root = write("brats2018", tmp_path)
    shutil.copy(root / "LGG/Brats18_C_1/Brats18_C_1_t1.nii.gz", root / "LGG/Brats18_C_1/another_t1.nii.gz")
    shutil.copytree(root / "HGG", root / ".copy")
    assert len(_open("brats2018", root).cases) == 3


def test_a_template_with_brackets(tmp_path):
    root = write("lits", tmp_path)
    for file in list(root.iterdir()):
        file.rename(root / f"[x]{file.name}")
    found = open_dataset(
        root, layout="pattern", image="[x]volume-{case}.nii", label="[x]seg*-{case}.nii", labels={"a": 1}
    )
    assert [case.id for case in found.cases] == ["0", "10", "2"]


def conversion(number: int) -> str:
    """The lines of data/README.md under ``# NUMBER``."""
    text = (Path(__file__).parents[2] / "data" / "README.md").read_text(encoding="utf-8")
    block = text.partition("```python\n")[2].partition("```")[0]
    return re.split(r"^# \d .*$", block, flags=re.MULTILINE)[number]


def test_the_conversion_of_promise12_joins_header_and_voxels(tmp_path, monkeypatch):
    voxels = np.arange(10 * 12 * 16).reshape(10, 12, 16)
    for case in ("Case00", "Case01"):
        for name, array in ((case, voxels.astype(np.int16)), (f"{case}_segmentation", (voxels > 900).astype(np.uint8))):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.mhd"))
    monkeypatch.chdir(tmp_path)
    exec(conversion(1), {})
    dataset = _open("promise12", tmp_path)
    assert [case.id for case in dataset.cases] == ["Case00", "Case01"]
    np.testing.assert_array_equal(read_image(dataset.cases[1].images).array[0], voxels)
    assert read_label(dataset.cases[1].label).array.sum() == (voxels > 900).sum()


@pytest.mark.parametrize("name", ["phc_u373", "dic_hela"])
def test_the_conversion_of_the_cell_tracking_challenge_joins_the_cells(tmp_path, monkeypatch, name):
    cells = np.zeros((24, 24), np.uint16)
    cells[2:6], cells[10:12] = 1, 300
    for film in ("01", "02"):
        (tmp_path / f"{film}_GT" / "SEG").mkdir(parents=True)
        (tmp_path / film).mkdir()
        for frame in ("000", "007"):
            Image.fromarray(cells.astype(np.uint8)).save(tmp_path / film / f"t{frame}.tif")
        Image.fromarray(cells).save(tmp_path / f"{film}_GT" / "SEG" / "man_seg007.tif")
    monkeypatch.chdir(tmp_path)
    exec(conversion(2), {})
    dataset = _open(name, tmp_path)
    assert [case.id for case in dataset.cases] == ["01_t007", "02_t007"]
    np.testing.assert_array_equal(read_label(dataset.cases[0].label).array, cells > 0)


def test_the_conversion_of_the_data_science_bowl_joins_the_nuclei(tmp_path, monkeypatch):
    for case in ("a", "b"):
        for part in ("images", "masks"):
            (tmp_path / "stage1_train" / case / part).mkdir(parents=True)
        Image.new("RGBA", (24, 20), (9, 8, 7, 255)).save(tmp_path / "stage1_train" / case / "images" / f"{case}.png")
        for number, row in enumerate((3, 9)):
            mask = np.zeros((20, 24), np.uint8)
            mask[row] = 255
            Image.fromarray(mask).save(tmp_path / "stage1_train" / case / "masks" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    exec(conversion(3), {})
    dataset = _open("dsb2018", tmp_path)
    assert read_image(dataset.cases[0].images).array[:, 0, 0].tolist() == [9, 8, 7]
    assert np.flatnonzero(read_label(dataset.cases[1].label).array.any(axis=1)).tolist() == [3, 9]


def retina(shape, seed):
    """A photograph that is bright within a circle, the circle, and vessels, two of them outside it."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    inside = (rows - shape[0] / 2) ** 2 + (columns - shape[1] / 2) ** 2 < (0.45 * min(shape)) ** 2
    random = np.random.default_rng(seed)
    photo = np.where(inside[..., None], random.integers(90, 200, (*shape, 3)), random.integers(0, 6, (*shape, 3)))
    photo[shape[0] // 2 - 9 : shape[0] // 2 - 5, shape[1] // 2] = 3  # a dark spot inside
    vessels = np.zeros(shape, bool)
    vessels[shape[0] // 2] = inside[shape[0] // 2]
    return Image.fromarray(photo.astype(np.uint8)), inside, vessels


def check_retina(name, root, cases, inside, vessels):
    dataset = _open(name, root)
    assert [case.id for case in dataset.cases] == cases
    assert read_image(dataset.cases[0].images).array.shape == (3, *inside.shape)
    np.testing.assert_array_equal(read_label(dataset.cases[0].label).array, np.where(inside, vessels, 2))


def test_the_conversion_of_drive_joins_vessels_and_field_of_view(tmp_path, monkeypatch):
    for part, number in (("training", "21"), ("training", "22"), ("test", "01")):
        for folder in ("images", "1st_manual", "mask"):
            (tmp_path / part / folder).mkdir(parents=True, exist_ok=True)
        photo, inside, vessels = retina((584, 565), 0)
        photo.save(tmp_path / part / "images" / f"{number}_{part}.tif")
        Image.fromarray(vessels).convert("L").save(tmp_path / part / "1st_manual" / f"{number}_manual1.gif")
        Image.fromarray(inside).convert("P").save(tmp_path / part / "mask" / f"{number}_{part}_mask.gif")
    # The masks of the download are read as they are, too.
    assert set(np.unique(read_label(tmp_path / "training" / "mask" / "21_training_mask.gif").array)) == {0, 255}
    monkeypatch.chdir(tmp_path)
    exec(conversion(5), {})
    check_retina("drive", tmp_path, ["01_test", "21_training", "22_training"], inside, vessels)


def test_the_conversion_of_stare_finds_the_dark_border(tmp_path, monkeypatch):
    for case in ("im0001", "im0324"):
        photo, inside, vessels = retina((605, 700), 1)
        photo.save(tmp_path / f"{case}.ppm")
        Image.fromarray(vessels).convert("L").save(tmp_path / f"{case}.ah.ppm")
    monkeypatch.chdir(tmp_path)
    exec(conversion(6), {})
    check_retina("stare", tmp_path, ["im0001", "im0324"], inside, vessels)


def test_the_conversion_of_chase_finds_the_dark_border(tmp_path, monkeypatch):
    for case in ("Image_01L", "Image_01R"):
        photo, inside, vessels = retina((96, 100), 2)
        photo.save(tmp_path / f"{case}.jpg", quality=100, subsampling=0)
        Image.fromarray(vessels).save(tmp_path / f"{case}_1stHO.png")
    monkeypatch.chdir(tmp_path)
    exec(conversion(7), {})
    check_retina("chase_db1", tmp_path, ["Image_01L", "Image_01R"], inside, vessels)
    assert _open("chase_db1", tmp_path).groups() == {"Image_01L": "01", "Image_01R": "01"}


def test_the_official_split_of_drive_is_that_of_its_names(tmp_path):
    (fold,) = json.loads((CONF.parents[1] / "experiments" / "r2unet2018" / "splits.json").read_text())
    assert fold["train"] == [f"{number}_training" for number in range(21, 41)]
    assert fold["val"] == [f"{number:02d}_test" for number in range(1, 21)]


def _open(name: str, root: Path, report=None):
    given = options(name) | {"root": root}
    return open_dataset(**given) if report is None else open_dataset(**given, report=report)
