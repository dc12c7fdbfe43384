"""``segment show augment``: draw what augmentation does to patches of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from omegaconf import DictConfig, OmegaConf

from segment.config.build import check_targets, make
from segment.config.data import read_data, read_plan_settings
from segment.config.options import ShowOptions, read_options
from segment.errors import UserError, did_you_mean
from segment.files import written_whole
from segment.workflow.experiment import NO_COMMAND, Command
from segment.workflow.values import require_number

if TYPE_CHECKING:  # importing torch takes seconds
    from segment.augment.augmentation import Augmentation
    from segment.data.case import Case
    from segment.preprocessing.plan import Plan
    from segment.preprocessing.store import Store

MAX_TILES = 12  # rows or columns of a picture that remain legible


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Draw the requested picture, or list what can be drawn."""
    pictures = {"augment": augment}
    if config.what is None:
        print("segment show augment data=NAME [augment=NAME] [output=FILE.png]   patches before and after augmentation")
        return
    if config.what not in pictures:
        hint = did_you_mean(str(config.what), pictures)
        raise UserError(f"show {config.what}: there is no such picture.{hint} Choices: augment.")
    pictures[config.what](config, command)


def augment(config: DictConfig, command: Command) -> None:
    """Write a picture with one row per scan: its unaugmented patch, then augmented samples.

    Raises:
        UserError: When a number, the output or the data set is not valid.
    """
    options = read_options(ShowOptions, config)
    output = Path(options.output)
    if output.suffix.lower() != ".png":
        raise UserError(f"output={output}: the picture is a PNG file; give a name that ends with .png.")
    require_number("scans", options.scans, 1, MAX_TILES, whole=True)
    require_number("draws", options.draws, 1, MAX_TILES, whole=True)
    require_number("first", options.first, 0, 2**62, whole=True)
    check_targets(OmegaConf.masked_copy(config, ["data", "augment"]))
    # Here, since torch takes seconds to import.
    from PIL import Image

    from segment.augment.augmentation import complete
    from segment.visual.pictures import sheet
    from segment.workflow.prepare import planned_store, prepare_cases

    recipe = complete(make(config, "augment"))
    if recipe is None:
        raise UserError("augment=null: there is nothing to show. Give one: 'segment show augment augment=nnunet'.")
    store, _ = planned_store(read_data(config, command), read_plan_settings(config.plan))
    plan = store.plan
    cases = store.dataset.cases[: options.scans]
    prepare_cases(store, cases)
    rows, captions = [], []
    for number, case in enumerate(cases):
        samples = range(options.first + number * options.draws, options.first + (number + 1) * options.draws)
        image, reference = whole(store, case)
        slices, words = row(image, reference, plan, recipe, samples)
        rows.append(slices)
        captions.append([[case.id, f"patch {'x'.join(map(str, plan.patch_size))}"], *words])
    with written_whole(output) as temporary:
        Image.fromarray(sheet(rows, captions, plan.spacing[-2:])).save(temporary)  # type: ignore[arg-type]
    print(f"{output}: {len(rows)} scans, samples {options.first} to {options.first + len(rows) * options.draws - 1}.")


def whole(store: Store, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """A prepared scan: image (channel, *spatial), class indices (*spatial); one slice of it if the plan cuts slices."""
    scan = store.load(case)
    assert scan.reference is not None
    image, reference = scan.image[...], scan.reference[...]
    if store.plan.sliced:
        fullest = int((reference > 0).sum(axis=(1, 2)).argmax())
        image, reference = image[:, fullest], reference[fullest]
    return image, reference


def row(
    image: np.ndarray, reference: np.ndarray, plan: Plan, recipe: Augmentation, samples: range
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[list[str]]]:
    """Middle slices of the patch around the foreground, unaugmented and augmented, and a description of each sample.

    Args:
        image: (channel, *spatial).
        reference: (*spatial) class indices.
        plan: Patch size and spacing.
        recipe: The augmentation.
        samples: Sample numbers.
    """
    import torch

    from segment.sampling.sampler import cut

    size = np.asarray(plan.patch_size)
    corner = about_foreground(reference, size)
    whole = image, reference[None]
    drawn = [tuple(cut(part, corner, size) for part in whole)]
    words = []
    for sample in samples:
        box = np.asarray(recipe.extent(sample, plan.patch_size, plan.spacing))
        boxes, masks = (torch.from_numpy(cut(part, corner - (box - size) // 2, box))[None] for part in whole)
        changed = recipe(boxes, masks, [sample], plan.spacing, plan.patch_size)
        drawn.append(tuple(part[0].numpy() for part in changed))
        changes = recipe.words(sample, plan.patch_size, len(image))
        words.append([f"sample {sample}", *(["unchanged"] if changes == [] else changes or [])])
    return [(middle(image), middle(mask)[0]) for image, mask in drawn], words


def about_foreground(reference: np.ndarray, size: np.ndarray) -> np.ndarray:
    """First voxel of the patch whose centre is as close to the foreground's centre as the scan's border allows."""
    shape = np.asarray(reference.shape)
    voxels = np.argwhere(reference > 0)
    centre = voxels.mean(axis=0).round().astype(int) if len(voxels) else shape // 2
    missing = np.maximum(0, size - shape)
    return np.clip(centre - size // 2, -(missing // 2), np.maximum(-(missing // 2), shape - size))


def middle(volume: np.ndarray) -> np.ndarray:
    """The middle slice (channel, y, x), flipped to the radiological view for volumes."""
    return volume if volume.ndim == 3 else volume[:, volume.shape[1] // 2, ::-1, ::-1]
