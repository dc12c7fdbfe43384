"""DICOM from end to end: check, train on series with structure sets, predict to a segmentation of each series."""

import highdicom as hd
import numpy as np
import pytest
from made_dicom import make_series

from segment.commands import check, evaluate, predict
from segment.config.compose import compose
from segment.errors import UserError
from segment.io.dicom.annotations import read_annotations
from segment.io.dicom.segmentation import write_segmentation
from segment.io.dicom.series import contents
from segment.io.dicom.structures import write_structures
from segment.io.images import read_label
from segment.runs.scans import read_scans


def ball(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.arange(size) for size in (10, 24, 24)), indexing="ij")
    centre = np.array([5, 12, 12]) + rng.uniform(-1, 1, 3)
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, (3, 7, 6), strict=True)) < 1


def make_archive(root) -> None:
    """Three patients, two with a structure set and one with a segmentation of a bright liver, among other files."""
    for seed in range(3):
        mask = ball(seed)
        noise = np.random.default_rng(seed).normal(0, 20, mask.shape)
        values = (mask * 300 + 1000 + noise).astype(np.int16)
        make_series(root / f"P{seed}", values, seed=seed, patient=f"P{seed}", spacing=(2, 1, 1))
        (series,) = contents(root / f"P{seed}").series
        path = series.path.with_name("annotation")
        if seed < 2:
            write_structures(path, mask.astype(np.uint8), series, {"liver": 1, "couch": 2}, "drawn")
        else:
            write_segmentation(path, mask.astype(np.uint8), series, {"liver": 1}, {}, "drawn", "1")


def test_train_on_series_with_structure_sets_and_predict_to_segmentations(tmp_path, run_train, capsys):
    root = tmp_path / "archive"
    make_archive(root)
    labels = "data.labels={liver: 1}"
    check.run(compose("check", ["data=auto", f"data.root={root}", labels, f"cache={tmp_path / 'cache'}"]))
    captured = capsys.readouterr()
    assert "3 scans read, 0 errors" in captured.out
    assert captured.err == "Note: Masks are made of DICOM annotations: liver; left out: couch.\n"
    codes = "data.codes={liver: {value: L1, meaning: Liver or so, scheme: 99MINE}}"
    run = run_train(root, "dicom", labels, codes, "folds=3", "trainer.max_steps=2")
    scans = read_scans(run / "scans.csv")
    assert scans["case"].tolist() == ["P0"]  # of the first fold
    assert scans["reference_voxels"].tolist() == [ball(0).sum()]
    values = {"model": run, "input": root, "output": tmp_path / "masks", "output_format": "dicom_seg"}
    predict.run(compose("predict", [f"{key}={value}" for key, value in values.items()]))
    assert sorted(path.name for path in (tmp_path / "masks").glob("*.dcm")) == ["P0.dcm", "P1.dcm", "P2.dcm"]
    written = hd.seg.segread(tmp_path / "masks" / "P0.dcm")
    assert written.PatientID == "P0"
    segment = written.SegmentSequence[0]
    assert segment.SegmentLabel == "liver"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Liver or so"
    assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "archive"
    values |= {"output": tmp_path / "nifti", "output_format": "own"}
    predict.run(compose("predict", [f"{key}={value}" for key, value in values.items()]))
    for kind in ("nifti", "masks"):
        values = {"predictions": tmp_path / kind, "references": root, "output": tmp_path / f"{kind}_scores"}
        evaluate.run(compose("evaluate", [f"{key}={value}" for key, value in values.items()]))
        assert "test-time augmentation none" in capsys.readouterr().out  # as predictions.json says
        scored = read_scans(tmp_path / f"{kind}_scores" / "scans.csv")
        assert scored["reference_voxels"].tolist() == [ball(seed).sum() for seed in range(3)]
        assert scored["dice"][0] == scans["dice"][0]
    unmarked = tmp_path / "unmarked"
    make_series(unmarked)
    with pytest.raises(UserError, match=r"unmarked: its DICOM series have neither a segmentation \(SEG\) nor"):
        evaluate.run(
            compose("evaluate", [*(f"{key}={item}" for key, item in values.items()), f"references={unmarked}"])
        )
    (annotation,) = contents(tmp_path / "masks").annotations[:1]
    series = {item.patient: item for item in contents(root).series}
    mask = read_label(tmp_path / "nifti" / "P0.nii.gz")
    assert mask.grid.shape == (10, 24, 24)
    assert 0 < mask.array.sum() < mask.array.size
    np.testing.assert_array_equal(read_annotations([annotation], series["P0"], {"liver": 1}), mask.array)
