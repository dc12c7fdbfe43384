"""``segment plan``: survey a data set and write what nnU-Net's rules decide for it, with the reasons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from segment.data.case import Case, Dataset
from segment.data.geometry import canonical_grid, to_canonical
from segment.data.images import read_image, read_label
from segment.data.survey import QUANTILES, ForegroundIntensity, Survey
from segment.errors import UserError
from segment.preprocessing.fingerprint import Fingerprint, take_fingerprint
from segment.preprocessing.plan import DatasetPlan
from segment.preprocessing.plan_file import write_plan
from segment.preprocessing.planner import Overrides, plan_dataset
from segment.report.files import printable
from segment.run.configure import check_targets, make


def run(config: DictConfig) -> None:
    """Survey every labelled scan, decide, write the plan file and print its configurations."""
    check_targets(config)
    output = Path(config.output)
    if output.suffix not in (".yaml", ".yml"):
        raise UserError(f"output={output}: a plan is a YAML file. Give a name that ends in .yaml.")
    if output.exists() and not config.overwrite:
        raise UserError(f"output={output}: exists, and may have been edited. Give another name, or overwrite=true.")
    options: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    overrides = Overrides(**{key: options[key] for key in ("spacing", "patch_size", "batch_size", "normalization")})
    dataset: Dataset = make(config, "data")
    fingerprint = fingerprint_of(dataset)
    plan = plan_dataset(fingerprint, dataset.name, config.preset, config.memory, overrides)
    write_plan(output, plan)
    Console().print(table(plan))
    print(f"{output}: the plan, with the reason beside each decision. Edit what you know better.")


def fingerprint_of(dataset: Dataset) -> Fingerprint:
    """Survey every labelled scan, with progress on the terminal."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        surveys = bar.track(_survey_cases(dataset), len(dataset.cases), description="surveying scans")
        return take_fingerprint(surveys, dataset.channels, label_count(dataset))


def label_count(dataset: Dataset) -> int:
    """Labels as nnU-Net's dataset.json counts them: the background, each label or region, and an ignore label."""
    classes = 1 + len(dataset.regions) if dataset.regions else len(dataset.labels)
    return classes + (dataset.ignore is not None)


def table(plan: DatasetPlan) -> Table:
    """The configurations side by side."""
    title = f"{escape(printable(plan.dataset))}: {plan.preset}, {plan.memory:g} GB, {plan.scans} scans"
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("configuration", "spacing (mm)", "patch", "batch", "normalization"):
        shown.add_column(heading, no_wrap=True)
    for name, entry in plan.configurations.items():
        shown.add_row(
            name,
            "x".join(f"{mm:.3g}" for mm in entry.spacing),
            "x".join(map(str, entry.patch_size)),
            str(entry.batch_size),
            ", ".join(dict.fromkeys(entry.normalization)),
        )
    return shown


def _survey_cases(dataset: Dataset) -> Iterator[Survey]:
    for case in dataset.cases:
        yield _survey(case, dataset)


def _survey(case: Case, dataset: Dataset) -> Survey:
    """What the plan needs to know of one case."""
    image = read_image(case.images)
    array, grid = to_canonical(image.array, image.grid), canonical_grid(image.grid)
    filled = (array != 0).any(axis=0)
    box = tuple(
        (int(found[0]), int(found[-1]) + 1)
        for axis in range(filled.ndim)
        if (
            found := np.flatnonzero(filled.any(axis=tuple(other for other in range(filled.ndim) if other != axis)))
        ).size
    ) or tuple((0, size) for size in grid.shape)
    intensities: tuple[ForegroundIntensity, ...] = ()
    if case.label is not None:
        label = read_label(case.label)
        mask = to_canonical(label.array, label.grid)
        wanted = [value for value in dataset.labels.values() if value != dataset.labels[dataset.background]]
        if mask.shape == array.shape[1:] and (chosen := np.isin(mask, wanted)).any():
            intensities = tuple(_intensity(channel[chosen]) for channel in array)
    return Survey(grid.shape, grid.spacing, box, intensities)


def _intensity(values: np.ndarray) -> ForegroundIntensity:
    quantiles = np.quantile(values.astype(np.float64), np.linspace(0, 1, QUANTILES))
    return ForegroundIntensity(
        float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)), tuple(quantiles.tolist())
    )
