"""DICOM studies whose series are the channels of one scan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from segment.data.layouts.made import cached_file
from segment.data.problems import Problem, Report
from segment.errors import UserError
from segment.files import file_sha256
from segment.io.dicom.channels import channel_series, described, on_grid, studies_of
from segment.io.dicom.names import named_studies
from segment.io.dicom.series import Annotation, Series

Marked = dict[str, tuple[Series, list[Annotation]]]
Scans = dict[str, tuple[Path, ...]]
_SAID = 3


def scans_of_studies(
    root: Path,
    series: Iterable[Series],
    marked: Mapping[Path, tuple[Series, list[Annotation]]],
    channels: Sequence[str],
    cache: Path | None,
    report: Report,
) -> tuple[Marked, dict[str, Series], Scans, str]:
    """Make one scan of each study.

    Channels are on the grid of the series that was annotated, else of the first channel's. A series on another grid is
    resampled once, in the cache, if the frame of reference says how the two lie.

    Args:
        root: Folder of the studies.
        series: All series in it.
        marked: First file of a series to the series and its annotations.
        channels: Names of the channels, which find their series.
        cache: Folder for resampled series; None: the command's.
        report: Receives each study of which no scan can be made.

    Returns:
        Annotated series by name of the study; the first channel's series of those of patients without annotations; and
        the files of every scan in channel order; and a sentence about which series are which channels.
    """
    annotated: Marked = {}
    others: dict[str, Series] = {}
    scans: Scans = {}
    said: dict[str, str] = {}
    for name, items in named_studies(root, studies_of(series)).items():
        found = [marked[item.path] for item in items if item.path in marked]
        try:
            if len(found) > 1:
                raise ValueError(f"{len(found)} of its series are annotated; keep the annotations of one")
            chosen = channel_series(items, channels, {})
            like = found[0][0] if found else chosen[0]
            scans[name] = tuple(_files(name, chosen, like, cache))
        except (UserError, ValueError) as error:
            report(Problem("channels", str(items[0].path.parent), f"The study {name!r} is no scan: {error}.", ""))
            continue
        said.setdefault(described(chosen, channels), name)
        if found:
            annotated[name] = found[0]
        else:
            others[name] = chosen[0]
    known = {item.patient for item, _ in annotated.values() if item.patient}
    return annotated, {name: item for name, item in others.items() if item.patient not in known}, scans, _sentence(said)


def _sentence(said: Mapping[str, str]) -> str:
    """The choices of channels that were made, with the first study of each."""
    shown = [f"{what} (such as {name})" for what, name in list(said.items())[:_SAID]]
    more = f"; and {len(said) - _SAID} other choices" if len(said) > _SAID else ""
    return f" Channels are the series {'; '.join(shown)}{more}." if said else ""


def _files(name: str, chosen: Sequence[Series], like: Series, cache: Path | None) -> Iterator[Path]:
    for number, item in enumerate(chosen):
        key = [like.grid.shape, like.grid.affine.tolist(), *(file_sha256(path) for path in item.files)]
        yield on_grid(item, like, cached_file(cache, "channels", f"{name}_{number:04d}", key))
