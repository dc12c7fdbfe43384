"""What a run's plan is: read from the user's file, or decided from the data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segment.data.case import Dataset
from segment.data.check.survey import Survey
from segment.errors import UserError
from segment.preprocessing.fingerprint import Fingerprint, take_fingerprint
from segment.preprocessing.plan import DatasetPlan
from segment.preprocessing.plan_file import read_plan
from segment.preprocessing.planner import Overrides, plan_dataset
from segment.workflow.experiment import PlanSettings


def decide(settings: PlanSettings, dataset: Dataset, surveys: Mapping[str, Survey]) -> DatasetPlan:
    """What nnU-Net's rules decide for a data set, from its labelled scans.

    Args:
        settings: Whose rules, the memory, and what the user decides himself.
        dataset: The data set.
        surveys: Facts about its scans by case id.
    """
    overrides = Overrides(settings.spacing, settings.patch_size, settings.batch_size, settings.normalization)
    fingerprint = fingerprint_of(dataset, surveys)
    return plan_dataset(fingerprint, dataset.name, settings.preset, settings.memory, overrides, settings.where)


def fingerprint_of(dataset: Dataset, surveys: Mapping[str, Survey]) -> Fingerprint:
    """What nnU-Net's rules go by: all labelled scans, not one fold's; it counts the ignore label too."""
    found = (surveys[case.id] for case in dataset.cases)
    return take_fingerprint(found, dataset.channels, len(dataset.labels.declared))


def read_decided(path: Path, dataset: Dataset) -> DatasetPlan:
    """A plan file, for a data set of as many channels.

    Raises:
        UserError: When the file is no plan, or not of this data set.
    """
    decided = read_plan(path)
    if len(decided.channels) != len(dataset.channels):
        raise UserError(
            f"plan={path}: made for {len(decided.channels)} channel(s), but data set {dataset.name!r} has "
            f"{len(dataset.channels)}. Write a plan of its own: segment plan data=... output=plan.yaml"
        )
    return decided
