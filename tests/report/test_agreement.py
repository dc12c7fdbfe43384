import json
import re

import numpy as np
import pytest

from segment.errors import UserError
from segment.metrics.detection import IOUS, Detections
from segment.metrics.precision_recall import THRESHOLDS
from segment.report.agreement import agreement
from segment.report.run_page import write_page
from segment.runs.confusion import write_confusion
from segment.runs.detection import write_pooled
from segment.runs.folder import read_run
from segment.runs.precision_recall import write_curves
from segment.runs.summary import read_summary, write_summary
from segment.runs.volumes import volume_agreement, volume_differences, volume_unit


def test_volume_difference_is_in_percent_of_the_mean_volume(make_run):
    scans = read_run(make_run(shifts=(0, 1))).scans
    scans.loc[0, ["reference_voxels", "predicted_voxels"]] = [100, 300]
    scans.loc[1, ["reference_voxels", "predicted_voxels"]] = [50, 0]
    scans.loc[2, ["reference_voxels", "predicted_voxels"]] = [0, 0]
    scans["reference_ml"], scans["predicted_ml"] = scans["reference_voxels"] / 2, scans["predicted_voxels"] / 2
    table = volume_differences(scans)
    assert volume_unit(scans) == "ml"
    assert table["mean"].tolist() == [100.0, 12.5, 40.0]
    assert table["percent"].tolist() == [100.0, -200.0, 0.0]
    older = scans.drop(columns=["reference_ml", "predicted_ml"])
    assert volume_unit(older) == "voxels"
    table = volume_differences(older)
    assert table["percent"].tolist() == [100.0, -200.0, 0.0]
    assert table["mean"].tolist() == [200.0, 25.0, 80.0]
    assert table["name"].tolist() == ["Anterior", "Posterior", "Posterior"]


def test_bias_limits_and_correlations_of_every_label_are_those_of_its_volumes(make_run):
    scans = read_run(make_run(shifts=(0, 1, 2))).scans
    scans["reference_ml"] = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    scans["predicted_ml"] = [12.0, 20.0, 33.0, 40.0, 51.0, 60.0]
    found = volume_agreement(scans)
    first, second = found["Anterior"], found["Posterior"]
    assert (first["n"], first["unit"], first["difference"]["bias"]) == (3, "ml", 2.0)
    assert first["difference"]["low"] == pytest.approx(2 - 1.959964)  # the differences 2, 3 and 1 have a sd of 1
    assert first["percent"]["bias"] == pytest.approx(100 * (2 / 11 + 3 / 31.5 + 1 / 50.5) / 3)
    assert second["difference"]["bias"] == 0
    assert second["icc_agreement"] == second["icc_consistency"] == {"value": 1.0, "ci95": [1.0, 1.0]}
    assert first["icc_agreement"]["value"] < first["icc_consistency"]["value"] < 1
    assert volume_agreement(scans[:4])["Anterior"]["icc_agreement"] is None


def test_agreement_section_shows_only_available_data(make_run):
    run = make_run()
    found = agreement(read_run(run))
    assert found.precision_recall is None
    assert found.confusion is None
    assert [row[:2] for row in found.volume_rows] == [["Anterior", "3"], ["Posterior", "3"]]
    write_curves(run / "precision_recall.csv", ["Anterior", "Posterior"], np.ones((2, 2, THRESHOLDS), int))
    write_confusion(
        run / "confusion.csv", ["background", "Anterior", "Posterior"], np.array([[99999, 1, 0], [0, 3, 1], [0, 0, 0]])
    )
    found = agreement(read_run(run))
    assert "recall" in found.precision_recall
    assert "$" not in found.volumes  # powers of ten are not written in mathematical notation
    rows = {row["name"]: [cell["text"] for cell in row["cells"]] for row in found.confusion["rows"]}
    assert found.confusion["names"] == ["Anterior", "Posterior", "background"]
    assert rows == {
        "Anterior": ["75.0", "25.0", "0.0"],
        "Posterior": ["–", "–", "–"],
        "background": ["< 0.1", "0.0", "> 99.9"],
    }


@pytest.mark.parametrize("file", ["precision_recall.csv", "confusion.csv"])
def test_damaged_file_does_not_prevent_the_page(make_run, file):
    run = make_run()
    (run / file).write_text("nonsense\n")
    assert agreement(read_run(run)).volumes is not None


def test_detected_lesions_are_drawn_and_listed(make_run):
    run = make_run()
    assert agreement(read_run(run)).detection is None
    hits = np.tile([True, False, True], (len(IOUS), 1))
    found = {"Anterior": Detections(np.array([0.9, 0.8, 0.7]), hits, 4, scans=2)}
    found["Posterior"] = Detections(np.zeros(0), hits[:, :0], 0, scans=2)
    summary = read_summary(run / "summary.json")
    write_summary(run / "summary.json", summary | {"detection": write_pooled(run, found, "mean")})
    write_page(run)
    page = (run / "report.html").read_text()
    assert "false positives per scan" in page
    cells = re.findall(r"<t[dh](?: [^>]*)?>([^<]*)<", page[page.index("<h3>Detected lesions</h3>") :])
    assert cells[:7] == ["label", "lesions", "predicted", "mAP", "AP at 0.1", "AP at 0.5", "FROC"]
    # Precision is 1 and 2/3 at the two hits of four lesions; FROC is 1/4 until 1/2 false positive per scan, then 1/2.
    assert cells[14:21] == ["Anterior", "4", "3", "0.4167", "0.4167", "0.4167", "0.4286"]
    assert cells[28:33] == ["Posterior", "0", "0", "-", "-"]
    (run / "detection.csv").write_text("nonsense\n")
    found = agreement(read_run(run))
    assert found.detection is not None
    assert found.froc is None
    (run / "summary.json").write_text(json.dumps(summary | {"detection": {"score": "mean", "structures": {"a": 1}}}))
    with pytest.raises(UserError, match=r"summary\.json.*detection"):
        read_run(run)
