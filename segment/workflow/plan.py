"""The plan of a run: read from the user's file, or derived from the data set."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path

from segment.data.case import Dataset
from segment.data.check.survey import Survey
from segment.errors import UserError
from segment.preprocessing.fingerprint import Fingerprint, take_fingerprint
from segment.preprocessing.plan import DatasetPlan
from segment.preprocessing.plan_file import read_plan
from segment.preprocessing.planner import Overrides, plan_dataset
from segment.workflow.experiment import PlanSettings


def decide(
    settings: PlanSettings, dataset: Dataset, surveys: Mapping[str, Survey], only: Container[str] | None = None
) -> DatasetPlan:
    """Plan a data set by nnU-Net's rules, from its labelled scans.

    Args:
        settings: The preset, the memory, and the user's own decisions.
        dataset: The data set.
        surveys: Surveys of its scans by case id.
        only: Ids of the scans to plan from; None: all labelled scans, as nnU-Net does, those of validation included.
    """
    overrides = Overrides(settings.spacing, settings.patch_size, settings.batch_size, settings.normalization)
    fingerprint = fingerprint_of(dataset, surveys, only)
    return plan_dataset(fingerprint, dataset.name, settings.preset, settings.memory, overrides, settings.where)


def fingerprint_of(dataset: Dataset, surveys: Mapping[str, Survey], only: Container[str] | None = None) -> Fingerprint:
    """The fingerprint for nnU-Net's rules: of all labelled scans unless `only` some, ignore label included."""
    found = (surveys[case.id] for case in dataset.cases if only is None or case.id in only)
    return take_fingerprint(found, dataset.channels, len(dataset.labels.declared))


def read_decided(path: Path, dataset: Dataset) -> DatasetPlan:
    """Read a plan file and check that it has as many channels as the data set.

    Raises:
        UserError: When the file is not a plan, or its number of channels differs from the data set's.
    """
    decided = read_plan(path)
    if len(decided.channels) != len(dataset.channels):
        raise UserError(
            f"plan={path}: made for {len(decided.channels)} channel(s), but data set {dataset.name!r} has "
            f"{len(dataset.channels)}. Write a new plan: segment plan data=... output=plan.yaml"
        )
    return decided
