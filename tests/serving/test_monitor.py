"""The verb monitor: against a log and against a run, with its page, its exit code and its refusals."""

import json

import numpy as np
import pytest

from segment.commands import monitor
from segment.config.compose import compose
from segment.errors import UserError
from segment.serving.monitor import reference_features


def write(path, draw, count, shift=0.0, model="liver"):
    rows = []
    for number in range(count):
        features = {f"f{i}": float(value) for i, value in enumerate(draw.normal(shift, 1, 6))}
        time = f"2026-11-{number % 28 + 1:02d}T10:00:00+00:00"
        rows.append({"time": time, "model": model, "state": "done", "seconds": 1, "features": features})
        rows.append({"time": time, "model": model, "state": "failed", "status": 422})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"time": "cut o')
    return path


def run(*words):
    monitor.run(compose("monitor", list(words)))


def test_a_shift_ends_with_code_3_and_no_shift_does_not(tmp_path, capsys):
    draw = np.random.default_rng(0)
    reference, same = write(tmp_path / "reference.jsonl", draw, 40), write(tmp_path / "same.jsonl", draw, 30)
    other = write(tmp_path / "other.jsonl", draw, 30, shift=1.5)
    run(f"log={same}", f"reference={reference}", f"output={tmp_path / 'same'}")
    assert "No shift was found: 30 scans against 40" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        run(f"log={other}", f"reference={reference}", f"output={tmp_path / 'other'}", "model=liver", "last=20")
    assert end.value.code == 3
    assert "The scans have shifted in f" in capsys.readouterr().out
    told = [json.loads((tmp_path / name / "drift.json").read_text()) for name in ("same", "other")]
    assert [one["alarm"] for one in told] == [False, True]
    assert told[1]["scans"]["seen"] == 20
    assert len(told[1]["worst"]) == 10
    page = (tmp_path / "other" / "drift.html").read_text()
    assert told[1]["conclusion"] in page
    assert page.count("<svg") == 6

    for words, said in (
        ([f"log={tmp_path / 'none'}", f"reference={reference}"], "there is no such file"),
        ([f"log={other}", f"reference={reference}", "model=lung"], "has 0 scans"),
        ([f"log={other}", f"reference={reference}", "level=2"], "level=2"),
        ([f"log={tmp_path / 'same' / 'drift.json'}", f"reference={reference}"], "line 1 is damaged"),
    ):
        with pytest.raises(UserError, match=said):
            run(*words)


def test_a_run_is_the_reference_with_its_predicted_masks(shared_run):
    found = reference_features(shared_run)
    assert len(found) == 5
    assert found[0]["spacing_z"] == 2.0
    assert found[0]["volume_Anterior"] > 0
