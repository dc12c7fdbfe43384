"""Two folders, ``images/`` and ``labels/``, with one file a scan of the same name in each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segment.data.case import Case, Dataset
from segment.data.labels import Labels
from segment.data.layouts.common import (
    by_stem,
    checked,
    found_labels,
    image_files,
    named_channels,
    split_channel,
)
from segment.errors import UserError

LOOKED_FOR = "images/ and labels/ (or masks/, or imagesTr/ and labelsTr/) with files of equal names"
_PAIRS = (("images", "labels"), ("images", "masks"), ("imagesTr", "labelsTr"))


def recognise(root: Path) -> bool:
    """Whether a folder holds images and labels side by side.

    Args:
        root: A folder or file.

    Returns:
        True when one of the known pairs of folders lies in it.
    """
    return _pair(root) is not None


def read(root: Path, name: str, labels: Labels | None, channels: Sequence[str] | None) -> Dataset:
    """Read the cases of two folders.

    A scan of several files is ``CASE_0000.ext``, ``CASE_0001.ext``, ... with the mask ``CASE.ext``; mask and image may
    be of different formats. ``imagesTs/`` (with ``labelsTs/``) holds test scans, when it is there.

    Args:
        root: The folder with both folders.
        name: Name to give the data set.
        labels: What the masks hold; None names them after the values found, which reads every mask.
        channels: Channel names; None numbers them.

    Returns:
        The data set.

    Raises:
        UserError: Names the image without a mask or the mask without an image.
    """
    pair = _pair(root)
    if pair is None:
        raise UserError(f"{root} does not hold {LOOKED_FOR}.")
    images, masks = root / pair[0], root / pair[1]
    cases = checked(_cases(images, masks, need_label=True), root)
    if not cases:
        raise UserError(f"{images} holds no image file. Put the scans there.")
    counts = {len(case.images): case.id for case in cases}
    if len(counts) > 1:
        raise UserError(
            f"{images}: the cases {', '.join(map(repr, counts.values()))} have different numbers of channels."
        )
    tests = checked(_cases(root / "imagesTs", root / "labelsTs", need_label=False), root)
    table = found_labels(cases) if labels is None else labels
    return Dataset(name, root, cases, table, named_channels(cases, channels, "data.channels"), tests)


def _pair(root: Path) -> tuple[str, str] | None:
    return next((pair for pair in _PAIRS if all((root / folder).is_dir() for folder in pair)), None)


def _cases(images: Path, masks: Path, need_label: bool) -> list[Case]:
    labels = by_stem(image_files(masks))
    files: dict[str, dict[int, Path]] = {}
    for name, path in by_stem(image_files(images)).items():
        # A name that a mask bears is a whole name, even when it ends in four digits.
        case, channel = (name, 0) if name in labels else split_channel(name)
        known = files.setdefault(case, {}).setdefault(channel or 0, path)
        if known != path:
            raise UserError(f"{path} and {known.name} are the same channel of case {case!r}. Keep one of them.")
    lonely = sorted(set(labels) - set(files))
    if lonely:
        raise UserError(
            f"{labels[lonely[0]]} has no image {images.name}/{lonely[0]}.* beside it. Add it or move the mask."
        )
    found = []
    for case, channels in files.items():
        if sorted(channels) != list(range(len(channels))):
            raise UserError(
                f"{images}: case {case!r} has the channels {sorted(channels)}; one is missing. Add its file."
            )
        if need_label and case not in labels:
            raise UserError(
                f"{channels[0]} has no mask {masks.name}/{case}.* beside it. Add it, or move the image to imagesTs/, "
                "where scans without a mask belong."
            )
        found.append(Case(case, tuple(channels[number] for number in sorted(channels)), labels.get(case)))
    return found
