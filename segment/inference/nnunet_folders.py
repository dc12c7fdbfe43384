"""The results folders of nnU-Net 2, without importing torch.

``nnUNet_results/Dataset004_X/TRAINER__PLANS__CONFIGURATION/`` holds plans.json, dataset.json and a folder for each fold
with its checkpoints. TotalSegmentator's weights are such folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segment.errors import UserError
from segment.files import read_mapping

FINAL = "checkpoint_final.pth"
PLANS, DATASET = "plans.json", "dataset.json"
MAX_BYTES = 16 << 20  # of plans.json and dataset.json, which may list all scans


def is_fold(folder: Path) -> bool:
    """Whether a folder holds the finished training of a fold."""
    return (folder / FINAL).is_file() and all((folder.parent / name).is_file() for name in (PLANS, DATASET))


def fold_folders(folder: Path) -> list[Path]:
    """The folds of a results folder whose trainings are finished; empty for other folders.

    As in nnU-Net, ``fold_all`` counts where there is no other.
    """
    found = [path.parent for path in folder.glob(f"fold_*/{FINAL}") if is_fold(path.parent)]
    numbered = {number: path for path in found if (number := fold_number(path)) is not None}
    return [numbered[number] for number in sorted(numbered)] or found[:1]


def is_nnunet(folder: Path) -> bool:
    """Whether a folder is a results folder with a finished fold, or such a fold."""
    return is_fold(folder) or bool(fold_folders(folder))


def fold_number(folder: Path) -> int | None:
    """The number of a fold; None for ``fold_all``."""
    number = folder.name.removeprefix("fold_")
    return int(number) if number.isdecimal() else None


def explain(folder: Path) -> str | None:
    """Why a folder of nnU-Net's is no model, as the end of a sentence; None for other folders."""
    if (folder / PLANS).is_file() and (folder / DATASET).is_file():
        return (
            f"is nnU-Net's, but no fold in it has {FINAL}, which nnU-Net writes when a training ends. Finish the "
            "training, or give another folder."
        )
    configurations = sorted(path.parent.name for path in folder.glob(f"*__*__*/{PLANS}"))
    if configurations:
        return f"holds several of nnU-Net's configurations. Give one of: {', '.join(configurations)}."
    return None


def read_dataset(folder: Path) -> dict[str, Any]:
    """The dataset.json beside a fold."""
    return read_mapping(folder.parent / DATASET, "Copy the results folder again.", MAX_BYTES)


def channel_names(dataset: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Names of a data set's channels in order.

    Args:
        dataset: Content of a dataset.json.
        path: The file, for the error.

    Raises:
        UserError: If it has none.
    """
    names = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(names, dict) or {str(key) for key in names} != {str(number) for number in range(len(names))}:
        raise UserError(f"{path}: channel_names should number the channels from 0. Copy the results folder again.")
    return tuple(str(names[key]) for key in sorted(names, key=int))
