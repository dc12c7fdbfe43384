"""``segment list``: list the networks, data sets, studies and metrics that the command line accepts."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.progress import track

from segment.config.build import check_targets, make
from segment.config.choices import about, options, source, studies
from segment.config.folders import config_folders
from segment.config.network_table import described, network_row
from segment.config.options import ListOptions, read_options
from segment.errors import UserError, did_you_mean
from segment.metrics.check import check_metric
from segment.text import one_line, output, print_json, print_table
from segment.workflow.experiment import NO_COMMAND, Command

if TYPE_CHECKING:  # importing torch takes seconds
    from segment.networks.describe import Description

CHOICE = re.compile(r"\+*(network\b|experiments/)")  # an override that selects or configures one network
COUNTED = (
    "For one channel and two classes. Operations are floating-point operations (FLOPs) of convolutions and matrix "
    "products in one forward pass\nin evaluation mode, with a multiply-add counted as two, on an image of "
)


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Print the lists, as tables or as JSON."""
    chosen = read_options(ListOptions, config)
    lists = {"networks": networks, "data": data_sets, "studies": studies, "metrics": metrics}
    if chosen.what is not None and chosen.what not in lists:
        hint = did_you_mean(chosen.what, lists)
        raise UserError(f"list {chosen.what}: there is no such list.{hint} Choices: {', '.join(lists)}.")
    if any(CHOICE.match(override) for override in command.overrides):
        one_network(config, command)
        return
    if chosen.dims is not None or chosen.size is not None:
        raise UserError("dims and size apply to one network: add network=NAME.")
    found = {name: make_rows() for name, make_rows in lists.items() if chosen.what in (None, name)}
    if chosen.format == "json":
        print_json(found if chosen.what is None else found[chosen.what])
        return
    console = output()
    for name, rows in found.items():
        print_table(console, name, [shown_network(row) for row in rows] if name == "networks" else rows)
        if name == "networks":
            console.out(f"{COUNTED}192x192 or 96x96x96, or the next size that needs no padding.")
            console.out("deep: deep supervision outputs during training. ", end="")
            console.out("'segment list networks network=NAME network.key=value ...' shows one network part by part.")
        console.out()


def networks() -> list[dict[str, Any]]:
    """One row per network file: description and cost in 2D and in 3D, for one channel and two classes."""
    console = Console(stderr=True)
    names = track(options("network"), "networks", console=console, transient=True, disable=not console.is_terminal)
    return [network_row(name) for name in names]


def one_network(config: DictConfig, command: Command) -> None:
    """Print the configured network, including overrides, part by part.

    Raises:
        UserError: When it cannot be described.
    """
    chosen = read_options(ListOptions, config)
    size = chosen.size
    if chosen.what not in (None, "networks"):
        raise UserError(f"network: belongs to 'segment list networks', not to 'segment list {chosen.what}'.")
    if chosen.dims not in (None, 2, 3):
        raise UserError(f"dims={chosen.dims}: must be 2 or 3.")
    axes = size if isinstance(size, list) else [96 if size is None else size] * 3
    if len(axes) not in (2, 3) or not all(isinstance(voxels, int) and 0 < voxels < 1 << 16 for voxels in axes):
        raise UserError(f"size={size}: must be a positive integer, or one for each of two or three axes.")
    check_targets(OmegaConf.masked_copy(config, ["network"]))
    constructor, reasons = make(config, "network"), []
    for dims in [chosen.dims] if chosen.dims else [len(size)] if isinstance(size, list) else [3, 2]:
        try:
            result = described(constructor, dims, size)
        except UserError as error:
            reasons.append(str(error))
        else:
            print_network(str(command.choices["network"]), dims, result, chosen.format)
            return
    raise UserError(f"network: cannot be described: {'; '.join(dict.fromkeys(reasons))}.")


def print_network(name: str, dims: int, result: Description, form: str) -> None:
    """Print one network part by part."""
    about = source(name)
    parts = [
        {
            "name": part.name,
            "channels": part.channels,
            "stride": part.stride,
            "size": part.size,
            "parameters": part.parameters,
            "operations": part.operations,
            "share": part.operations / max(1, result.operations),
        }
        for part in result.parts
    ]
    if form == "json":
        numbers = {
            "parameters": result.parameters,
            "operations per voxel": result.operations_per_voxel,
            "divisor": result.divisor,
            "deep supervision": result.deep_supervision,
            "size": result.size,
            "operations": result.operations,
        }
        print_json({"name": name, "dimensions": dims, **numbers, **about, "parts": parts})
        return
    console = output()
    console.out(f"{name}: {', '.join(filter(None, [about['about'], about['paper']]))}")
    console.out(
        f"{dims}D, {result.parameters:,} parameters, {result.operations_per_voxel:,} operations per voxel, images "
        f"padded to multiples of {shown_axes(result.divisor)}, {result.deep_supervision} deep supervision outputs\n"
    )
    print_table(console, "", [shown_part(part) for part in parts])
    console.out(f"{COUNTED}{'x'.join(map(str, result.size))}.")


def shown_network(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of the table of networks, abbreviated."""
    paper = (row["paper"] or "-").removeprefix("https://").replace("arxiv.org/abs/", "arXiv:")
    return {
        "name": row["name"],
        "dims": " ".join(f"{d}D" for d in row["dimensions"]) or "-",
        **{f"params\n{d}D": shown_number(row[f"parameters {d}D"]) for d in (2, 3)},
        **{f"ops per\nvoxel {d}D": shown_number(row[f"operations per voxel {d}D"]) for d in (2, 3)},
        "divisor": shown_axes(row["divisor"]),
        "deep": shown_number(row["deep supervision"]),
        "paper": paper.replace("doi.org/", "doi:"),
        "about": row["about"],
    }


def shown_part(part: Mapping[str, Any]) -> dict[str, str]:
    """A row of the table of a network's parts."""
    return {
        "part": part["name"],
        "channels": str(part["channels"] or "-"),
        "stride": shown_axes(part["stride"]),
        "size": "x".join(map(str, part["size"] or "-")),
        "parameters": f"{part['parameters']:,}",
        "operations": f"{part['share']:.1%}",
    }


def shown_axes(values: Sequence[int] | None) -> str:
    """``16`` if all axes are equal, else ``8 16 16``."""
    return "-" if values is None else " ".join(str(v) for v in (values if len(set(values)) > 1 else values[:1]))


def shown_number(value: int | None) -> str:
    """Three significant digits and a unit: ``31.0 M``."""
    if value is None:
        return "-"
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= 0.9995 * size:
            scaled = value / size
            return f"{scaled:.{max(0, 2 - len(str(int(scaled))) + 1)}f} {unit}"
    return str(value)


def data_sets() -> list[dict[str, Any]]:
    """Name and first comment of every data set."""
    return [{"name": name, "about": about("data", name)} for name in options("data")]


def metrics() -> list[dict[str, Any]]:
    """One row per metric of every file, with its column; a file that builds no metric is reported on stderr."""
    rows = []
    for name in options("metrics"):
        if name == "all":  # the other files once more
            continue
        try:
            config = _metrics_of_file(name)
            for key in config.metrics:
                metric = make(config, f"metrics.{key}")
                if not type(metric).__module__.startswith("segment."):  # ours are tested
                    check_metric(metric)
                better = "higher" if metric.higher_is_better else "lower"
                column = {"column": metric.name, "title": metric.title, "unit": metric.unit, "better": better}
                rows.append({"name": name, **column, "missed": metric.penalty, "about": about("metrics", name)})
        except (UserError, ValueError, HydraException, OmegaConfBaseException) as error:
            print(f"segment: metrics={name} builds no metric: {one_line(error)}", file=sys.stderr)
    return rows


def _metrics_of_file(name: str) -> DictConfig:
    """The nodes of a file of conf/metrics under the key ``metrics``; composing takes ten times as long as reading."""
    file = next(file for _, folder in config_folders() if (file := Path(folder) / "metrics" / f"{name}.yaml").is_file())
    read = OmegaConf.load(file)
    return hydra.compose(f"metrics/{name}") if "defaults" in read else OmegaConf.create({"metrics": read})
