"""A finished run's model on the CPU in every engine and precision: Dice, size, time and energy of a window.

    python benchmarks/engines.py runs/NAME                         four validation scans, five rounds
    python benchmarks/engines.py runs/NAME --output tables --energy    engines.csv and engines.html, kWh by codecarbon

All ways compute the same windows of MONAI's SlidingWindowInferer, in turns; the peer is the network as MONAI runs it,
in torch and fp32. Every export is calibrated on training scans of the run and scored on its validation scans, as
``segment evaluate`` does, without mirrored passes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from _machine import describe
from monai.inferers import SlidingWindowInferer
from torch import nn

import segment
from segment.errors import UserError
from segment.export.export import export_model
from segment.export.scans import evenly, scans_to_calibrate, scans_to_compare
from segment.files import read_mapping
from segment.inference.model import Model, load_model
from segment.training.callbacks.energy import is_measured, make_tracker

PEER = "MONAI, torch fp32"
EXPORTS = ("openvino-fp32", "openvino-bf16", "openvino-int8", "onnx-fp32", "onnx-int8")


class Autocast(nn.Module):
    """A network in torch in bf16."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.network(windows).float()


def ways(model: Model, folder: Path, count: int, exports: Sequence[str]) -> Iterator[tuple[str, nn.Module, float]]:
    """Name, network and MB of its files, of each way to compute a model."""
    assert model.folder is not None
    size = (model.folder / "weights.safetensors").stat().st_size / 1e6
    yield PEER, model.network, size
    yield "torch bf16", Autocast(model.network), size
    compared, calibration = scans_to_compare(model, None, 1), scans_to_calibrate(model, None, None, count)
    for name in exports:
        # Any agreement: it is Dice that is told here.
        made = export_model(model, folder / name, *name.split("-"), compared, calibration, agreement=0)
        yield name, load_model(made.folder).network, made.megabytes["export"]


def scored(model: Model, network: nn.Module, run: Path, count: int, folder: Path) -> float:
    """Mean foreground Dice over validation scans of the run."""
    record = read_mapping(run / "provenance.json")
    cases = [record["cases"][case] for case in evenly(record["split"]["val"], count)]
    masks = []
    for case in cases:
        prediction = replace(model, network=network).predict(
            [Path(file) for file in case["images"]], inference={"mirror": ()}, precision="32-true", accelerator="cpu"
        )
        masks.append(prediction.save(folder / Path(case["label"]).name))
    summary = segment.evaluate(masks, [case["label"] for case in cases], labels=model.labels.declared).summary
    return float(summary.loc[("foreground", "dice"), "mean"])


def measure(networks: dict[str, nn.Module], model: Model, rounds: int, energy: bool) -> tuple[dict, dict, str]:
    """Seconds of a window in each round, and kWh of all, by way; and whether the latter are measured or estimated."""
    window = model.plan.patch_size
    image = torch.randn(1, len(model.channels), *(2 * size for size in window))
    inferer = SlidingWindowInferer(window, 1, 0, mode="gaussian")
    windows, source = 2 ** len(window), ""
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    used = dict.fromkeys(networks, 0.0)
    for number in range(rounds + 1):  # the first warms up
        for name, network in networks.items():
            totals: list = []
            tracker = make_tracker(None, totals.append) if energy and number else None
            if tracker:
                tracker.start()
            started = time.perf_counter()
            inferer(image, network)
            seconds[name] += [(time.perf_counter() - started) / windows] * bool(number)
            if tracker:
                tracker.stop()
                source = "measured" if is_measured(tracker) else "estimated from the processor's rated power"
                used[name] += float(totals[-1].energy_consumed) / windows / rounds
    return seconds, used, source


def main() -> None:
    """Export, score and time every way, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--scans", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--exports", nargs="+", default=EXPORTS, choices=EXPORTS)
    parser.add_argument("--energy", action="store_true")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # settings that differ from those of the scores
    describe("float32, bf16 and int8")
    try:
        model = load_model(given.run)
        with tempfile.TemporaryDirectory() as name, torch.inference_mode():
            made = list(ways(model, Path(name), given.scans, given.exports))
            dice = {way: scored(model, network, given.run, given.scans, Path(name)) for way, network, _ in made}
    except UserError as error:
        raise SystemExit(str(error)) from error
    with torch.inference_mode():
        networks = {way: network for way, network, _ in made}
        seconds, used, source = measure(networks, model, given.rounds, given.energy)
    ratios = {
        way: statistics.median(peer / own for peer, own in zip(seconds[PEER], times, strict=True))
        for way, times in seconds.items()
    }
    rows = {
        way: {
            "dice": round(dice[way], 4),
            "MB": round(size, 2),
            "ms": round(1000 * statistics.median(seconds[way]), 2),
            "times as fast": round(ratios[way], 2),
            **({"energy mWh": round(1e6 * used[way], 4)} if given.energy else {}),
        }
        for way, _, size in made
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")
    window = "x".join(map(str, model.plan.patch_size))
    print(table.to_string())
    caption = (
        f"{given.scans} validation scans, a window of {window}, {torch.get_num_threads()} threads, {given.rounds} "
        f"rounds, medians; ratio to {PEER} in the same round"
    )
    print(f"{caption}{'; energy ' + source if source else ''}")
    if given.output:
        given.output.mkdir(parents=True, exist_ok=True)
        table.to_csv(given.output / "engines.csv")
        page = f"<!doctype html><meta charset=utf-8><title>Engines</title><p>{caption}</p>{table.to_html(border=0)}"
        (given.output / "engines.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
