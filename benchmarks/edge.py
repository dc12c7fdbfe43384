"""Small networks on a CPU: Dice, MB, time and energy of a scan in fp32, bf16 and int8, pruned or not.

    python benchmarks/edge.py                                         the demonstration data, some 20 minutes
    python benchmarks/edge.py data=hippocampus data.root=FOLDER       another data set, any setting of segment train
    python benchmarks/edge.py --steps 100 --finetune 50 --scans 2     shorter

Trains each of `NETWORKS`, prunes it and trains it on with the same settings, exports both for OpenVINO in each
precision, as ``segment export`` does, scores every way on the same validation scans and times it in turns. Networks
that are trained already, in the folder of ``--output``, are kept. Time is that of a scan in memory to its labels,
without mirrored passes. Energy is that of the processor's counters (RAPL) meanwhile, whoever uses it, where they can be
read; it is never estimated. The peer is the same network in torch, fp32.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import torch
from _machine import describe
from engines import scored
from torch import nn

import segment
from segment.config.again import pruned_again
from segment.errors import UserError
from segment.export.export import export_model
from segment.export.scans import evenly, scans_to_calibrate, scans_to_compare
from segment.files import read_mapping
from segment.inference.model import Model, load_model, predictor_of_plan
from segment.inference.predictor import Predictor
from segment.instruction_set import bf16_in_hardware
from segment.io.images import Image, read_image
from segment.provenance import hardware
from segment.workflow.train import train

NETWORKS = {
    "unet_small": ["network=unet_small"],
    "mobilenet_v2 U-Net": ["network=unet_encoder", "network.encoder=mobilenet_v2"],
}
EXPORTS = ("fp32", "bf16", "int8")
COUNTERS = Path("/sys/class/powercap")
NOT_MEASURED, NO_BF16 = "not measured", "no bf16 on this processor"


@dataclass
class Way:
    """A way to compute a network, and what is found of it.

    Attributes:
        network: Name of the network.
        variant: fp32, bf16 or int8, pruned or not, and what computes it.
        model: The model in torch that it is made of.
        computed: What computes its windows; None where this processor has no bf16.
        megabytes: Of its files.
        dice: Mean foreground Dice over the scans.
        seconds: Of a scan, in each round.
        joules: Of a scan, in each round; empty where they cannot be read.
    """

    network: str
    variant: str
    model: Model
    computed: nn.Module | None = None
    megabytes: float = 0.0
    dice: float = 0.0
    seconds: list[float] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)

    def row(self) -> dict[str, object]:
        """A row of the table."""
        named = {"network": self.network, "variant": self.variant}
        if self.computed is None:
            return named | {"dice": NO_BF16} | dict.fromkeys(("MB", "ms per scan", "energy (J)"), "-")
        return named | {
            "dice": f"{self.dice:.4f}",
            "MB": f"{self.megabytes:.2f}",
            "ms per scan": f"{1000 * statistics.median(self.seconds):.0f}",
            "energy (J)": f"{statistics.median(self.joules):.1f}" if self.joules else NOT_MEASURED,
        }


def ways(name: str, run: Path, pruned: str, count: int, folder: Path) -> Iterator[Way]:
    """The ways to compute the network of a run: in torch, and exported."""
    model = load_model(run)
    assert model.folder is not None
    size = (model.folder / "weights.safetensors").stat().st_size / 1e6
    yield Way(name, f"{pruned}fp32, torch", model, model.network, size)
    compared, calibration = scans_to_compare(model, None, 1), scans_to_calibrate(model, None, None, count)
    for precision in EXPORTS:
        way = Way(name, f"{pruned}{precision}", model)
        if precision != "bf16" or bf16_in_hardware():
            # Any agreement: it is Dice that is told here.
            made = export_model(
                model, folder / f"{run.name}-{precision}", "openvino", precision, compared, calibration, 0
            )
            way = replace(way, computed=load_model(made.folder).network, megabytes=made.megabytes["export"])
        yield way


def predictor(way: Way) -> Predictor:
    """The predictor of a way, without mirrored passes."""
    assert way.computed is not None
    model = replace(way.model, network=way.computed)
    return predictor_of_plan(model, model.settings({"mirror": ()}, "32-true", "cpu"))


def joules() -> float | None:
    """What all processors have used, by their counters; None where these cannot be read."""
    packages = [folder for folder in COUNTERS.glob("intel-rapl:*") if folder.name.count(":") == 1]
    try:
        return sum(int((folder / "energy_uj").read_text()) for folder in packages) / 1e6 if packages else None
    except OSError:
        return None


def measure(made: Sequence[Way], images: Sequence[Image], rounds: int) -> None:
    """Time every way in turns, and read the counters; the first round warms up."""
    predictors = [(way, predictor(way)) for way in made if way.computed is not None]
    for number in range(rounds + 1):
        for way, one in predictors:
            before, started = joules(), time.perf_counter()
            for image in images:
                one.predict_image(image, "scan")
            seconds, after = time.perf_counter() - started, joules()
            if number:
                way.seconds.append(seconds / len(images))
            if number and before is not None and after is not None and after >= before:  # counters start anew at times
                way.joules.append((after - before) / len(images))


def runs(given: argparse.Namespace) -> Iterator[tuple[str, Path, Path]]:
    """Name of each network, the run that trained it, and that of its pruned network."""
    for name, words in NETWORKS.items():
        run = given.output / "runs" / f"{words[-1].rpartition('=')[2]}-steps{given.steps}"
        segment.train(*words, *given.overrides, f"trainer.max_steps={given.steps}", f"output={run}")
        config = read_mapping(run / "config.yaml")
        experiment = pruned_again(run, given.prune, given.finetune, None, config["cache"], ())
        train(experiment)
        yield name, run, experiment.output


def main() -> None:
    """Train, prune, export, score and time every network, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="settings of segment train, such as data=hippocampus")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--finetune", type=int, default=250)
    parser.add_argument("--prune", type=float, default=0.5)
    parser.add_argument("--scans", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("edge"))
    given = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # settings that differ from those of the scores
    describe("float32, bf16 and int8")
    try:
        trained = list(runs(given))
        with tempfile.TemporaryDirectory() as name, torch.inference_mode():
            table, scans = found(trained, given, Path(name))
    except UserError as error:
        raise SystemExit(str(error)) from error
    write(table, given, scans)


def found(
    trained: Sequence[tuple[str, Path, Path]], given: argparse.Namespace, folder: Path
) -> tuple[pd.DataFrame, int]:
    """The table of all ways, and the number of scans."""
    made: list[Way] = []
    for network, run, pruned in trained:
        made += ways(network, run, "", given.scans, folder)
        made += ways(network, pruned, "pruned, ", given.scans, folder)
    run = trained[0][1]  # all are scored on the same scans
    for way in made:
        if way.computed is not None:
            way.dice = scored(way.model, way.computed, run, given.scans, folder)
    record = read_mapping(run / "provenance.json")
    cases = [record["cases"][case] for case in evenly(record["split"]["val"], given.scans)]
    images = [read_image([Path(file) for file in case["images"]]) for case in cases]
    measure(made, images, given.rounds)
    return pd.DataFrame([way.row() for way in made]), len(images)


def write(table: pd.DataFrame, given: argparse.Namespace, scans: int) -> None:
    """Print the table, and write it as CSV and as a page."""
    machine = hardware()
    caption = (
        f"{machine['processor']}, {machine['cores']} cores (oneDNN: {machine['onednn_isa']}), "
        f"{torch.get_num_threads()} threads; trained for {given.steps} steps, pruned by {given.prune:g} and trained "
        f"for {given.finetune} more; {scans} validation scans, {given.rounds} rounds, medians; computed by OpenVINO "
        "where it does not say torch"
    )
    print(f"{table.to_string(index=False)}\n{caption}")
    table.to_csv(given.output / "edge.csv", index=False)
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Small networks on a CPU</title>'
    page = f"{head}<h1>Small networks on a CPU</h1><p>{caption}</p>{table.to_html(border=0, index=False)}</html>"
    (given.output / "edge.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
