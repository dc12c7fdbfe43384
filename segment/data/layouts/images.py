"""Images without masks, for pretraining: every image file below a folder is a scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segment.data.case import Case, Dataset
from segment.data.labels import Labels
from segment.data.layouts.common import checked, named_channels, split_channel, unique_names
from segment.data.problems import Report, raise_errors
from segment.errors import UserError
from segment.io.formats import is_image_file

LOOKED_FOR = "image files, with data.layout=images"


def recognise(root: Path) -> bool:
    """Whether a path is such a data set: never, since masks would be taken for images; the layout is asked for.

    Args:
        root: A folder or file.
    """
    return False


def read(
    root: Path,
    name: str,
    labels: Labels | None,
    channels: Sequence[str] | None,
    report: Report = raise_errors,
) -> Dataset:
    """Read every image file of a folder and the folders in it.

    Files ``CASE_0000.ext``, ``CASE_0001.ext``, ... of one folder are the channels of one scan, as in nnU-Net.

    Args:
        root: The folder.
        name: Name to give the data set.
        labels: Labels that masks would have; None for the background alone.
        channels: Channel names; None numbers them.
        report: Receives every problem; raises by default.

    Returns:
        The data set, whose cases have no masks.

    Raises:
        UserError: If there is no image.
    """
    files = sorted(path for path in root.rglob("*") if is_image_file(path) and not _is_hidden(path, root))
    scans: dict[Path, dict[int, Path]] = {}
    for path in files:
        case, channel = split_channel(path.name.partition(".")[0])
        scans.setdefault(path.with_name(case), {})[channel or 0] = path
    if any(sorted(found) != list(range(len(found))) for found in scans.values()):  # the digits are no channels
        scans = {path: {0: path} for path in files}
    if not scans:
        raise UserError(f"{root} contains no image. Put the scans there.")
    names = unique_names([*scans])
    cases = checked(
        (Case(case, tuple(found[n] for n in sorted(found))) for case, found in zip(names, scans.values(), strict=True)),
        root,
        report,
    )
    named = named_channels(cases, channels, "data.channels", report)
    return Dataset(name, root, cases, labels or Labels({"background": 0}), named)


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
