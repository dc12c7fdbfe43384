"""What a run records of itself in provenance.json, besides what every command records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from segment import provenance
from segment.data.case import Case
from segment.files import hash_files
from segment.training.callbacks.early_stopping import stopped_early
from segment.training.pretrained import weights_file
from segment.workflow.experiment import Experiment
from segment.workflow.prepare import Work
from segment.workflow.start import started_from


def describe(experiment: Experiment, work: Work, trainer: pl.Trainer) -> dict[str, Any]:
    """Run-specific entries of provenance.json."""
    command = experiment.command
    chosen = {"choices": dict(command.choices), "overrides": list(command.overrides)} if command.choices else {}
    return {
        "dataset": {
            "name": work.dataset.name,
            "root": str(work.dataset.root.absolute()),
            "licence": work.dataset.licence,
        },
        **chosen,
        "notice": work.dataset.notice,
        "user_files": provenance.user_files([Path("conf"), Path("experiments")]),
        "labels": work.dataset.labels.declared,
        "region_order": list(work.dataset.labels.region_order) or None,
        "steps": trainer.global_step,
        "max_time": experiment.trainer.max_time,
        "stopped_early": stopped_early(trainer),
        "weights": _weights(experiment.weights),
        "taken": started_from(experiment.output),
        **({"cascade": work.first_stage.record(work.first_run)} if work.first_stage and work.first_run else {}),
        "split": {"train": [case.id for case in work.train], "val": [case.id for case in work.val]},
        "cases": {case.id: _case(case, work.hashes) for case in dict.fromkeys([*work.train, *work.val])},
        "test_cases": {case.id: _case(case, work.hashes) for case in work.test},
    }


def _weights(source: Path | None) -> dict[str, str]:
    """The weights file that the run started from, and its hash; empty for random weights or if the file is gone."""
    if source is None or not source.exists():
        return {}
    return hash_files([source if source.is_file() else weights_file(source)])


def _case(case: Case, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Absolute paths and hashes of a scan's files, and what else is known of it."""
    return {
        "images": [str(file.absolute()) for file in case.images],
        "label": str(case.label.absolute()) if case.label else None,
        "sha256": {str(file.absolute()): hashes[str(file)] for file in case.sources},
        **({"about": dict(case.about)} if case.about else {}),
    }
