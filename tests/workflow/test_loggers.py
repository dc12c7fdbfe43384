"""Loggers chosen by name: what each wrote is read back, and everything is in the run folder."""

import importlib.util
import json
import struct
from pathlib import Path

import pandas as pd
import pytest
import wandb

from segment.errors import UserError


def wandb_records(file: Path) -> list:
    """Records of a .wandb file: LevelDB's log format in blocks of 32 KiB after a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, records, parts = file.read_bytes(), 7, [], b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(Record.FromString(parts))
            parts = b""
    return records


def test_every_logger_gets_curves_configuration_and_final_scores(run_train, make_dataset, tmp_path, monkeypatch):
    root, home = make_dataset(tmp_path / "data", n=4), tmp_path / "home"
    home.mkdir()
    for key, value in {"WANDB_MODE": "offline", "HOME": str(home), "MPLCONFIGDIR": str(tmp_path / "mpl")}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(tmp_path)
    run = run_train(root, "run", "logger=[csv,wandb,mlflow]", "trainer.max_steps=2", "optimizer.lr=0.0123")
    summary = json.loads((run / "summary.json").read_text())
    dice = summary["foreground"]["dice"]["mean"]

    table = pd.read_csv(run / "csv" / "version_0" / "metrics.csv")
    assert table["train/loss"].count() == 2
    assert table["Final/foreground_dice"].dropna().item() == pytest.approx(dice)
    assert "optimizer.lr: 0.0123" in (run / "csv" / "version_0" / "hparams.yaml").read_text()

    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    records = wandb_records(file)
    history = [{"/".join(item.nested_key) or item.key: item.value_json for item in r.history.item} for r in records]
    assert [float(row["Final/foreground_dice"]) for row in history if "Final/foreground_dice" in row] == [
        pytest.approx(dice)
    ]
    assert sum("train/loss" in row for row in history) == 2
    logged = {item.key: item.value_json for r in records for item in (*r.config.update, *r.run.config.update)}
    assert logged["optimizer.lr"] == "0.0123"
    assert [r.exit.exit_code for r in records if r.HasField("exit")] == [0]
    assert wandb.run is None  # so that the next run of this process gets one of its own

    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{run / 'mlflow.db'}")
    (noted,) = client.search_runs([client.get_experiment_by_name("segment").experiment_id])
    assert noted.info.status == "FINISHED"
    assert noted.data.metrics["Final/foreground_dice"] == pytest.approx(dice)
    assert len(client.get_metric_history(noted.info.run_id, "train/loss")) == 2
    assert noted.data.params["optimizer.lr"] == "0.0123"

    # Every run has TensorBoard's view of the result, and no logger wrote elsewhere.
    assert [*run.glob("tensorboard/*.report")]
    assert {path.name for path in tmp_path.iterdir()} <= {"data", "cache", "runs", "home", "mpl"}
    assert [*home.rglob("*")] == []


@pytest.mark.usefixtures("without_pages")
def test_resumed_run_with_another_logger_keeps_its_earlier_curves(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    run = run_train(root, "run", "logger=csv", "trainer.max_steps=2")
    first = (run / "csv" / "version_0" / "metrics.csv").read_text()
    (run / "report.html").unlink()
    run_train(root, "run", "logger=[tensorboard,csv]", "trainer.max_steps=2")
    assert (run / "csv" / "version_0" / "metrics.csv").read_text() == first
    assert "Final/foreground_dice" in (run / "csv" / "version_1" / "metrics.csv").read_text()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_that_is_not_installed_names_its_extra(run_train, make_dataset, tmp_path, monkeypatch, name):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda word: None if word == name else found(word))
    with pytest.raises(UserError, match=rf"logger={name}: .*'\.\[{name}\]'"):
        run_train(make_dataset(tmp_path / "data", n=4), "run", f"logger={name}")
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("without_pages")
def test_logger_that_fails_to_start_is_a_user_error(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    with pytest.raises(UserError, match=r"logger=mlflow: cannot start|logger\.mlflow: "):
        run_train(root, "run", "logger=mlflow", "logger.mlflow.tracking_uri=nonsense://x")
    run = run_train(root, "run", "logger=csv", "trainer.max_steps=4")  # and the run is taken up without it
    assert (run / "report.html").exists()
