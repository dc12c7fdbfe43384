"""The verb monitor: against a log and against a run, with its page, its exit code and its refusals."""

import json

import numpy as np
import pytest

from segment.commands import monitor
from segment.config.compose import compose
from segment.errors import UserError
from segment.serving.monitor import reference_scans


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


def test_scanners_encoder_and_expected_dice_are_tested_if_both_logs_have_them(tmp_path, capsys):
    draw = np.random.default_rng(0)

    def log(name, count, scanner="Avanto", dice=0.9, shift=0.0):
        rows = []
        for number in range(count):
            features = {"f": draw.normal(), "expected_dice": float(np.clip(draw.normal(dice, 0.02), 0, 1))}
            told = {"features": features, "encoder": draw.normal(shift, 1, 8).tolist(), "model": "m", "state": "done"}
            told["scanner"] = {"model": scanner if number % 2 else "Vida", "unknown": "left out"}
            rows.append(json.dumps({"time": "2026-11-01", "seconds": 1, **told}))
        (tmp_path / name).write_text("\n".join(rows) + "\n")
        return f"log={tmp_path / name}"

    log("reference", 60)
    against = f"reference={tmp_path / 'reference'}"
    run(log("same", 40), against)
    assert "No shift was found" in capsys.readouterr().out
    for given, named in (
        ({"scanner": "Trio <b>"}, None),
        ({"scanner": "Trio"}, "scanner_model: "),
        ({"dice": 0.86}, "expected_dice over time"),
        ({"shift": 1.0}, "encoder"),
    ):
        if named is None:
            with pytest.raises(UserError, match="line 2 is damaged"):
                run(log("other", 40, **given), against)
            continue
        with pytest.raises(SystemExit):
            run(log("other", 40, **given), against, *([f"output={tmp_path / 'page'}"] if "dice" in given else []))
        assert named in capsys.readouterr().out.split("shifted in ")[1]
    assert "<h3>expected_dice: outside" in (tmp_path / "page" / "drift.html").read_text()
    rows = [json.loads(line) | {"features": {"f": draw.normal()}} for line in (tmp_path / "same").open()]
    plain = tmp_path / "plain"
    plain.write_text("".join(json.dumps({key: row[key] for key in row if key != "encoder"}) + "\n" for row in rows))
    run(f"log={tmp_path / 'same'}", f"reference={plain}")
    assert "does not have them: the encoder's features and the expected Dice." in capsys.readouterr().out


def test_a_run_is_the_reference_with_its_predicted_masks(shared_run):
    found = reference_scans(shared_run)
    assert len(found) == 5
    assert found[0].features["spacing_z"] == 2.0
    assert found[0].features["volume_Anterior"] > 0
