"""Energy and CO2 of whole runs, as codecarbon reports them."""

import json
import logging
import socket
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from segment.errors import UserError
from segment.training.callbacks import energy

pytestmark = pytest.mark.usefixtures("without_pages")

MEASURED = {"wall_seconds", "train_seconds", "seconds_per_step", "samples_per_second", "waiting_share"}


def costs(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())["cost"]


@pytest.fixture
def offline(monkeypatch, tmp_path) -> list:
    """Hosts that were contacted, while codecarbon's own configuration requests connections and a file."""
    tried = []

    def refuse(*args):
        tried.append(args)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "here"))
    (tmp_path / "here" / ".codecarbon.config").write_text(
        "[codecarbon]\noutput_methods=csv,api\nemissions_endpoint=http://127.0.0.1:9/\nco2_signal_api_token=x\n"
    )
    return tried


@pytest.mark.slow
def test_energy_of_a_resumed_run_is_summed(run_train, make_dataset, tmp_path, capsys, offline, monkeypatch):
    root = make_dataset(tmp_path / "data", n=4)
    more = (
        "trainer.max_steps=6", "callbacks=[ema,energy]", "callbacks.energy.country=deu",
        "+callbacks.stop={_target_: stopping.StopAt}",
    )  # fmt: skip
    monkeypatch.setenv("STOP_AT", "2")
    before = costs(run_train(root, "run", *more, "trainer.max_time=00:01:00:00"))
    monkeypatch.delenv("STOP_AT")
    run = run_train(root, "run", *more)
    after = costs(run)
    assert after.keys() == before.keys() == MEASURED | {
        "peak_memory_mb", "parameters", "flops_per_step", "energy_kwh", "energy_source", "co2_kg",
    }  # fmt: skip
    for key in ("wall_seconds", "train_seconds", "energy_kwh", "co2_kg"):
        assert after[key] > before[key] > 0, key
    assert after["wall_seconds"] > after["train_seconds"]
    assert [after[key] for key in ("parameters", "flops_per_step")] == [
        before[key] for key in ("parameters", "flops_per_step")
    ]
    kept = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]["Energy"]["sums"]
    assert before["energy_kwh"] < kept["energy_kwh"] <= after["energy_kwh"]
    printed = capsys.readouterr()
    assert f"kWh ({after['energy_source']})" in printed.out
    assert "codecarbon" not in printed.err
    assert f"kWh ({after['energy_source']})" in (run / "report.html").read_text()
    assert not offline
    assert [file.name for file in (tmp_path / "here").iterdir()] == [".codecarbon.config"]


@pytest.mark.slow
def test_energy_is_off_by_default_and_co2_needs_a_country(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    assert costs(run_train(root, "plain")).keys() == MEASURED | {"peak_memory_mb", "parameters", "flops_per_step"}
    with_energy = costs(run_train(root, "energy", "callbacks=energy"))
    assert with_energy["energy_kwh"] > 0
    assert "co2_kg" not in with_energy


@pytest.mark.parametrize(
    ("mode", "source"), [("intel_rapl", "measured"), ("cpu_load", "estimated"), ("constant", "estimated")]
)
def test_energy_is_measured_only_if_the_processor_counts_it(mode, source):
    from codecarbon.external.hardware import CPU
    from codecarbon.external.ram import RAM

    measured = energy.make_tracker(None, print)
    processor = CPU.__new__(CPU)
    processor._mode = mode
    measured._hardware = [RAM(), processor]
    assert energy.is_measured(measured) == (source == "measured")
    callback = energy.Energy()
    callback.load_state_dict({"sums": {"energy_kwh": 2.0, "co2_kg": 1.0}, "measured": source == "measured"})
    assert callback.cost() == {"energy_kwh": 2.0, "energy_source": source}


def test_missing_package_and_unknown_country_are_reported_before_reading_data(
    run_train, make_dataset, tmp_path, monkeypatch
):
    root = make_dataset(tmp_path / "data", n=4)
    with pytest.raises(UserError, match=r"callbacks\.energy\.country=DEX.*three-letter"):
        run_train(root, "run", "callbacks=energy", "callbacks.energy.country=DEX")
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with pytest.raises(UserError, match=r"codecarbon.*is not installed.*\[energy\]"):
        run_train(root, "run", "callbacks=energy")
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "cache").exists()


def test_training_continues_if_the_energy_tracker_fails(run_train, make_dataset, tmp_path, monkeypatch):
    import codecarbon

    monkeypatch.setattr(codecarbon.OfflineEmissionsTracker, "_do_measurements", lambda tracker: None)
    with pytest.warns(UserWarning, match="codecarbon measured nothing"):
        run = run_train(make_dataset(tmp_path / "data", n=4), "run", "callbacks=energy")
    assert "energy_kwh" not in costs(run)
    assert logging.getLogger("codecarbon").level == logging.CRITICAL
