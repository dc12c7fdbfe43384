"""Images with annotations of LabelImg (Pascal VOC or YOLO), LabelMe, COCO or CVAT; masks are drawn from them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Literal

import numpy as np

from segment.data.case import Case, Dataset
from segment.data.labels import MAX_LABELS, Labels
from segment.data.layouts.common import PARTS, checked, image_files, named_channels, stated_fold, unique_names
from segment.data.layouts.made import Recipe, make_masks
from segment.data.problems import ERROR, WARNING, Problem, Report, raise_errors, reported
from segment.errors import UserError
from segment.io.annotations.find import Found, find_annotations
from segment.io.annotations.raster import BOXES, draw
from segment.io.annotations.shapes import Annotated, Shape
from segment.io.formats import is_image_file, stem
from segment.io.geometry import Grid
from segment.io.images import read_grid

LOOKED_FOR = "images with annotations of LabelImg (XML or YOLO), LabelMe, COCO or CVAT"
_MASKS = ("labels", "masks", "labelsTr", "labels/train", "masks/train", "train/labels", "train/masks")
_MOST_NAMED = 12  # labels in the notice
_LISTS = ("Main", "Segmentation", "Layout")  # folders in Pascal VOC's ImageSets/


@dataclass(frozen=True)
class _Item:
    """An annotated image, its shapes in pixels: its file, its grid, and the part of the data set it belongs to."""

    annotated: Annotated
    image: Path
    grid: Grid
    part: str


def recognise(root: Path) -> bool:
    """Whether a folder contains annotations and no masks.

    Args:
        root: A folder or file.

    Returns:
        True if the first file that may hold annotations does.
    """
    if not root.is_dir() or any(image_files(root / folder) for folder in _MASKS):
        return False
    return find_annotations(root) is not None


def read(
    root: Path,
    name: str,
    labels: Labels | None,
    channels: Sequence[str] | None,
    report: Report = raise_errors,
    cache: Path | None = None,
    boxes: Literal["box", "ellipse"] = "box",
) -> Dataset:
    """Read annotated images, and draw their masks.

    Pascal VOC's official lists (``ImageSets/Main/train.txt``, ``val.txt``, ``test.txt``), or else folders or files of
    annotations called ``train``, ``val`` and ``test``, become the fold and the test scans.

    Args:
        root: The folder with images and annotations.
        name: Name to give the data set.
        labels: Value of each label; None gives the values 1, 2, ... in the order that the annotations state, else by
            name.
        channels: Channel names; None numbers them.
        report: Receives every problem, such as an object without an area; raises at the first error by default.
        cache: Folder in which the masks that are drawn are kept; None: the command's.
        boxes: What boxes are drawn as: ``box`` or ``ellipse``.

    Returns:
        The data set; its cases have the boxes as well.

    Raises:
        UserError: If there is no annotated image, or no such way to draw a box.
    """
    if boxes not in BOXES:
        raise UserError(f"data.boxes={boxes}: there is no such way to draw a box. Give one of {', '.join(BOXES)}.")
    found = find_annotations(root)
    if found is None:
        raise UserError(f"{root} does not contain {LOOKED_FOR}.")
    annotated, stated = _read(found, report)
    values = _values(annotated, stated, labels, report)
    items = _located(root, found, annotated, report)
    names = unique_names([item.image for item in items])
    background = 0 if labels is None else labels[labels.background]
    recipes = [_recipe(case, item, values, boxes, background) for case, item in zip(names, items, strict=True)]
    made = make_masks(recipes, cache, report)
    parts = dict(zip(names, (item.part for item in items), strict=True))
    cases = checked(
        (
            Case(case, (item.image,), made[case], boxes=item.annotated.boxes, made_from=(item.annotated.file,))
            for case, item in zip(names, items, strict=True)
            if case in made
        ),
        root,
        report,
    )
    training = tuple(case for case in cases if parts[case.id] != "test")
    if not training:
        raise UserError(f"{root} has no annotated image to train on. Check data.root.")
    return Dataset(
        name=name,
        root=root,
        cases=training,
        labels=labels or Labels({"background": 0, **values}),
        channels=named_channels(training, channels, "data.channels", report),
        test_cases=tuple(case for case in cases if parts[case.id] == "test"),
        notice=_notice(annotated, values, boxes),
        folds=stated_fold(training, parts),
    )


def _read(found: Found, report: Report) -> tuple[list[Annotated], dict[str, int]]:
    """All annotated images, and the values of labels that the files state; reports objects that cannot be drawn."""
    annotated: list[Annotated] = []
    values: dict[str, int] = {}
    for file in found.files:
        with reported(report, "unreadable", file):
            content = found.read(file)
            if content is not None:
                annotated += content.images
                values = {**content.values, **values}
    for item in annotated:
        for what in item.left_out:
            fix = "Draw it again, or remove it; it is left out."
            report(Problem("shapes", str(item.file), what, fix, WARNING))
    return annotated, values


def _values(
    annotated: Sequence[Annotated], stated: Mapping[str, int], labels: Labels | None, report: Report
) -> dict[str, int]:
    """Label to value: the user's, the annotations' own, or else by name."""
    drawn: dict[str, Path] = {}
    counts: Counter[str] = Counter()
    for item in annotated:
        for shape in item.shapes:
            if not _is_background(shape.label):
                drawn.setdefault(shape.label, item.file)
                counts[shape.label] += 1
    if labels is None:
        stated = {label: value for label, value in stated.items() if not _is_background(label)}
        complete = drawn.keys() <= stated.keys() and len({*stated.values()}) == len(stated)
        values = stated if complete and stated else {label: n for n, label in enumerate(sorted(drawn), 1)}
        if not 1 <= len(values) < MAX_LABELS:
            raise UserError(f"The annotations have {len(values)} labels, not 1 to {MAX_LABELS - 1}. Give data.labels.")
        return values
    values = labels.foreground | ({} if labels.ignore is None else {"ignore": labels.ignore})
    for label in sorted(drawn.keys() - values.keys()):
        what = (
            f"Objects labelled {label!r} are left out ({counts[label]:,}, the first here), as no label given is theirs."
        )
        report(Problem("shapes", str(drawn[label]), what, "Give it a value to use them.", WARNING))
    for label in sorted(labels.foreground.keys() - drawn.keys()) if drawn else ():
        what = f"No object is labelled {label!r}; there are {', '.join(sorted(drawn)[:_MOST_NAMED])}."
        file = annotated[0].file
        report(Problem("shapes", str(file.parent), what, "Spell labels as the annotations do.", WARNING))
    return values


def _is_background(label: str) -> bool:
    """Whether objects of a label are drawn as background, to cut something out."""
    return label.lower() in ("background", "_background_", "__background__")


def _located(root: Path, found: Found, annotated: Sequence[Annotated], report: Report) -> list[_Item]:
    """The annotated images that are there, each with its part of the data set."""
    candidates: dict[str, list[Path]] = defaultdict(list)
    for path in found.images:
        candidates[stem(path)].append(path)
    lists, items = _official_lists(root), []
    for item in annotated:
        written = PureWindowsPath(item.image)
        name = stem(written.name) if is_image_file(written.name) else written.name
        if not (paths := candidates.get(name)):
            report(Problem("missing", str(item.file), f"Its image {item.image!r} is not there.", "Add it."))
            continue
        image = max(paths, key=lambda path: _nearness(path, written, item.file))
        with reported(report, "unreadable", image):
            grid = read_grid(image)
            if grid.ndim != 2:
                raise UserError(f"{image} is not 2D, so outlines cannot be drawn on it. Give masks for it.")
            height, width = grid.shape
            if item.size not in (None, (width, height)):
                what = f"It was drawn on {item.size[0]} x {item.size[1]} pixels, but {image} has {width} x {height}."
                report(
                    Problem("grid", str(item.file), what, "Draw it again, or give the image it was drawn on.", ERROR)
                )
                continue
            part = lists.get(name, "") if lists else _part_of(image.relative_to(root), item.file)
            items.append(_Item(item.in_pixels(width, height), image, grid, part))
    known = {file.stem for file in found.files} | {stem(PureWindowsPath(item.image).name) for item in annotated}
    unused = [path for path in found.images if stem(path) not in known]
    if unused:
        what = f"{len(unused)} of {len(found.images)} images have no annotation."
        report(Problem("unlisted", str(root), what, "They are left out; annotate them to use them.", WARNING))
    return _listed(items, lists, report)


def _listed(items: list[_Item], lists: Mapping[str, str], report: Report) -> list[_Item]:
    """The images that official lists name, if there are any."""
    if not lists:
        return items
    for item in items:
        if not item.part:
            what = "No list in ImageSets/ names its image."
            report(Problem("unlisted", str(item.annotated.file), what, "Add the image to a list.", WARNING))
    return [item for item in items if item.part]


def _nearness(path: Path, written: PureWindowsPath, file: Path) -> tuple[int, int]:
    """How well an image of the right name fits: folders shared with the path as written, then with the annotations."""
    same = 0
    for one, other in zip(path.parts[-2::-1], written.parts[-2::-1], strict=False):
        if one != other:
            break
        same += 1
    return same, len({*path.parts[:-1]} & {*file.parts[:-1]})


def _official_lists(root: Path) -> dict[str, str]:
    """Name of an image to its part, from Pascal VOC's lists; ``test`` and ``val`` count before ``trainval``."""
    folder = next((root / "ImageSets" / name for name in _LISTS if (root / "ImageSets" / name).is_dir()), None)
    found: dict[str, str] = {}
    for name in ("trainval", "train", "val", "test"):
        path = (folder or root) / f"{name}.txt"
        if folder is not None and path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            found |= {line.split()[0]: PARTS[name] for line in lines if line.strip()}
    return found


def _part_of(image: Path, file: Path) -> str:
    """The part that a folder of an image is called, or else the file of annotations; empty if none is."""
    words = [*image.parts[:-1], *re.split(r"[^a-z]+", file.stem.lower())]
    return next((PARTS[word.lower()] for word in words if word.lower() in PARTS), "")


def _recipe(
    case: str, item: _Item, values: Mapping[str, int], boxes: Literal["box", "ellipse"], background: int
) -> Recipe:
    height, width = item.grid.shape
    values = {shape.label: background for shape in item.annotated.shapes if _is_background(shape.label)} | {**values}
    make = partial(draw, item.annotated.shapes, (height, width), values, boxes, background)
    key = [_digest(item.annotated.shapes), dict(sorted(values.items())), boxes, background]
    return Recipe(case, item.annotated.file, item.grid, key, make)


def _digest(shapes: Iterable[Shape]) -> str:
    """A hash of everything that is drawn."""
    digest = hashlib.blake2b(digest_size=16)
    for shape in shapes:
        runs = np.zeros(0, np.int64) if shape.runs is None else shape.runs
        digest.update(repr((shape.label, shape.kind, shape.angle, shape.columns, *map(len, shape.rings))).encode())
        for part in (*shape.rings, runs):
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _notice(annotated: Sequence[Annotated], values: Collection[str], boxes: str) -> str:
    """Which objects are used and how masks are drawn from it."""
    counts = Counter(box.label for item in annotated for box in item.boxes if box.label in values)
    common = counts.most_common(_MOST_NAMED)
    listed = ", ".join(f"{count:,} {label}" for label, count in common)
    listed += f" and {len(counts) - len(common)} more labels" if len(counts) > len(common) else ""
    drawn = {"box": "boxes", "ellipse": "boxes as ellipses"}[boxes]
    return f"Masks are drawn from annotations ({listed}): {drawn}, outlines and masks, later ones over earlier ones."
