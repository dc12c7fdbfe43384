"""Model folders out of nnU-Net's results folders."""

from __future__ import annotations

from pathlib import Path

from segment.errors import UserError
from segment.inference.description import write_model
from segment.inference.limits import find_model
from segment.inference.nnunet.checkpoint import read_fold
from segment.inference.nnunet_folders import fold_folders, fold_number, is_fold


def convert_models(source: Path, output: Path, overwrite: bool = False) -> list[Path]:
    """Write a model folder for each fold: ``output`` itself, or ``output/fold0``, ``output/fold1``, ... of several.

    Args:
        source: A results folder of nnU-Net, or a fold in it.
        output: Folder for the models.
        overwrite: Whether a model that exists may be replaced.

    Returns:
        The model folders.

    Raises:
        UserError: When the source is none of nnU-Net's, cannot be read, or a model exists.
    """
    folds = [source] if is_fold(source) else fold_folders(source)
    if not folds:
        folder = find_model(source, "input")
        raise UserError(f"input={source}: {folder} is a model folder already. Give a results folder of nnU-Net.")
    targets = [output] if len(folds) == 1 else [output / f"fold{fold_number(fold)}" for fold in folds]
    there = next((target for target in targets if (target / "model.json").exists()), None)
    if there and not overwrite:
        raise UserError(f"output={output}: {there / 'model.json'} exists. Give another folder, or overwrite=true.")
    for fold, target in zip(folds, targets, strict=True):
        described, network = read_fold(fold)
        write_model(target, network, described)
    return targets
