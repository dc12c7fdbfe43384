import json
import shutil

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from segment.data import open_dataset
from segment.errors import UserError
from segment.io.images import read_image, read_label

LAYOUTS = ["msd", "nnunet", "folders", "table"]


def edit(root, **changes):
    path = root / "dataset.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize(("shape", "channels"), [((4, 6, 5), 2), ((16, 16), 1)])
def test_every_layout_is_recognised_and_read(make_dataset, tmp_path, layout, given, shape, channels):
    root = make_dataset(tmp_path / "mine", layout, n=3, shape=shape, channels=channels)
    dataset = open_dataset(root, layout=layout if given else "auto")
    assert dataset.name == "mine"
    assert [case.id for case in dataset.cases] == ["case_a00", "case_b01", "case_c02"]
    assert all(len(case.images) == channels for case in dataset.cases)
    assert list(dataset.labels.values()) == [0, 1, 2]
    assert dataset.labels["background"] == 0
    assert len(dataset.channels) == channels
    case = dataset.cases[1]
    assert read_image(case.images).array.shape == (channels, *shape)
    assert set(np.unique(read_label(case.label).array)) == {0, 1, 2}
    np.testing.assert_allclose(  # image and mask are of the same scan: the inner ball is the brighter
        read_image(case.images).array[0][read_label(case.label).array == 2].mean(), 120, atol=5
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_labels_and_channels_of_the_user_take_precedence(make_dataset, tmp_path, layout):
    root = make_dataset(tmp_path, layout, n=2, shape=(4, 5, 6), channels=2)
    dataset = open_dataset(root, labels={"rim": 1, "core": 2}, channels=["T1", "T2"], name="x", notice="n", licence="l")
    assert dict(dataset.labels) == {"background": 0, "rim": 1, "core": 2}
    assert dataset.channels == ("T1", "T2")
    assert (dataset.name, dataset.notice, dataset.licence) == ("x", "n", "l")


def test_configuration_objects_are_taken_as_mappings_and_lists(make_dataset, tmp_path):
    root = make_dataset(tmp_path, "folders", n=2, shape=(4, 5, 6))
    options = OmegaConf.create(
        {"labels": {"background": 0, "a": 1, "b": 2}, "channels": ["T1"], "source": {"licence": "x"}}
    )
    dataset = open_dataset(root, **{key: options[key] for key in options})
    assert (dataset.labels, dataset.channels, dataset.licence) == ({"background": 0, "a": 1, "b": 2}, ("T1",), "x")
    regions = OmegaConf.create({"background": 0, "a": [1, 2], "b": [2]})
    assert open_dataset(root, labels=regions).labels.declared == {"background": 0, "a": [1, 2], "b": [2]}
    assert open_dataset(root, labels=regions, region_order=[2, 1]).labels.region_order == (2, 1)
    with pytest.raises(UserError, match=r"data\.labels: region order \[1\] must give one"):
        open_dataset(root, labels=regions, region_order=[1])


def test_names_come_from_dataset_json_or_the_values_found(make_dataset, tmp_path):
    for layout in ("msd", "nnunet"):
        dataset = open_dataset(make_dataset(tmp_path / layout, layout, n=2, shape=(4, 5, 6)))
        assert dict(dataset.labels) == {"background": 0, "ball_1": 1, "ball_2": 2}
        assert dataset.channels == ("channel_0",)
    dataset = open_dataset(make_dataset(tmp_path / "folders", "folders", n=2, shape=(4, 5, 6)))
    assert dict(dataset.labels) == {"background": 0, "label_1": 1, "label_2": 2}
    assert dataset.channels == ("image",)


def test_no_voxel_is_read_when_labels_are_known(make_dataset, tmp_path):
    for layout in LAYOUTS:
        root = make_dataset(tmp_path / layout, layout, n=2, shape=(4, 5, 6))
        for path in root.rglob("case_*.nii.gz"):
            path.write_bytes(b"no image at all")
        assert len(open_dataset(root, labels={"a": 1}, channels=["c"]).cases) == 2


def test_a_mask_with_white_background(tmp_path):
    mask = np.full((6, 6), 255, np.uint8)
    mask[2] = 0
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        Image.fromarray(mask).save(tmp_path / folder / "0.png")
    dataset = open_dataset(tmp_path, labels={"background": 255, "membrane": 0})
    assert [*dataset.labels] == ["background", "membrane"]
    assert dataset.labels.encode(read_label(dataset.cases[0].label).array).sum() == 6


def test_a_missing_root_says_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"gone does not exist.*Set data\.root"):
        open_dataset(tmp_path / "gone")
    source = {"url": "https://example.org/a.tar", "md5": "0", "licence": "CC0"}
    with pytest.raises(UserError, match=r"gone does not exist.*licence: CC0.*segment fetch data=heart"):
        open_dataset(tmp_path / "gone", name="heart", source=source)


def test_the_licence_is_the_users_or_the_sources_or_the_data_sets_own(make_dataset, tmp_path):
    root = make_dataset(tmp_path, "msd", n=2, shape=(4, 5, 6))
    assert open_dataset(root).licence == "none"
    assert open_dataset(root, source={"licence": "CC0"}).licence == "CC0"


def test_error_for_an_unknown_layout_lists_what_was_searched(tmp_path):
    with pytest.raises(UserError, match="is empty"):
        open_dataset(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"not recognised\. Looked for: dataset\.json.*CSV.*images/ and labels/"):
        open_dataset(tmp_path)
    with pytest.raises(UserError, match="Did you mean 'folders'"):
        open_dataset(tmp_path, layout="folder")
    for layout in LAYOUTS[2:]:
        with pytest.raises(UserError, match=tmp_path.name):
            open_dataset(tmp_path, layout=layout)


@pytest.mark.parametrize("layout", ["msd", "nnunet", "table"])
@pytest.mark.parametrize("part", ["images", "labels"])
def test_a_missing_file_is_named_with_its_case(make_dataset, tmp_path, layout, part):
    root = make_dataset(tmp_path, layout, n=3, shape=(4, 5, 6), channels=2)
    victim = sorted((root / f"{part}Tr").iterdir())[-1]
    victim.unlink()
    with pytest.raises(UserError, match=f"case_c02.*{victim.name}"):
        open_dataset(root)


def test_images_without_a_mask_and_masks_without_an_image_are_named(make_dataset, tmp_path):
    root = make_dataset(tmp_path, "folders", n=3, shape=(4, 5, 6), channels=2)
    gone = root / "images" / "case_b01_0000.nii.gz"
    gone.rename(root / "kept")
    with pytest.raises(UserError, match="'case_b01' has the channels"):
        open_dataset(root)
    (root / "images" / "case_b01_0001.nii.gz").unlink()
    with pytest.raises(UserError, match=r"labels/case_b01\.nii\.gz: The mask has no matching image"):
        open_dataset(root)
    (root / "labels" / "case_b01.nii.gz").unlink()
    assert len(open_dataset(root).cases) == 2
    (root / "labels" / "case_a00.nii.gz").unlink()
    with pytest.raises(UserError, match=r"case_a00_0000\.nii\.gz: The image has no matching mask labels/case_a00"):
        open_dataset(root)


def test_file_name_ending_in_digits_is_a_case_if_a_mask_has_it(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for name in ("scan_0001", "scan_0002"):
            Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / folder / f"{name}.png")
    assert [case.id for case in open_dataset(tmp_path).cases] == ["scan_0001", "scan_0002"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_macos_side_files_are_left_out(make_dataset, tmp_path, layout):
    root = make_dataset(tmp_path, layout, n=2, shape=(4, 5, 6))
    for path in [*root.rglob("*.nii.gz"), *root.glob("*.csv")]:
        (path.parent / f"._{path.name}").write_bytes(b"x")
    if layout == "msd":
        listed = json.loads((root / "dataset.json").read_text())["training"]
        edit(root, training=[*listed, {"image": "./imagesTr/._case.nii.gz", "label": "./labelsTr/._case.nii.gz"}])
    assert len(open_dataset(root).cases) == 2


@pytest.mark.parametrize("layout", ["msd", "nnunet", "folders"])
def test_test_images_become_test_cases(make_dataset, tmp_path, layout):
    root = make_dataset(tmp_path, layout, n=2, shape=(4, 5, 6))
    train = "images" if layout == "folders" else "imagesTr"
    (root / "imagesTs").mkdir()
    shutil.copy(root / train / "case_a00_0000.nii.gz", root / "imagesTs" / "new_0000.nii.gz")
    if layout == "msd":
        edit(root, test=["./imagesTs/new_0000.nii.gz"])
    tests = open_dataset(root).test_cases
    assert [(case.id.removesuffix("_0000"), case.label) for case in tests] == [("new", None)]
    assert tests[0].images[0].is_file()


def test_msd_test_images_may_be_missing_all_together_but_not_in_part(make_dataset, tmp_path):
    root = make_dataset(tmp_path, "msd", n=2, shape=(4, 5, 6))
    edit(root, test=["./imagesTs/new.nii.gz"])
    assert open_dataset(root).test_cases == ()
    (root / "imagesTs").mkdir()
    with pytest.raises(UserError, match=r"'new' uses .*new\.nii\.gz, which does not exist"):
        open_dataset(root)


@pytest.mark.parametrize(
    "path", ["../x.nii.gz", "a/../../x.nii.gz", "/etc/x.nii.gz", "..\\x.nii.gz", "C:\\x.nii.gz", "", 3]
)
def test_a_dataset_json_may_not_name_files_outside(make_dataset, tmp_path, path):
    root = make_dataset(tmp_path / "in", "msd", n=2, shape=(4, 5, 6))
    shutil.copy(root / "labelsTr" / "case_a00.nii.gz", tmp_path / "x.nii.gz")
    edit(root, training=[{"image": path, "label": "./labelsTr/case_a00.nii.gz"}])
    with pytest.raises(UserError, match="not a path inside"):
        open_dataset(root)
    nnunet = make_dataset(tmp_path / "nn", "nnunet", n=2, shape=(4, 5, 6))
    edit(nnunet, dataset={"a": {"images": [path], "label": "labelsTr/case_a00.nii.gz"}}, numTraining=1)
    with pytest.raises(UserError, match="not a path inside"):
        open_dataset(nnunet)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"background": 0, "whole": [1, 2], "core": [1, 2]}, "region 'whole': 0 of its values"),
        ({"background": 0, "a": 1, "b": 1}, "two labels share a value"),
        ({"background": 0, "a": 1.5}, "not an integer"),
        ({"background": 0, "a": True}, "not an integer"),
        ({"background": 0, "a": 1, "ignore": [2, 3]}, "ignore"),
        ({"background": 0}, "the only label is the background"),
        ([1, 2], "must map names"),
        (None, "must map names"),
    ],
)
def test_invalid_labels_are_named(make_dataset, tmp_path, labels, said):
    root = make_dataset(tmp_path, "nnunet", n=2, shape=(4, 5, 6))
    edit(root, labels=labels)
    with pytest.raises(UserError, match=f"dataset.json: .*{said}"):
        open_dataset(root)


def test_regions_and_the_ignore_label_are_read_as_nnunet_writes_them(make_dataset, tmp_path):
    root = make_dataset(tmp_path, "nnunet", n=2, shape=(4, 5, 6))
    edit(root, labels={"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, regions_class_order=[1, 2])
    labels = open_dataset(root).labels
    assert labels.structures == {"whole": (1, 2), "core": (2,)}
    assert (labels.region_order, labels.ignore) == ((1, 2), 3)


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ({"0": "Background", "1": "a"}, {"background": 0, "a": 1}),
        ({"0": "unlabelled", "2": "b", "1": "a"}, {"unlabelled": 0, "a": 1, "b": 2}),
        ({"1": "a"}, {"background": 0, "a": 1}),
        ({"a": 0, "background": 255}, {"background": 255, "a": 0}),
        ({"background": "0", "a": "4"}, {"background": 0, "a": 4}),
    ],
)
def test_labels_of_both_spellings(make_dataset, tmp_path, labels, wanted):
    root = make_dataset(tmp_path, "msd", n=2, shape=(4, 5, 6))
    edit(root, labels=labels)
    assert list(open_dataset(root).labels.items()) == list(wanted.items())


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_a_broken_dataset_json_is_named(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=r"dataset\.json"):
        open_dataset(tmp_path)


def test_nnunet_counts_its_cases_and_checks_its_ending(make_dataset, tmp_path):
    root = make_dataset(tmp_path, "nnunet", n=2, shape=(4, 5, 6))
    edit(root, numTraining=3)
    with pytest.raises(UserError, match="declares 3 training cases, but 2 were found"):
        open_dataset(root)
    edit(root, file_ending=".nii.g")
    with pytest.raises(UserError, match=r"Did you mean '\.nii\.gz'"):
        open_dataset(root)


def test_nnunets_first_version_lists_names_without_the_channel(make_dataset, tmp_path):
    root = make_dataset(tmp_path, "msd", n=1, shape=(4, 5, 6), channels=2)
    edit(root, training=[{"image": "./imagesTr/case_a00.nii.gz", "label": "./labelsTr/case_a00.nii.gz"}])
    case = open_dataset(root).cases[0]
    assert (case.id, [path.name for path in case.images]) == (
        "case_a00",
        ["case_a00_0000.nii.gz", "case_a00_0001.nii.gz"],
    )


def test_a_table_holds_groups_splits_and_absolute_paths(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "a", "table", n=3, shape=(4, 5, 6))
    far = tmp_path / "far" / "scan.nii.gz"
    far.parent.mkdir()
    shutil.copy(root / "imagesTr" / "case_c02_0000.nii.gz", far)
    (root / "scans.csv").write_text(
        "id;image;label;group;split;age\n"
        "one;imagesTr/case_a00_0000.nii.gz;labelsTr/case_a00.nii.gz;p1;;50\n"
        "two;imagesTr/case_b01_0000.nii.gz;labelsTr/case_b01.nii.gz;p1;train;50\n"
        f"three;{far};;;test;60\n",
        encoding="utf-8-sig",
    )
    for root_or_file in (root, root / "scans.csv"):
        dataset = open_dataset(root_or_file)
        assert dataset.name == "a"
        assert [(case.id, case.group) for case in dataset.cases] == [("one", "p1"), ("two", "p1")]
        assert [(case.id, case.images, case.label) for case in dataset.test_cases] == [("three", (far,), None)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,image,lable\n", "no column 'label'; its columns are id, image, lable"),
        ("id,label\n", "no column 'image'"),
        ("image,label\na.png\n", "line 2: The row does not have as many cells"),
        ("image,label\n,b.png\n", "line 2: the cell 'image' is empty"),
        ("image,label\na.png,\n", "line 2: a training scan needs a label"),
        ("image,label,split\na.png,b.png,tset\n", "line 2: split 'tset' is neither.*Did you mean 'test'"),
        ("image,label\na.png,b.png\n", "case 'a' uses .*a.png, which does not exist"),
        ("id,image,label\n../a,a.png,b.png\n", "cannot be the name of a case"),
        ("id,image,label\na,scans.csv,scans.csv\na,scans.csv,scans.csv\n", "Two cases are called 'a'"),
        ("image,label\n", "lists no training scan"),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path, text, said):
    (tmp_path / "scans.csv").write_text(text)
    with pytest.raises(UserError, match=f"scans.csv.*{said}"):
        open_dataset(tmp_path, labels={"a": 1})


def test_one_folder_per_patient(make_dataset, tmp_path):
    source = make_dataset(tmp_path / "source", "folders", n=3, shape=(4, 5, 6), channels=2)
    root = tmp_path / "brats"
    for case in ("case_a00", "case_b01", "case_c02"):
        (root / case).mkdir(parents=True)
        for channel, name in enumerate(("t1", "flair")):
            shutil.copy(source / "images" / f"{case}_000{channel}.nii.gz", root / case / f"{case}_{name}.nii.gz")
        shutil.copy(source / "labels" / f"{case}.nii.gz", root / case / f"{case}_seg.nii.gz")
    dataset = open_dataset(root)
    assert dataset.channels == ("flair", "t1")
    assert [path.name for path in dataset.cases[0].images] == ["case_a00_flair.nii.gz", "case_a00_t1.nii.gz"]
    assert [case.label.name for case in dataset.cases][2] == "case_c02_seg.nii.gz"
    assert open_dataset(root, channels=["t1"]).cases[0].images == (root / "case_a00" / "case_a00_t1.nii.gz",)
    (root / "case_b01" / "case_b01_t1.nii.gz").unlink()
    with pytest.raises(UserError, match="case_b01: The folder has the images"):
        open_dataset(root)


def test_masks_with_too_many_values_or_none_are_refused(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / folder / "a.png")
    with pytest.raises(UserError, match=r"a\.png: .* more than 254 values"):
        open_dataset(tmp_path)
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "labels" / "a.png")
    with pytest.raises(UserError, match="contain only 0"):
        open_dataset(tmp_path)


def test_the_real_hippocampus_is_read(shared_data):
    dataset = open_dataset(shared_data("Task04_Hippocampus"))
    assert len(dataset.cases) == 260
    assert dict(dataset.labels) == {"background": 0, "Anterior": 1, "Posterior": 2}
    assert dataset.channels == ("MRI",)


def test_the_real_em_slices_are_read(shared_data):
    dataset = open_dataset(shared_data("isbi2012_em"), labels={"background": 255, "membrane": 0})
    assert len(dataset.cases) == 30
    shares = [dataset.labels.encode(read_label(case.label).array).mean() for case in dataset.cases[:3]]
    assert all(0.15 < share < 0.3 for share in shares)  # membrane is the lesser part
    case = dataset.cases[0]
    dark, bright = (
        read_image(case.images).array[0][read_label(case.label).array == value].mean() for value in (0, 255)
    )
    assert dark < bright - 30
