"""Finds the annotations in a folder, and the program that wrote them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from segment.errors import UserError
from segment.io.annotations import coco, cvat, labelme, voc, yolo
from segment.io.annotations.json_files import read_json
from segment.io.annotations.shapes import Annotations
from segment.io.annotations.xml_files import read_xml
from segment.io.formats import is_image_file, stem

_DEPTH = 3  # folders below the root in which files are looked for
_YOLO_LINE = re.compile(r"\d+(\s+[-+.\deE]+){4,}")
_XML = {"annotation": voc.read, "annotations": cvat.read}  # by the first element


@dataclass(frozen=True)
class Found:
    """Annotations in a folder.

    Attributes:
        files: The files of annotations, sorted.
        images: All image files, sorted.
        read: Reads one of the files; None if it holds something else.
    """

    files: tuple[Path, ...]
    images: tuple[Path, ...]
    read: Callable[[Path], Annotations | None]


def find_annotations(root: Path) -> Found | None:
    """Find the annotations in a folder and in its folders.

    Args:
        root: The folder.

    Returns:
        The annotations of the first program found: LabelImg's or CVAT's XML, COCO's or LabelMe's JSON, YOLO's text
        files beside images or in ``labels/``; None if there are none.
    """
    files = sorted(_below(root))
    images = tuple(path for path in files if is_image_file(path))
    for ending, reader_of in ((".xml", _xml_reader), (".json", _json_reader)):
        listed = [path for path in files if path.suffix.lower() == ending and path.name != "dataset.json"]
        for path in listed[:1]:
            if reader := reader_of(path):
                return Found(tuple(listed), images, reader)
    stems = {stem(path) for path in images}
    texts = tuple(path for path in files if path.suffix == ".txt" and path.stem in stems)
    if any(_is_yolo(path) for path in texts[:10]):
        names = next((path for path in files if path.name in yolo.NAME_FILES), None)
        known = yolo.read_names(names) if names else ()
        return Found(texts, images, lambda path: yolo.read(path, known))
    return None


def _below(root: Path) -> Iterator[Path]:
    for depth in range(1, _DEPTH + 1):
        for path in root.glob("/".join("*" * depth)):
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts):
                yield path


def _xml_reader(first: Path) -> Callable[[Path], Annotations | None] | None:
    try:
        return _XML.get(read_xml(first).tag)
    except UserError:
        return None


def _json_reader(first: Path) -> Callable[[Path], Annotations | None] | None:
    try:
        return _read_json if _read_json(first) is not None else None
    except UserError:
        return None


def _read_json(path: Path) -> Annotations | None:
    content = read_json(path)
    if all(isinstance(content.get(key), list) for key in ("images", "annotations", "categories")):
        return coco.parse(content, path)
    return labelme.parse(content, path) if isinstance(content.get("shapes"), list) else None


def _is_yolo(path: Path) -> bool:
    with path.open("rb") as stream:
        start = stream.read(10_000).decode("utf-8", "replace").strip()
    return bool(start) and _YOLO_LINE.fullmatch(start.splitlines()[0].strip()) is not None
