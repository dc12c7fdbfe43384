"""Finds the scans to predict and checks the folder of their masks, without importing torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from segment.data.layouts.common import ARCHIVES, image_files, split_channel
from segment.errors import UserError
from segment.inference.journal import interrupted
from segment.io.dicom.channels import channel_series, described, on_grid, studies_of
from segment.io.dicom.files import is_dicom
from segment.io.dicom.names import named_series, named_studies, notes_of
from segment.io.dicom.series import Series, contents, contents_of_folder, series_of
from segment.io.formats import is_image_file, listed, mask_suffix, stem, suffix
from segment.io.formats.dicom import Dicom
from segment.io.images import count_channels
from segment.io.mask_formats import ENDINGS
from segment.io.masks import require_series

Scan = tuple[str, list[Path]]
"""Name of the mask file, and the scan's image files in channel order."""


PROBABILITIES, UNCERTAINTY, CONFORMAL = "probabilities", "uncertainty", "conformal"
"""Folders of the maps that can be written beside the masks."""


def check_maps(scans: Sequence[Scan]) -> None:
    """Check that no two scans would have maps of one name, which are NIfTI whatever the format of the mask.

    Raises:
        UserError: When two would.
    """
    named: dict[str, str] = {}
    for name, _ in scans:
        other = named.setdefault(stem(Path(name)), name)
        if other != name:
            raise UserError(
                f"input: {other} and {name} would have maps of the same name. Rename one, or predict them apart."
            )


def check_masks(output: Path, scans: Sequence[Scan], overwrite: bool) -> None:
    """Check that no mask would replace an input or, unless asked for, another mask.

    Args:
        output: Folder of the masks; need not exist.
        scans: From `find_scans`.
        overwrite: Whether masks that exist may be replaced. Those of an interrupted prediction may be there too.

    Raises:
        UserError: When a file would be replaced.
    """
    inputs = {file.resolve() for _, files in scans for file in files}
    for name, _ in scans:
        if (output / name).resolve() in inputs:
            raise UserError(f"output={output}: the mask {name} would overwrite an input. Give another folder.")
    there = [name for name, _ in scans if (output / name).exists()]
    if there and not overwrite:
        done = interrupted(output)
        there = [name for name in there if name not in done]
    if there and not overwrite:
        exist = f"and {len(there) - 1} more exist" if len(there) > 1 else "exists"
        raise UserError(
            f"output={output}: the mask {there[0]} {exist}. Give another folder, or overwrite=true to replace masks."
        )


@dataclass(frozen=True)
class Studies:
    """How the series of a DICOM study become the channels of one scan.

    Attributes:
        channels: Names of the model's channels.
        given: Channel to the description of its series; others are found by the channel's name.
        folder: For series that are resampled to the grid of the first channel's.
        say: Receives a sentence on each study.
    """

    channels: Sequence[str]
    given: Mapping[str, str]
    folder: Path
    say: Callable[[str], None] = lambda text: None


def find_scans(source: Path, channels: int, studies: Studies | None = None, key: str = "input") -> Iterator[Scan]:
    """Find the scans in a file or folder.

    Args:
        source: An image file or a folder of them. Files NAME_0000, NAME_0001, ... are the channels of one scan if the
            model has several channels and each file one. Or a folder with DICOM series, in it or its subfolders, or a
            file of one.
        channels: Channels of the model.
        studies: If series of one study are the channels of one scan; None: each series is a scan.
        key: What the user gave the source as, for errors.

    Yields:
        (name of the mask file, the scan's image files in channel order).

    Raises:
        UserError: When the file does not exist, the folder has no image, or a scan lacks a channel.
    """
    if not source.exists():
        raise UserError(f"{key}={source}: there is no such file or folder.")
    if series := find_series(source):
        if studies is not None and channels > 1 and source.is_dir():
            yield from _of_studies(source, series.values(), studies, key)
            return
        for name, item in series.items():
            yield f"{name}{Dicom.mask_suffix}", [item.path]
        return
    if source.is_file() and not is_image_file(source):
        raise UserError(f"{key}={source}: is not an image file. Formats read: {listed()}.")
    files = [source] if source.is_file() else image_files(source)
    if not files:
        raise no_images(key, source)
    yield from _scans_of(files, channels)


def _of_studies(source: Path, series: Iterable[Series], studies: Studies, key: str) -> Iterator[Scan]:
    """A scan for each study, of the series that are its channels, on the grid of the first one."""
    channels = studies.channels
    unknown = next((name for name in studies.given if name not in channels), None)
    if unknown is not None:
        raise UserError(f"series.{unknown}: the model has no such channel. It has: {', '.join(channels)}.")
    for name, items in named_studies(source, studies_of(series)).items():
        if all(item.stack.slices[0].samples == len(channels) for item in items):  # colours
            yield from ((f"{own}{Dicom.mask_suffix}", [item.path]) for own, item in named_series(source, items).items())
            continue
        try:
            chosen = channel_series(items, channels, studies.given)
            files = [
                on_grid(item, chosen[0], studies.folder / name / f"{number:04d}.nii")
                for number, item in enumerate(chosen)
            ]
        except ValueError as error:
            hint = " Say which is which: 'series={CHANNEL: DESCRIPTION}'." if "fit" in str(error) else ""
            raise UserError(f"{key}={source}: in the study {name!r}, {error}.{hint}") from error
        studies.say(f"the channels of {name} are the series {described(chosen, channels)}.")
        yield f"{name}{Dicom.mask_suffix}", files


def _scans_of(files: Sequence[Path], channels: int) -> Iterator[Scan]:
    """Scans of files of any format but DICOM, by their names; see `find_scans`."""
    for (name, _), members in groupby(sorted(files, key=_scan_key), key=_scan_key):
        group = list(members)
        numbers = [split_channel(stem(file))[1] for file in group]
        if numbers == [None]:
            yield _mask_name(group[0]), group
        elif numbers == list(range(channels)) and not _holds_all(group[0], channels):
            yield f"{name}{mask_suffix(group[0])}", group
        elif (channels == 1 or _holds_all(group[0], channels)) and len(set(numbers)) == len(numbers):
            # Every file is a whole scan, whose name happens to end in four digits.
            yield from ((_mask_name(file), [file]) for file in group)
        elif len(set(numbers)) < len(numbers):
            raise UserError(f"{group[0]} and {group[1].name} would have one mask, {_mask_name(group[0])}. Rename one.")
        else:
            raise UserError(
                f"{group[0]}: the scan {name!r} has the channels {numbers}, but the model needs 0 to {channels - 1}. "
                "Give exactly one file per channel of the model."
            )


def _holds_all(file: Path, channels: int) -> bool:
    """Whether one file has every one of several channels, as a colour image."""
    try:
        return channels > 1 and count_channels(file) == channels
    except UserError:  # a damaged file, which is reported when it is predicted
        return False


def _mask_name(file: Path) -> str:
    return f"{stem(file)}{mask_suffix(file)}"


def renamed(scans: Iterable[Scan], kind: str) -> list[Scan]:
    """Name masks for a format.

    Args:
        scans: From `find_scans`.
        kind: One of `segment.io.mask_formats.ENDINGS`, or ``own`` for names as they are.

    Raises:
        UserError: If the format refers to a DICOM series and a scan is none, or two masks would have one name.
    """
    scans = list(scans)
    if kind == "own":
        return scans
    for _, files in scans:
        require_series(files[0], kind)
    found = [(f"{stem(name)}{ENDINGS[kind]}", files) for name, files in scans]
    twice = next((name for name, count in Counter(name for name, _ in found).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"output_format={kind}: two scans would have the mask {twice}. Rename one of them.")
    return found


def no_images(key: str, source: Path) -> UserError:
    """The error about a folder without images, which says where some are.

    Args:
        key: What the user gave the folder as.
        source: The folder.
    """
    inside = sorted(source.iterdir()) if source.is_dir() else []
    folder = next((path for path in inside if path.is_dir() and image_files(path)), None)
    if folder is not None:
        return UserError(f"{key}={source}: has no image file itself; its folder {folder.name!r} has. Give {folder}.")
    packed = next((path for path in inside if path.name.lower().endswith(ARCHIVES)), None)
    if packed is not None:
        return UserError(f"{key}={source}: has no image file, but the archive {packed.name}. Unpack it.")
    return UserError(f"{key}={source}: has neither an image file nor a DICOM series. Formats read: {listed()}.")


def notes_on(source: Path) -> list[str]:
    """Sentences about the files of a folder that are no scan, or DICOM beside images of other formats.

    Args:
        source: As for `find_scans`.
    """
    if not source.is_dir():
        return []
    if find_series(source):
        return notes_of(contents(source))
    others = [path for path in source.iterdir() if suffix(path) in (*Dicom.suffixes, "") and is_dicom(path)]
    if not others or not image_files(source):
        return []
    return [f"{source}: its {len(others)} DICOM file(s) are left out, since images of other formats lie beside them."]


def find_series(source: Path) -> dict[str, Series]:
    """Find the DICOM series of a folder.

    Args:
        source: A folder, whose subfolders are searched too, or a file of a series.

    Returns:
        The series by name; none where other images lie in the folder.

    Raises:
        UserError: If a file is DICOM but no scan.
    """
    if is_dicom(source):
        own = series_of(source)
        found = named_series(source.parent, contents_of_folder(source.parent).series)
        return {name: series for name, series in found.items() if series is own}
    if not source.is_dir() or any(suffix(file) not in Dicom.suffixes for file in image_files(source)):
        return {}
    return named_series(source, contents(source).series)


def _scan_key(file: Path) -> tuple[str, str]:
    return split_channel(stem(file))[0], mask_suffix(file).lower()
