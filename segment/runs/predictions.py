"""How masks in a folder were predicted: ``predictions.json``, or the files of the run that the folder belongs to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from segment.errors import UserError
from segment.files import read_mapping

FILE = "predictions.json"
_RUN = "run"  # key of a record that stands for the files of a run


def predictions_record(folders: Collection[Path]) -> dict[str, Any]:
    """The record of the masks in a folder.

    Args:
        folders: The folders of some masks.

    Returns:
        Content of ``predictions.json``; for the folder ``predictions`` of a run, what its files say of it; empty for
        masks from other programs or from several folders.

    Raises:
        UserError: ``predictions.json`` is damaged.
    """
    if len(folders) != 1:
        return {}
    (folder,) = folders
    if (folder / FILE).is_file():
        return read_mapping(folder / FILE)
    run = folder.absolute().parent
    if folder.absolute().name != "predictions" or not (run / "summary.json").is_file():
        return {}
    try:
        protocol = read_mapping(run / "summary.json").get("protocol")
        cases = read_mapping(run / "provenance.json").get("cases") if (run / "provenance.json").is_file() else {}
    except UserError:  # the run beside the masks is of no concern
        return {}
    return {_RUN: protocol if isinstance(protocol, dict) else {}, "scans": cases if isinstance(cases, dict) else {}}


def prediction_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """Overlap, test-time augmentation, precision, decision and post-processing of the masks; empty if nothing is known.

    Args:
        record: The result of `predictions_record`.
    """
    keys = ("overlap", "test_time_augmentation", "precision", "decision", "postprocessing")
    if _RUN in record:
        return {key: record[_RUN].get(key) for key in keys}
    settings = record.get("predicted")
    parts = settings if isinstance(settings, list) else [settings]  # of several plans
    rows = [_described(part) for part in parts if isinstance(part, dict)]
    if not rows:
        return {}
    return {key: _common([row.get(key) for row in rows]) for key in keys}


def _described(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a prediction in the words of a protocol, without the usual decision."""
    mirror = settings.get("mirror")
    decision = settings.get("decision")
    return {
        **settings,
        "test_time_augmentation": f"mirror {mirror}" if mirror else "none",
        "decision": None if decision == "argmax" else decision,
    }


def _common(found: list[Any]) -> Any:
    """The value that all have, else the list of them as text."""
    return found[0] if all(value == found[0] for value in found) else [str(value) for value in found]


def image_files_of(record: Mapping[str, Any], mask: str) -> list[str]:
    """The image files of one mask; empty if they are not recorded.

    Args:
        record: The result of `predictions_record`.
        mask: File name of the mask.
    """
    scans = record.get("scans")
    known = scans if isinstance(scans, dict) else {}
    # predictions.json names scans by their mask, a run by their id.
    entry = next((known[name] for name in known if mask == name or mask.startswith(f"{name}.")), None)
    images = entry.get("images") if isinstance(entry, dict) else entry
    return [file for file in images if isinstance(file, str)] if isinstance(images, list) else []
