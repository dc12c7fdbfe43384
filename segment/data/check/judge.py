"""What only many scans together show: labels that never occur, duplicates, outliers, mixed axes, unlisted files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from segment.data.case import Case, Dataset
from segment.data.check.survey import Survey
from segment.data.layouts.common import image_files
from segment.data.problems import ERROR, WARNING, Problem, Report

OUTLIER = 3.0  # a voxel size or a scan size this many times the median, or the median this many times it
OBLIQUE = 1.0  # degrees; headers written with few digits are off by less

Surveyed = Sequence[tuple[Case, Survey]]


def judge_labels(dataset: Dataset, training: Surveyed, report: Report) -> None:
    """Report declared labels that no training scan holds; an error when none of them occurs at all.

    Args:
        dataset: The declared labels.
        training: Training cases with their facts.
        report: Where problems go.
    """
    counted = [survey.counts for _, survey in training if survey.counts]
    if not counted:
        return
    never = {
        name: value for name, value in dataset.labels.foreground.items() if not any(value in held for held in counted)
    }
    described = str(description(dataset))
    if len(never) == len(dataset.labels.foreground):
        what = f"No structure occurs in any of {len(counted)} training masks; the labels are {dataset.labels.declared}."
        report(Problem("unused", described, what, "Correct the labels' values, or the masks."))
        return
    for name, value in never.items():
        what = f"The label {name!r} (value {value}) occurs in none of {len(counted)} training masks."
        report(Problem("unused", described, what, "Take it out, or add scans that show it.", WARNING))


def description(dataset: Dataset) -> Path:
    """The file that declares a data set's labels, or its folder.

    Args:
        dataset: A data set.

    Returns:
        ``dataset.json`` where there is one.
    """
    described = dataset.root / "dataset.json"
    return described if described.is_file() else dataset.root


def judge_duplicates(training: Surveyed, tests: Surveyed, report: Report) -> None:
    """Report scans whose voxels are another's, however they are stored.

    Between training scans and between training and test scans these are errors: the score would be of what was learnt.

    Args:
        training: Training cases with their facts.
        tests: Test cases with their facts.
        report: Where problems go.
    """
    first: dict[str, tuple[Case, str]] = {}
    for part, surveyed in (("training", training), ("test", tests)):
        for case, survey in surveyed:
            if survey.constant:
                continue
            known, where = first.setdefault(survey.digest, (case, part))
            if known is not case:
                what = f"The {part} scan {case.id!r} holds the same voxels as the {where} scan {known.id!r}"
                severity = WARNING if (part, where) == ("test", "test") else ERROR
                what = f"{what} ({known.images[0]})."
                report(Problem("identical", str(case.images[0]), what, "Keep one of them.", severity))


def judge_sharing(cases: Sequence[Case], report: Report) -> None:
    """Report files that serve more than once: one mask for two scans, or an image as a mask.

    Args:
        cases: All cases.
        report: Where problems go.
    """
    owners: dict[Path, str] = {}
    for case in cases:
        for path in case.files:
            owner = owners.setdefault(path, case.id)
            if owner != case.id:
                what = f"The file belongs to two cases, {owner!r} and {case.id!r}."
                report(Problem("duplicate", str(path), what, "Give every case files of its own."))
        if case.label in case.images:
            what = f"The case {case.id!r} has one file as image and as mask."
            report(Problem("duplicate", str(case.label), what, "Name the mask."))


def judge_dimensions(surveyed: Surveyed, report: Report) -> None:
    """Report scans that are flat among volumes, or volumes among flat ones; whichever are fewer.

    Args:
        surveyed: Cases with their facts.
        report: Where problems go.
    """
    counts = Counter(len(survey.shape) for _, survey in surveyed)
    if len(counts) < 2:
        return
    few = 3 if counts[3] < counts[2] else 2
    for case, survey in surveyed:
        if len(survey.shape) == few:
            what = f"The scan is {few}D, while {counts[5 - few]} of {len(surveyed)} scans are {5 - few}D."
            report(Problem("dimensions", str(case.images[0]), what, "Split the data set into a 2D and a 3D one."))


def judge_outliers(surveyed: Surveyed, report: Report) -> None:
    """Report voxel sizes and scan sizes far from the median of all scans.

    Args:
        surveyed: Cases with their facts.
        report: Where problems go.
    """
    for dims, axes in ((2, "y, x"), (3, "z, y, x")):
        alike = [(case, survey) for case, survey in surveyed if len(survey.shape) == dims]
        if len(alike) < 3:
            continue
        for kind, unit, values in (
            ("spacing", "mm", np.array([survey.spacing for _, survey in alike])),
            ("size", "voxels", np.array([survey.shape for _, survey in alike], dtype=float)),
        ):
            median = np.median(values, axis=0)
            far = np.maximum(values / median, median / values).max(axis=1)
            for (case, _), value, factor in zip(alike, values, far, strict=True):
                if factor > OUTLIER:
                    what = (
                        f"Its {kind} is {_words(value)} {unit} along {axes}, "
                        f"{factor:.3g} times off the median {_words(median)}."
                    )
                    mend = "See whether the header is right."
                    report(Problem(kind, str(case.images[0]), what, mend, WARNING))


def _words(values: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def judge_orientations(surveyed: Surveyed, report: Report) -> None:
    """Report, once for the data set, that scans are stored along different or oblique axes.

    Args:
        surveyed: Cases with their facts.
        report: Where problems go.
    """
    held: dict[str, list[Case]] = defaultdict(list)
    for case, survey in surveyed:
        if survey.orientation:
            held[survey.orientation].append(case)
    if len(held) > 1:
        ranked = sorted(held.items(), key=lambda item: -len(item[1]))
        listed = ", ".join(f"{codes} {len(cases)} ({_hand(codes)})" for codes, cases in ranked)
        rarest = ranked[-1][1][0].images[0]
        what = (
            f"The scans are stored along different axes: {listed}. They are brought to one here, if the headers hold."
        )
        mend = "Look at one scan of each, above all where the hand differs: a wrong header swaps left and right."
        report(Problem("orientation", str(rarest), what, mend, WARNING))
    oblique = [(survey.oblique, str(case.images[0])) for case, survey in surveyed if survey.oblique > OBLIQUE]
    if oblique:
        most, path = max(oblique)
        what = f"{len(oblique)} of {len(surveyed)} scans lie oblique in the body, this one most: {most:.3g} degrees."
        report(Problem("orientation", path, what, "Nothing, if they were scanned so.", WARNING))


def _hand(codes: str) -> str:
    """Whether the axes x, y, z form a right-handed system, as those called RAS do."""
    order = ["RL", "AP", "SI"]
    axes = [next(i for i, pair in enumerate(order) if code in pair) for code in codes]
    flips = sum(code in "LPI" for code in codes)
    swaps = sum(axes[i] > axes[j] for i in range(3) for j in range(i + 1, 3))
    return "left-handed" if (flips + swaps) % 2 else "right-handed"


def judge_unlisted(dataset: Dataset, refused: str, report: Report) -> None:
    """Report image files beside the listed ones that a data set with a description does not list.

    Args:
        dataset: The data set; without a ``dataset.json`` everything that lies there is taken, so nothing is unlisted.
        refused: What was reported of the description already; files that it names are not reported twice.
        report: Where problems go.
    """
    if not (dataset.root / "dataset.json").is_file():
        return
    used = {path for case in (*dataset.cases, *dataset.test_cases) for path in case.files}
    for path in _beside(dataset, used):
        if path not in used and str(path) not in refused:
            what = "The file lies beside the scans, but the data set does not list it."
            report(Problem("unlisted", str(path), what, "List it, or take it away.", WARNING))


def _beside(dataset: Dataset, used: set[Path]) -> Iterator[Path]:
    folders = {path.parent for path in used} | {
        dataset.root / f"{part}T{s}" for part in ("images", "labels") for s in "rs"
    }
    for folder in sorted(folders):
        yield from image_files(folder)
