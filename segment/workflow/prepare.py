"""Opens, checks, splits, plans and prepares the data of a run. Writes to the cache only."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from segment.augment.counter import generator
from segment.data.case import Case, Dataset, Fold
from segment.data.check.dataset import Tests
from segment.data.splits import folds, inner_fold, pick_fold
from segment.errors import UserError
from segment.files import writable_by_others
from segment.memory import require_memory
from segment.preprocessing.cascade import network_channels
from segment.preprocessing.plan import DatasetPlan, Plan
from segment.preprocessing.store import Store
from segment.runs.folder import RunFolder
from segment.workflow.cascade import FirstStage, read_first_stage
from segment.workflow.check import checked_data
from segment.workflow.experiment import CASCADE, DataSource, Experiment, PlanSettings
from segment.workflow.plan import decide, read_decided


@dataclass(frozen=True)
class Work:
    """The prepared data of a run: everything that is read before anything is written.

    Attributes:
        dataset: The data set.
        folds: All folds.
        train: Training scans of the fold.
        val: Validation scans of the fold.
        test: Test scans that have a label; only scored, so they are not prepared.
        hashes: SHA-256 of every file of these scans, by path.
        decided: The plan of the data set, decided from its training scans.
        plan: The configuration of the plan that is trained.
        store: The prepared scans.
        planned_from: Where the plan comes from, in words.
        first_stage: The first stage's runs, in the second stage of a cascade.
        first_run: The one whose model becomes part of the second stage.
    """

    dataset: Dataset
    folds: list[Fold]
    train: list[Case]
    val: list[Case]
    test: list[Case]
    hashes: Mapping[str, str]
    decided: DatasetPlan
    plan: Plan
    store: Store
    planned_from: str
    first_stage: FirstStage | None = None
    first_run: RunFolder | None = None
    unlabelled: Sequence[Case] = ()


def prepare(experiment: Experiment) -> Work:
    """Check the data set, choose the fold, decide the plan and prepare the scans."""
    dry = bool(experiment.overfit or experiment.trainer.fast_dev_run)
    chosen: list[Fold] = []

    def training(dataset: Dataset) -> Sequence[str]:
        chosen.extend(folds_of(experiment, dataset))
        return pick_fold(chosen, experiment.fold)["train"]

    given = experiment.cascade
    first_stage: list[FirstStage] = []

    def masks(dataset: Dataset, hashes: Mapping[str, str]) -> Mapping[str, tuple[Path, str]]:
        first_stage.append(read_first_stage(str(given), dataset, hashes))
        return first_stage[0].masks

    store, decided = planned_store(
        experiment.data,
        experiment.plan,
        "none" if dry else "all" if experiment.mean_teacher else "labelled",
        training,
        masks if given else None,
    )
    dataset = store.dataset
    if unlabelled := [case.id for case in dataset.cases if case.label is None]:
        raise UserError(
            f"{dataset.root}: {len(unlabelled)} scans have no mask (such as {unlabelled[0]}), so there is no target to "
            "learn. 'segment pretrain' learns from images alone."
        )
    require_patch_memory(dataset, store.plan, on_cpu=experiment.trainer.accelerator == "cpu")
    by_id = {case.id: case for case in dataset.cases}
    all_folds = chosen or folds_of(experiment, dataset)
    fold = pick_fold(all_folds, experiment.fold)
    train, val = ([by_id[i] for i in fold[part]] for part in ("train", "val"))
    fold_train = train
    if experiment.labelled is not None:
        train = subset(train, experiment.labelled, experiment.seed)
    if experiment.overfit:
        train = val = train[: experiment.overfit]
    for stage in first_stage:
        stage.require([*train, *val])
    images_only = _images_only(experiment, dataset, [case for case in fold_train if case not in train])
    prepare_cases(store, list(dict.fromkeys([*train, *val, *images_only])))
    test = [case for case in dataset.test_cases if case.label and not (dry or experiment.nested)]
    origin = {"all": "all labelled scans", "train": "training scans"}[experiment.plan.origin]
    origin = origin if experiment.plan.file is None else "a file"
    work = Work(dataset, all_folds, train, val, test, store.hashes, decided, store.plan, store, origin)
    work = replace(work, unlabelled=images_only)
    if not first_stage:
        return work
    # Of the whole fold, also where parts of its training scans are trained and scored on.
    validated = pick_fold(folds(dataset, experiment.folds, file=experiment.data.splits), experiment.fold)["val"]
    return replace(work, first_stage=first_stage[0], first_run=first_stage[0].run_of(validated))


def _images_only(experiment: Experiment, dataset: Dataset, left: Sequence[Case]) -> list[Case]:
    """The scans whose images alone are learned from: training scans that are left out, and test scans without a mask.

    Raises:
        UserError: When there are none, though they are asked for.
    """
    if experiment.mean_teacher is None:
        return []
    dry = bool(experiment.overfit or experiment.trainer.fast_dev_run)
    found = [*left, *(case for case in dataset.test_cases if not case.label and not dry)]
    if not found:
        raise UserError(
            f"mean_teacher.weight={experiment.mean_teacher.weight:g}: there is no scan to learn from without its mask. "
            "Give labelled=N, which leaves training scans out, or a data set with images without masks in imagesTs/."
        )
    return found


def subset(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """The first of the cases in an order drawn from the seed: a smaller subset is a part of a larger one.

    Args:
        cases: Training scans.
        count: How many of them.
        seed: The run's seed.

    Raises:
        UserError: When there are fewer, or none is asked for.
    """
    if not 1 <= count <= len(cases):
        raise UserError(f"labelled={count}: the fold has {len(cases)} training scans. Give a number from 1 to that.")
    order = generator(seed, 0, "labelled").permutation(len(cases))[:count]
    return [cases[index] for index in sorted(order)]


def require_patch_memory(dataset: Dataset, plan: Plan, on_cpu: bool) -> None:
    """Refuse a batch that alone exceeds the memory; on the CPU with its first features and their gradients."""
    numbers = network_channels(plan, dataset.labels) + 1
    if on_cpu:
        numbers += 2 * (dataset.labels.outputs + max(plan.features[:1], default=0))
    require_memory(
        4 * plan.batch_size * math.prod(plan.patch_size) * numbers,
        f"plan.patch_size={list(plan.patch_size)} with plan.batch_size={plan.batch_size}: a batch",
        "Give a smaller plan.patch_size or plan.batch_size.",
    )


def folds_of(experiment: Experiment, dataset: Dataset) -> list[Fold]:
    """The folds of the data set; with ``nested``, that of the experiment is a split of its training scans."""
    found = folds(dataset, experiment.folds, file=experiment.data.splits)
    if not experiment.nested:
        return found
    inner = inner_fold(dataset, pick_fold(found, experiment.fold), experiment.folds)
    return [inner if number == experiment.fold else fold for number, fold in enumerate(found)]


def planned(plan: Plan) -> dict[str, Any]:
    """The plan's values for networks and losses, interpolated as ``${planned:features,DEFAULT}``."""
    # nnU-Net gives the decoder's two coarsest resolutions zero weight.
    heads = max(0, len(plan.features) - 3) if plan.features else None
    return plan.as_dict() | {"deep_supervision": heads}


def planned_store(
    data: DataSource,
    settings: PlanSettings,
    tests: Tests = "none",
    training: Callable[[Dataset], Sequence[str]] | None = None,
    previous: Callable[[Dataset, Mapping[str, str]], Mapping[str, tuple[Path, str]]] | None = None,
) -> tuple[Store, DatasetPlan]:
    """Check and plan a data set, and open the store of its prepared scans, which may be empty.

    Args:
        data: The data set.
        settings: The user's settings of the plan.
        tests: Which test scans to check too; none of them has an influence on the plan.
        training: Returns the ids of the scans that a run trains on, if it plans from these alone (``plan.from=train``).
        previous: Returns file and SHA-256 of the first stage's mask of each scan, given the data set and the hashes of
            its files; None if the plan is not that of a cascade's second stage.

    Raises:
        UserError: When the data set is not valid, or the plan does not fit it.
    """
    checked = checked_data(data, tests=tests)
    dataset = checked.dataset
    assert dataset is not None
    if dataset.notice:
        print(f"Note: {dataset.notice}", file=sys.stderr)
    if checked.warnings:
        count = len(checked.warnings)
        warnings = "1 warning" if count == 1 else f"{count} warnings"
        print(f"Note: {warnings} about the data set. To list them: {data.check}", file=sys.stderr)
    if settings.file is None:
        only = set(training(dataset)) if training is not None and settings.origin == "train" else None
        decided = decide(settings, dataset, checked.surveys, only)
    else:
        decided = read_decided(settings.file, dataset)
    plan = decided.pick(settings.configuration)
    if plan.previous_stage and previous is None:
        raise UserError(
            f"plan.configuration={settings.configuration}: is the second stage of a cascade, which needs the masks of "
            f"the first. Train that with plan.configuration={plan.previous_stage} fold=all, then this one with "
            "cascade=RUN, the run folder of those folds."
        )
    if previous is not None and not plan.previous_stage:
        raise UserError(
            f"plan.configuration={settings.configuration}: is no second stage of a cascade. Leave out cascade=, or "
            f"give plan.configuration={CASCADE}."
        )
    patch_size = settings.patch_size
    if patch_size is not None and len(patch_size) != len(plan.patch_size):
        raise UserError(
            f"plan.patch_size={list(patch_size)}: the plan's configuration has patches with {len(plan.patch_size)} "
            "axes. Give as many numbers, or another plan.configuration."
        )
    masks = previous(dataset, checked.hashes) if previous else {}
    store = Store(data.cache / "prepared", dataset, plan, checked.hashes, masks, data.dtype)
    if any(map(writable_by_others, (data.cache, store.folder))):
        print(
            f"Note: other users can write to {data.cache}, and a run trains on what lies there. Take that right from "
            "them (chmod -R o-w), or give another cache=.",
            file=sys.stderr,
        )
    return store, decided


def prepare_share(
    data: DataSource, settings: PlanSettings, share: tuple[int, int] = (1, 1)
) -> tuple[Store, Sequence[Case]]:
    """Check, plan and prepare a data set for trainings to come, or one of several equal shares of its scans.

    Args:
        data: The data set.
        settings: The plan's settings of these trainings.
        share: Its number, from 1, and the number of shares.

    Returns:
        The store, and the share's scans.

    Raises:
        UserError: When the data set is not valid, the plan does not fit it, or a scan cannot be prepared.
    """
    store, _ = planned_store(data, settings, "labelled")
    number, shares = share
    cases = store.dataset.cases[number - 1 :: shares]
    prepare_cases(store, cases)
    return store, cases


def prepare_cases(store: Store, cases: Sequence[Case]) -> None:
    """Prepare scans, with progress on stderr."""
    columns = (TextColumn("preparing scans"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("preparing scans", total=len(cases))
        store.prepare(cases, progress=lambda done: bar.update(task, completed=done))
