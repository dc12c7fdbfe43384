"""All files of a folder: what they tell about patients, and copies that do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segment.errors import UserError
from segment.files import written_whole
from segment.io.dicom.files import is_dicom, read_dataset, walk
from segment.io.formats import is_image_file, suffix
from segment.io.geometry import grid_difference
from segment.io.images import read_header, read_voxels
from segment.privacy import dicom, itk_headers, nifti, photo, tables, tiff
from segment.privacy.names import numbered
from segment.privacy.pixels import Boxes, blank, equal_outside, text_boxes
from segment.privacy.values import PIXELS, UNEXAMINED, Field, Finding, finding, findings_in_names
from segment.text import one_line, printable

_LONGEST_NAME = 60  # of a field, which is part of an untrusted file


@dataclass(frozen=True)
class _Kind:
    """How files of some suffixes are examined and, where that is possible, copied."""

    suffixes: tuple[str, ...]
    find: Callable[[Path], Iterable[Field]]
    clean: Callable[[Path, Path], None] | None = None


_KINDS = (
    _Kind((".nii.gz", ".nii"), nifti.find, nifti.clean),
    _Kind((".hdr",), nifti.find),
    _Kind((".nrrd", ".seg.nrrd", ".mha"), itk_headers.find, itk_headers.clean),
    _Kind((".nhdr", ".mhd"), itk_headers.find),
    _Kind((".png",), photo.find_in_png, photo.clean_png),
    _Kind((".jpg", ".jpeg"), photo.find_in_jpeg, photo.clean_jpeg),
    _Kind((".tif", ".tiff"), tiff.find, tiff.clean),
    _Kind((*tables.TABLES, tables.JSON), tables.find),
)
_BARE = (".bmp", ".npy", ".img", ".raw")  # formats that have no room for text


def examine(root: Path, others: Iterable[Path] = ()) -> list[Finding]:
    """Find what a data set tells about patients, in its files and their names; nothing is changed.

    Args:
        root: A folder, or a file beside which the data set lies.
        others: Files of the data set that may lie elsewhere.

    Returns:
        The findings: those of names first, then in order of the files.
    """
    folder = root if root.is_dir() else root.parent
    inside = list(walk(folder)) if root.is_dir() else [root]
    files = list(dict.fromkeys([*inside, *others]))
    found = list(findings_in_names(folder, files))
    for file in files:
        found += findings_in(file)
    return found


def findings_in(file: Path) -> list[Finding]:
    """What one file tells about a patient, apart from its name.

    Args:
        file: A file of any format; untrusted.

    Returns:
        The findings; one of the kind `UNEXAMINED` for an image whose texts are not read or cannot be.
    """
    kind = _kind(file)
    if kind is None:
        unread = is_image_file(file) and suffix(file) not in _BARE
        return [Finding(file, suffix(file), UNEXAMINED, 0)] if unread else []
    try:
        fields = list(kind.find(file))
    except UserError:
        raise
    except Exception:  # of a damaged file, which any reader may raise
        return [Finding(file, "file", UNEXAMINED, 0)]
    named = dict.fromkeys((field[:_LONGEST_NAME], value) for field, value in fields)
    found = [finding(file, field, value) for field, value in named]
    return [*found, Finding(file, "its pixels", PIXELS, 0)] if _is_picture(kind) and text_boxes(file) else found


def _is_picture(kind: _Kind) -> bool:
    return kind.find is not tables.find


def _kind(file: Path, anonymizer: dicom.Anonymizer | None = None) -> _Kind | None:
    end = suffix(file)
    kind = next((kind for kind in _KINDS if end in kind.suffixes), None)
    if kind is None and is_dicom(file):
        return _Kind((), dicom.find, anonymizer.clean if anonymizer else None)
    return kind


@dataclass(frozen=True)
class Copy:
    """A file and where its copy goes.

    Attributes:
        source: The file.
        target: The copy.
        write: Writes it, and compares it with the file.
    """

    source: Path
    target: Path
    write: Callable[[], None]


def copies(source: Path, output: Path, number: bool = False) -> tuple[list[Copy], list[Path]]:
    """Plan copies without what is told about patients, in the same formats.

    Args:
        source: A file or a folder.
        output: Folder for the copies.
        number: Whether names are numbered, see `segment.privacy.names.numbered`; else they are kept.

    Returns:
        The copies, and the files that are left out: those that are no images, such as tables.
    """
    files = [source] if source.is_file() else list(walk(source))
    folder = source.parent if source.is_file() else source
    anonymizer = dicom.Anonymizer()
    planned, left = [], []
    own = {file: file.relative_to(folder) for file in files}
    names = numbered(own.values()) if number else {}
    for file in files:
        kind, target = _kind(file, anonymizer), output / names.get(own[file], own[file])
        if kind is not None and kind.find is not tables.find:
            planned.append(_copy(file, target, kind))
        elif is_image_file(file):
            planned.append(_copy(file, target, _Kind((), kind.find if kind else _nothing)))
        else:
            left.append(file)
    return planned, left


def _nothing(path: Path) -> Iterator[Field]:
    return iter(())


def _copy(file: Path, target: Path, kind: _Kind) -> Copy:
    def write() -> None:
        if kind.clean is None:
            raise UserError(f"{file}: copies of {suffix(file)} without texts are not made. Convert it first.")
        with written_whole(target) as temporary:
            try:
                kind.clean(file, temporary)
            except (UserError, MemoryError):
                raise
            except Exception as error:  # of a damaged file, which any reader may raise
                if isinstance(error, OSError) and error.errno:  # such as a full disk
                    raise
                raise UserError(f"{file} cannot be copied: it is damaged ({one_line(error)}). Leave it out.") from error
            boxes = text_boxes(file)
            if boxes:
                blank(file, temporary, boxes)
            _require_clean(file, temporary, kind)
            _require_equal(file, temporary, boxes)

    return Copy(file, target, write)


def _require_clean(file: Path, copy: Path, kind: _Kind) -> None:
    left = [field for field, _ in kind.find(copy)]
    if left:
        raise UserError(
            f"{file}: {printable(left[0])[:_LONGEST_NAME]} cannot be removed. Leave the file out, or convert it."
        )


def _require_equal(file: Path, copy: Path, boxes: Boxes) -> None:
    """Compare the voxels, grid and type of a copy; of DICOM, the stored pixels; where text was, those around it."""
    if boxes:
        equal = equal_outside(file, copy, boxes)
    elif is_dicom(file):
        equal = read_dataset(file).get("PixelData") == read_dataset(copy).get("PixelData")
    else:
        before, after = read_header(file), read_header(copy)
        equal = before.dtype == after.dtype and not grid_difference(before.grid, after.grid)
        if equal:
            voxels, other = (read_voxels(path, header, None) for path, header in ((file, before), (copy, after)))
            equal = np.array_equal(voxels, other, equal_nan=voxels.dtype.kind == "f")
    if not equal:
        raise UserError(f"{file}: its copy would hold other voxels. Convert it to another format first.")
