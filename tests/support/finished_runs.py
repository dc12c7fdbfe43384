"""Finished runs made of score tables, without training or masks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from torch.utils.tensorboard import SummaryWriter

from segment.runs.scans import COLUMNS, write_scans
from segment.runs.summary import write_summary

LABELS = ("anterior", "posterior")


def scan_names(n: int, first: int = 0) -> list[str]:
    return [f"scan_{index:03d}" for index in range(first, first + n)]


def scores_like_dice(n: int, labels: int, seed: int, effect: float = 0.0, noise: float = 0.02) -> np.ndarray:
    """(n, labels): a scan's own difficulty, the same for every seed, and independent residuals."""
    shared = np.random.default_rng(99).normal(0.85, 0.05, (n, 1))
    own = np.random.default_rng(seed).normal(effect, noise, (n, labels))
    return np.clip(shared + own, 0, 1)


def scan_rows_of(
    scores: np.ndarray,
    cases: Sequence[str],
    labels: Sequence[str] = LABELS,
    split: str = "val",
    fold: int | None = 0,
    invented: np.ndarray | None = None,
    further: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:
    """A table of scans; NaN is a structure in neither mask, `invented` says where only the prediction holds it."""
    invented = np.zeros(scores.shape, bool) if invented is None else invented
    rows = []
    for i, case in enumerate(cases):
        for j, name in enumerate(labels):
            empty = bool(np.isnan(scores[i, j]))
            status = "both_empty" if empty else "invented" if invented[i, j] else "ok"
            value = 0.0 if invented[i, j] else float(scores[i, j])
            voxels = 0 if empty or invented[i, j] else 100 + i
            row = [case, split, fold, j + 1, name, value, value / (2 - value), voxels, 0 if empty else 90, status]
            rows.append([*row, *(table[i, j] for table in (further or {}).values())])
    table = pd.DataFrame(rows, columns=[*COLUMNS, *(further or {})])
    table["fold"] = table["fold"].astype("Int64")
    return table


def write_run(
    folder: Path,
    scores: np.ndarray,
    config: Mapping[str, Any] | None = None,
    *,
    cases: Sequence[str] | None = None,
    fold: int | None = 0,
    seed: int = 0,
    train: Sequence[str] = (),
    command: Sequence[str] = (),
    cost: Mapping[str, Any] | None = None,
    sha256: str = "same",
    **table: Any,
) -> Path:
    """A run folder as `segment train` leaves it, without model, masks and pages."""
    cases = scan_names(len(scores)) if cases is None else list(cases)
    folder.mkdir(parents=True)
    scans = scan_rows_of(scores, cases, fold=fold, **table)
    write_scans(folder / "scans.csv", scans)
    protocol = {"dataset": "balls", "split": "val", "fold": fold, "overlap": 0.5, "test_time_augmentation": False}
    means = {"mean": 0.5, "sd": 0.1, "median": 0.5, "ci95": None, "n": len(cases)}  # a summary takes long to make
    metrics = {"dice": means, "iou": means}
    summary = {"foreground": metrics, "labels": dict.fromkeys(table.get("labels", LABELS), metrics)}
    rest = {"scans": len(cases), "empty": {}, "protocol": protocol, "cost": dict(cost or {})}
    write_summary(folder / "summary.json", summary | rest)
    own = {"fold": fold, "seed": seed, "name": folder.name, "output": str(folder), "augment": {"seed": seed}}
    content = {"data": {"root": "data", "seed": 0}, "optimizer": {"lr": 0.01}} | own | dict(config or {})
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    record = {
        "command": ["segment", "train", *command],
        "split": {"train": list(train), "val": list(cases)},
        "cases": {case: {"label": f"{case}.png", "sha256": {f"{case}.png": f"{sha256}-{case}"}} for case in cases},
    }
    (folder / "provenance.json").write_text(json.dumps(record))
    return folder


def write_losses(run: Path, losses: Mapping[int, float], suffix: str = "") -> None:
    """Event files as training writes them: the loss by step."""
    with SummaryWriter(run / "tensorboard", filename_suffix=suffix) as writer:
        for step, loss in losses.items():
            writer.add_scalar("train/loss", loss, step)


def diverge(run: Path, step: int = 8) -> Path:
    """Turn a finished run into an older one whose training diverged: scored, with a loss of NaN."""
    write_losses(run, {0: 1.0, step - 1: 0.9, step: math.nan, step + 1: math.nan})
    return run


def stop_short(run: Path) -> Path:
    """Turn a finished run into one that was killed before it was scored."""
    for name in ("scans.csv", "summary.json", "provenance.json"):
        (run / name).unlink()
    return run
