import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segment.data.labels import Labels
from segment.errors import UserError
from segment.evaluation.match import discover_labels, pair_folders
from segment.evaluation.score import score_pairs
from segment.runs.columns import COLUMNS, VOLUMES
from segment.runs.scans import mean_over_folds, parted, read_scans, scan_rows, write_scans

HEADER = "case,split,fold,label,name,dice,iou,reference_voxels,predicted_voxels,status"
LABELS = {"background": 0, "a": 1, "b": 2}


def save(path, mask, spacing=(1, 1, 1)):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(mask, np.uint8), np.diag([*spacing, 1.0])), path)
    return path


def mask(*values):
    array = np.zeros((3, 4, 5), np.uint8)
    array.ravel()[: len(values)] = values
    return array


@pytest.fixture
def pairs(tmp_path):
    masks = {"s2": (mask(1, 1, 2), mask(1, 1, 2)), "s1": (mask(1), mask(1, 1, 2)), "s3": (mask(2), mask())}
    for name, (prediction, reference) in masks.items():
        save(tmp_path / "predictions" / f"{name}.nii.gz", prediction, (1, 2, 3))
        save(tmp_path / "references" / f"{name}.nii.gz", reference, (1, 2, 3))
    return pair_folders(tmp_path / "predictions", tmp_path / "references")


def test_each_scan_and_label_has_one_row(pairs):
    scans = score_pairs(pairs, Labels(LABELS), "val", 3)
    assert tuple(scans.columns) == (*COLUMNS, *VOLUMES)
    assert tuple(HEADER.split(",")) == COLUMNS
    np.testing.assert_allclose(scans["reference_ml"], [0.012, 0.006, 0.012, 0.006, 0, 0])  # voxels of 1 x 2 x 3 mm
    np.testing.assert_allclose(scans["predicted_ml"], scans["predicted_voxels"] * 0.006)
    assert scans[["case", "name"]].to_numpy().tolist() == [[c, n] for c in ("s1", "s2", "s3") for n in ("a", "b")]
    assert scans["status"].tolist() == ["ok", "missed", "ok", "ok", "both_empty", "invented"]
    np.testing.assert_allclose(scans["dice"], [2 / 3, 0, 1, 1, np.nan, 0])
    assert scans["reference_voxels"].tolist() == [2, 1, 2, 1, 0, 0]
    assert scans["predicted_voxels"].tolist() == [1, 0, 2, 1, 0, 1]
    assert scans["fold"].tolist() == [3] * 6


@pytest.mark.parametrize("fold", [0, None])
def test_written_table_is_read_back(pairs, tmp_path, fold):
    scans = score_pairs(pairs, Labels(LABELS), "val", fold).assign(hd95_mm=[0.1, 1 / 3, 2, 1e-17, np.nan, 7])
    scans["case"] = ["007", "007", "NA", "NA", 'a,"b"', 'a,"b"']
    write_scans(tmp_path / "run" / "scans.csv", scans[["hd95_mm", *VOLUMES, *COLUMNS]])
    assert (tmp_path / "run" / "scans.csv").read_text().splitlines()[0] == f"{HEADER},{','.join(VOLUMES)},hd95_mm"
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["scans.csv"]
    pd.testing.assert_frame_equal(read_scans(tmp_path / "run" / "scans.csv"), scans)


def test_written_table_needs_its_columns(tmp_path):
    with pytest.raises(ValueError, match="status"):
        write_scans(tmp_path / "scans.csv", pd.DataFrame(columns=[c for c in COLUMNS if c != "status"]))


ROW = "x,val,0,1,a,0.5,0.3,9,8,ok"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("", "not a table"),
        ('"', "not a table"),
        (HEADER.replace("iou", "Iou") + "\n" + ROW, "lacks the column 'iou'. Did you mean 'Iou'?"),
        (f"{HEADER}\n{ROW}\n{ROW.replace('0.5', 'half')}", "line 3: column 'dice' contains 'half'"),
        (f"{HEADER}\n{ROW.replace('0.5', '1.5')}", "'1.5'; expected a number from 0 to 1"),
        (f"{HEADER}\n{ROW.replace('0.5', 'nan')}", "'nan'"),
        (f"{HEADER}\n{ROW.replace('0.5', '')}", "an empty field exactly if the status is both_empty"),
        (f"{HEADER}\n{ROW.replace('ok', 'both_empty')}", "an empty field exactly if the status is both_empty"),
        (f"{HEADER}\n{ROW.replace('ok', 'fine')}", "'fine'; expected one of ok"),
        (f"{HEADER}\n{ROW.replace('9', '-9')}", "column 'reference_voxels' contains '-9'; expected a whole number"),
        (f"{HEADER}\n{ROW.replace('val,0', 'val,first')}", "column 'fold' contains 'first'"),
        (f"{HEADER}\n{ROW.replace('x,', ',')}", "the id of a scan"),
        (f"{HEADER}\n{ROW}\n{ROW}", "line 3: column 'case' contains 'x'; expected each label of a scan once"),
        (f"{HEADER}\n{ROW}\n{ROW.replace('x,', 'y,').replace('a', 'b')}", "one name for each label"),
        (f"{HEADER}\n{ROW}\n{ROW.replace('0,1', '0,2')}", "one label for each name"),
        (f"{HEADER},nsd\n{ROW},inf", "column 'nsd' contains 'inf'"),
        (f"{HEADER}\n{ROW.replace('x', chr(27) + '[2J')}\n{ROW.replace('ok', chr(27) + '[2J')}", r"contains '�\[2J'"),
    ],
)
def test_invalid_table_is_refused_by_file(tmp_path, text, words):
    path = tmp_path / "scans.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_scans(path)
    assert str(path) in str(caught.value)


def test_binary_file_is_a_user_error(tmp_path):
    (tmp_path / "scans.csv").write_bytes(b"\xff\xfe\x00\x9f" * 9)
    with pytest.raises(UserError, match="not a table"):
        read_scans(tmp_path / "scans.csv")


def test_rows_by_scan_keep_folds_apart(pairs):
    scans = pd.concat([score_pairs(pairs, Labels(LABELS), "val", fold) for fold in (0, 1)])
    rows = scan_rows(scans, "dice")
    assert rows.shape == (6, 2)
    assert list(rows.columns) == ["a", "b"]
    np.testing.assert_allclose(rows.to_numpy()[:3], [[2 / 3, 0], [1, 1], [np.nan, 0]])
    assert rows.index[4] == ("val", 1, "s2")
    assert scan_rows(scans, "status").loc[("val", 0, "s1"), "b"] == "missed"
    assert scan_rows(scans.iloc[:0], "dice").shape == (0, 0)


def test_file_values_are_mapped_to_classes(tmp_path):
    for folder, pixels in (("p", [[0, 255], [255, 255]]), ("r", [[0, 0], [255, 255]])):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.array(pixels, np.uint8)).save(tmp_path / folder / "7.png")
    pairs = pair_folders(tmp_path / "p", tmp_path / "r")
    row = score_pairs(pairs, Labels({"background": 0, "cell": 255}), "val", None).iloc[0]
    assert (row["label"], row["name"], row["reference_voxels"], row["predicted_voxels"]) == (1, "cell", 2, 3)
    # The background may be any value: here the white one.
    row = score_pairs(pairs, Labels({"background": 255, "membrane": 0}), "val", None).iloc[0]
    assert (row["name"], row["reference_voxels"], row["predicted_voxels"]) == ("membrane", 2, 1)
    assert row["dice"] == pytest.approx(2 / 3)


def test_undeclared_value_names_file_and_value(pairs):
    with pytest.raises(UserError, match=r"references/s1\.nii\.gz: .*undeclared value\(s\) 2;"):
        score_pairs(pairs, Labels({"background": 0, "a": 1}), "val", 0)


@pytest.mark.parametrize(
    ("other", "spacing", "numbers"),
    [(np.zeros((3, 4, 6)), (1, 1, 1), r"\(6, 4, 3\) versus \(5, 4, 3\)"), (mask(), (1, 1, 2), r"\(2, 1, 1\) versus")],
)
def test_other_grid_names_both_files_and_the_numbers(tmp_path, other, spacing, numbers):
    prediction = save(tmp_path / "p" / "x.nii.gz", other, spacing)
    reference = save(tmp_path / "r" / "x.nii.gz", mask(1))
    with pytest.raises(UserError, match=numbers) as caught:
        score_pairs([("x", prediction, reference)], Labels(LABELS), "val", 0)
    assert str(prediction) in str(caught.value)
    assert str(reference) in str(caught.value)


def test_every_scan_is_reported_when_done_whatever_the_workers(pairs):
    done = []
    scans = score_pairs(pairs, Labels(LABELS), "val", 0, advance=done.append)
    assert done == ["s1", "s2", "s3"]
    pd.testing.assert_frame_equal(scans, score_pairs(pairs, Labels(LABELS), "val", 0, processes=True))


def test_missing_prediction_is_refused_by_name(pairs, tmp_path):
    for name in ("s1", "s2"):
        (tmp_path / "predictions" / f"{name}.nii.gz").unlink()
    with pytest.raises(UserError, match=r"no prediction for 2 of the 3 references .*s1, s2"):
        pair_folders(tmp_path / "predictions", tmp_path / "references")


def test_prediction_without_reference_is_refused_by_default(pairs, tmp_path):
    for number in range(5):
        save(tmp_path / "predictions" / f"t{number}.nii", mask())
    folders = tmp_path / "predictions", tmp_path / "references"
    with pytest.raises(UserError, match=r"no reference for 5 of the 8 .*t0, t1, t2 and 2 more"):
        pair_folders(*folders)
    assert pair_folders(*folders, ignore_extra=True) == pairs


def test_folders_without_masks_and_duplicate_names_are_refused(tmp_path, pairs):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "dataset.json").write_text("{}")
    with pytest.raises(UserError, match="empty contains no mask"):
        pair_folders(tmp_path / "empty", tmp_path / "references")
    with pytest.raises(UserError, match="absent is not a folder"):
        pair_folders(tmp_path / "predictions", tmp_path / "absent")
    save(tmp_path / "references" / "s1.nii", mask())
    with pytest.raises(UserError, match="two masks of one scan"):
        pair_folders(tmp_path / "predictions", tmp_path / "references")


def test_labels_are_found_in_both_masks(tmp_path):
    pair = ("x", save(tmp_path / "p.nii.gz", mask(7)), save(tmp_path / "r.nii.gz", mask(7, 3)))
    assert discover_labels([pair]) == {"background": 0, "label_3": 3, "label_7": 7}


def test_an_image_in_place_of_a_mask_is_noticed(tmp_path):
    image = np.arange(300, dtype=np.int16).reshape(10, 10, 3)
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "image.nii.gz")
    with pytest.raises(UserError, match="probably an image"):
        discover_labels([("x", tmp_path / "image.nii.gz", tmp_path / "image.nii.gz")])


def test_means_over_folds_count_each_scan_once():
    rows = [
        ["a", "test", 0, 1, "x", 0.4, 0.2, 10, 8, "ok"],
        ["a", "test", 1, 1, "x", 0.0, 0.0, 10, 0, "missed"],
        ["b", "test", 0, 1, "x", None, None, 0, 0, "both_empty"],
        ["b", "test", 1, 1, "x", 0.0, 0.0, 0, 5, "invented"],
        ["c", "test", 0, 1, "x", None, None, 0, 0, "both_empty"],
        ["c", "test", 1, 1, "x", None, None, 0, 0, "both_empty"],
    ]
    found = mean_over_folds(pd.DataFrame(rows, columns=list(COLUMNS)), {"dice": 1.0, "iou": 1.0}).set_index("case")
    assert found["dice"].tolist()[:2] == [0.2, 0.5]  # the fold that left b empty was right
    assert np.isnan(found.loc["c", "dice"])
    assert found["status"].tolist() == ["ok", "ok", "both_empty"]
    assert found["predicted_voxels"].tolist() == [4, 2, 0]
    assert found["fold"].isna().all()


def test_test_scans_are_parted_from_others_only():
    scans = pd.DataFrame({"case": ["a", "b", "c"], "split": ["val", "test", "train"]})
    own, tests = parted(scans)
    assert (own["case"].tolist(), tests["case"].tolist()) == (["a", "c"], ["b"])
    own, tests = parted(scans[scans["split"] == "test"])
    assert (own["case"].tolist(), tests["case"].tolist()) == (["b"], [])
