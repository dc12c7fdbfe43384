import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from segment.augment import changes
from segment.augment.recipe import Recipe
from segment.augment.spatial import Motion, Spatial
from segment.errors import UserError

FOLDER = Path(__file__).parents[2] / "conf" / "augment"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
# A patch of each kind: flat, deep, and of thick slices that are moved in plane.
PATCHES = [((12, 10), (1.0, 1.5)), ((10, 12, 8), (2.0, 1.0, 1.5)), ((3, 12, 14), (6.0, 1.0, 1.0))]
every_patch = pytest.mark.parametrize(("patch", "spacing"), PATCHES)


def everything(seed: int = 0, **other) -> Recipe:
    given = {
        "spatial": Spatial(0.5, "auto", 0.7, 0.5, (0.7, 1.4), False, 0.5, (0.3, 0.5), (0.1, 0.3)),
        "mirror": "all",
        "changes": {
            "noise": changes.Noise(0.4, (0.05, 0.3)),
            "blur": changes.Blur(0.4, (0.5, 1.0), channel_probability=0.5),
            "brightness": changes.Brightness(0.4, (0.7, 1.4)),
            "contrast": changes.Contrast(0.4, (0.6, 1.5)),
            "low_resolution": changes.LowResolution(0.4, (0.5, 1.0), channel_probability=0.5),
            "gamma": changes.Gamma(0.4, (0.7, 1.6)),
            "blank": changes.Blank(0.4, (0.1, 0.4)),
        },
    }
    return Recipe(**given | other, seed=seed)


def batch(recipe: Recipe, samples: list[int], patch, spacing) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Boxes of the size that each sample needs, as a function of its number."""
    images, references = [], []
    for sample in samples:
        random = torch.Generator().manual_seed(sample)
        box = recipe.extent(sample, patch, spacing)
        images.append(torch.randn(2, *box, generator=random))
        references.append(torch.randint(0, 3, (1, *box), generator=random, dtype=torch.uint8))
    return images, references


def middle(part: torch.Tensor, size) -> torch.Tensor:
    for axis, n in enumerate(size, start=1):
        part = part.narrow(axis, (part.shape[axis] - n) // 2, n)
    return part


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=5, unique=True), st.sampled_from(PATCHES))
def test_a_sample_is_bit_for_bit_the_same_in_any_batch_and_order(samples, patch_and_spacing):
    patch, spacing = patch_and_spacing
    recipe = everything(seed=7)
    image, reference = recipe(*batch(recipe, samples, patch, spacing), samples, spacing, patch)
    for i, sample in enumerate(samples):
        alone = recipe(*batch(recipe, [sample], patch, spacing), [sample], spacing, patch)
        assert torch.equal(image[i : i + 1], alone[0])
        assert torch.equal(reference[i : i + 1], alone[1])


def test_stacked_patches_equal_a_list_of_patches():
    recipe = everything(spatial=None)
    images, references = batch(recipe, [1, 2, 3], *PATCHES[1])
    listed = recipe(images, references, [1, 2, 3], PATCHES[1][1], PATCHES[1][0])
    stacked = recipe(torch.stack(images), torch.stack(references), [1, 2, 3], PATCHES[1][1], PATCHES[1][0])
    assert torch.equal(listed[0], stacked[0])
    assert torch.equal(listed[1], stacked[1])


def test_samples_and_seeds_change_the_result_reproducibly():
    patch, spacing = (10, 10, 10), (1.0,) * 3
    image, reference = torch.randn(1, 1, 30, 30, 30).expand(4, -1, -1, -1, -1), torch.zeros(4, 1, 30, 30, 30).byte()
    first, again, other = (
        everything(seed)(image, reference, [10, 11, 12, 13], spacing, patch)[0] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert all(not torch.equal(first[i], first[j]) for i in range(4) for j in range(i))
    assert all(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_noise_differs_between_samples_channels_and_kinds():
    image = torch.zeros(2, 2, 20, 20)
    noises = {name: changes.Noise(1, (1, 1)) for name in ("noise", "more_noise")}
    fields = [
        Recipe(changes={name: noise})(image, image[:, :1].byte(), [4, 5], (1, 1), (20, 20))[0].flatten(0, 1).flatten(1)
        for name, noise in noises.items()
    ]
    assert (torch.corrcoef(torch.cat(fields)) - torch.eye(8)).abs().max() < 0.25


@every_patch
def test_the_box_is_large_enough(patch, spacing):
    recipe = everything(spatial=Spatial(0.6, 25, 1, 0.6, (0.8, 1.3), True, 0.6, (0.3, 0.5), (0.1, 0.2)), seed=3)
    larger = 0
    for sample in range(25):
        box = recipe.extent(sample, patch, spacing)
        motion = recipe.parameters([sample], patch, 1)[0].motion
        assert (box == tuple(patch)) or motion is not None
        if motion is None:
            continue
        if max(b / p for b, p in zip(box, patch, strict=True)) > 2:
            continue  # it may be capped
        larger += box != tuple(patch)
        huge = [2 * (b // 2) + p % 2 + 40 if b != p else b for b, p in zip(box, patch, strict=True)]
        if motion.axes == len(patch):
            huge = [p + 60 for p in patch]
        random = torch.Generator().manual_seed(sample)
        image = torch.randn(1, *huge, generator=random) + 3
        reference = torch.randint(0, 3, (1, *huge), generator=random, dtype=torch.uint8)
        drawn = recipe.parameters([sample], patch, 1)[0]
        few, many = (
            recipe.move(middle(image, size), middle(reference, size), drawn, spacing, patch) for size in (box, huge)
        )
        torch.testing.assert_close(few[0], many[0], rtol=0, atol=1e-3)
        assert (few[1] == many[1]).float().mean() > 0.999
    assert larger > 5


def test_the_box_is_no_larger_than_needed():
    recipe = Recipe(Spatial(scale_probability=1, scale=(1.5, 1.5)))
    assert recipe.extent(0, (20, 20, 20), (1, 1, 1)) == (30, 30, 30)
    image = torch.randn(1, 1, 30, 30, 30)
    cut = image[..., 1:-1, 1:-1, 1:-1]
    reference = image.new_zeros(image.shape, dtype=torch.uint8)
    full = recipe(image, reference, [0], (1, 1, 1), (20, 20, 20))[0]
    less = recipe(cut, reference[..., 1:-1, 1:-1, 1:-1], [0], (1, 1, 1), (20, 20, 20))[0]
    assert not torch.equal(full, less)


def test_flips_are_fair_and_independent():
    flips = np.array([row.flips for row in Recipe(mirror="all").parameters(range(2000), (8, 8, 8), 1)])
    assert flips.mean(axis=0).tolist() == pytest.approx([0.5] * 3, abs=4 * math.sqrt(0.25 / 2000))
    assert np.abs(np.corrcoef(flips.T) - np.eye(3)).max() < 4 / math.sqrt(2000)


def test_one_random_choice_does_not_shift_the_others():
    patch = (8, 8, 8)
    whole = everything().parameters(range(60), patch, 2)
    fewer = everything(
        spatial=None, changes={"gamma": changes.Gamma(0.4, (0.7, 1.6)), "noise": changes.Noise(0.4, (0.05, 0.3))}
    ).parameters(range(60), patch, 2)
    assert any(row.motion for row in whole)
    for many, few in zip(whole, fewer, strict=True):
        assert many.flips == few.flips
        for name in ("gamma", "noise"):
            assert (name in many.changes) == (name in few.changes)
            if name in many.changes:
                np.testing.assert_array_equal(many.changes[name], few.changes[name])
        assert list(few.changes) == [name for name in ("gamma", "noise") if name in few.changes]  # in their order


@pytest.mark.parametrize(("mirror", "flipped"), [("all", {0, 1, 2}), ([0, 2], {0, 2}), ([], set())])
def test_only_the_named_axes_are_mirrored(mirror, flipped):
    rows = Recipe(mirror=mirror).parameters(range(40), (8, 8, 8), 1)
    assert {axis for row in rows for axis, flip in enumerate(row.flips) if flip} == flipped


def test_mirroring_equals_numpy_flip_and_is_its_own_inverse():
    image = torch.arange(2 * 60.0).view(1, 2, 3, 4, 5)
    reference = image[:, :1].to(torch.uint8)
    recipe = Recipe(mirror="all", seed=3)
    for sample in range(8):
        axes = [a + 2 for a, flip in enumerate(recipe.parameters([sample], (3, 4, 5), 2)[0].flips) if flip]
        once = recipe(image, reference, [sample], (1, 1, 1), (3, 4, 5))
        assert torch.equal(once[0], image.flip(axes))
        assert torch.equal(once[1], reference.flip(axes))
        twice = recipe(*once, [sample], (1, 1, 1), (3, 4, 5))
        assert torch.equal(twice[0], image)


def test_slices_move_in_plane_together_without_mixing():
    patch, spacing = (3, 16, 16), (5.0, 1.0, 1.0)
    recipe = Recipe(Spatial(rotation_probability=1, elastic_probability=1), seed=2)
    box = recipe.extent(0, patch, spacing)
    assert box[0] == 3
    image = torch.zeros(2, *box)
    image[0, 1], image[1] = 1, torch.randn(1, *box[1:]).expand(box)
    reference = (image[:1] > 0).to(torch.uint8) * 255
    moved, labels = recipe(image[None], reference[None], [0], spacing, patch)
    assert not moved[0, 0, [0, 2]].any()
    assert set(labels[0, 0, [0, 2]].unique().tolist()) == {0}
    assert set(labels[0, 0, 1].unique().tolist()) == {255}
    assert torch.equal(moved[0, 1, 0], moved[0, 1, 2])


@every_patch
def test_the_ignore_value_survives_and_no_class_is_invented(patch, spacing):
    recipe = everything(seed=4)
    samples = list(range(20))
    images, references = batch(recipe, samples, patch, spacing)
    for reference in references:
        reference[reference == 2] = 255
    labels = recipe(images, references, samples, spacing, patch)[1]
    assert set(labels.unique().tolist()) == {0, 1, 255}


def test_a_constant_patch_gives_no_nan():
    for value in (0.0, 2.5):
        image = torch.full((30, 1, 9, 9, 9), value)
        result, _ = everything(seed=1)(image, image.byte(), range(30), (1, 1, 1), (9, 9, 9))
        assert torch.isfinite(result).all()


def test_description_lists_the_changes():
    recipe = everything(seed=1)
    for sample in range(30):
        row = recipe.parameters([sample], (8, 8, 8), 1)[0]
        words = recipe.words(sample, (8, 8, 8), 1)
        assert len(words) >= len(row.changes) + any(row.flips) + (row.motion is not None)
        assert ("mirrored" in " ".join(words)) == any(row.flips)
    assert Recipe().words(0, (8, 8, 8), 1) == []


def test_null_removes_a_change():
    recipe = Recipe(changes={"noise": changes.Noise(1, (1, 1)), "blur": None})
    assert list(recipe.changes) == ["noise"]


def test_unknown_keys_are_refused_by_name():
    with pytest.raises(UserError, match="dummy_2d"):
        Recipe(dummy_2d="sometimes")
    with pytest.raises(UserError, match=r"augment\.mirror"):
        Recipe(mirror=[2]).parameters([0], (8, 8), 1)


def test_there_are_recipes():
    assert {"none", "light", "nnunet", "heavy", "monai"} <= set(RECIPES)


def configured(name: str):
    node = OmegaConf.create({"seed": 9, "augment": OmegaConf.load(FOLDER / f"{name}.yaml")}).augment
    return instantiate(node, _convert_="all")


@pytest.mark.parametrize("name", RECIPES)
@every_patch
def test_every_configured_recipe_works(name, patch, spacing):
    recipe = configured(name)
    assert recipe.seed == 9
    samples = list(range(24))
    image = torch.randn(24, 2, *patch)
    reference = torch.randint(0, 3, (24, 1, *patch), dtype=torch.uint8)
    before = image.clone(), reference.clone()
    moved, labels = recipe(image, reference, samples, spacing, patch)
    assert moved.shape == image.shape
    assert moved.dtype == torch.float32
    assert type(moved) is torch.Tensor
    assert torch.isfinite(moved).all()
    assert labels.shape == reference.shape
    assert labels.dtype == torch.uint8
    assert set(labels.unique().tolist()) <= {0, 1, 2}
    assert torch.equal(moved, image) == (name == "none")
    assert torch.equal(image, before[0])
    assert torch.equal(reference, before[1])
    alone = recipe(image[7:8], reference[7:8], [7], spacing, patch)
    assert torch.equal(alone[0][0], moved[7])
    assert torch.equal(alone[1][0], labels[7])


def test_nnunet_recipe_equals_nnunet():
    rows = configured("nnunet").parameters(range(1500), (32, 32, 32), 2)
    happened = {
        name: np.mean([name in row.changes for row in rows])
        for name in ("noise", "blur", "brightness", "contrast", "low_resolution", "inverted_gamma", "gamma")
    }
    both_left_out = 0.25  # of two channels with chance 1/2 each
    expected = [0.1, 0.2 * (1 - both_left_out), 0.15, 0.15, 0.25 * (1 - both_left_out), 0.1, 0.3]
    assert list(happened.values()) == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 1500))
    moved = [row.motion for row in rows if row.motion is not None]
    assert len(moved) / 1500 == pytest.approx(1 - 0.8**2, abs=0.05)
    assert max(abs(math.degrees(a)) for motion in moved for a in motion.angles) <= 30
    scales = [motion.scale for motion in moved if motion.scale[0] != 1]
    assert len(scales) / 1500 == pytest.approx(0.2, abs=0.05)
    assert all(scale == (scale[0],) * 3 and 0.7 <= scale[0] <= 1.4 for scale in scales)
    assert list(configured("nnunet").changes) == list(happened)  # nnU-Net's order


def test_motion_precedes_mirroring_and_both_precede_intensity_changes():
    recipe = Recipe(Spatial(scale_probability=1, scale=(0.5, 0.5)), "all", {"shift": changes.Shift(1, (1, 1))}, seed=1)
    patch = (6, 6)
    row = next(row for row in recipe.parameters(range(20), patch, 1) if any(row.flips))
    assert row.motion == Motion((0.0,), (0.5, 0.5))
    image, reference = torch.rand(1, 1, 6, 6), torch.zeros(1, 1, 6, 6, dtype=torch.uint8)
    moved, _ = recipe.move(image[0], reference[0], row, (1, 1), patch)
    axes = [axis + 1 for axis, flip in enumerate(row.flips) if flip]
    result, _ = recipe(image, reference, [row.sample], (1, 1), patch)
    torch.testing.assert_close(result[0], moved.flip(axes) + 1)


@pytest.mark.gpu
def test_gpu_result_differs_only_in_the_noise():
    recipe = everything(seed=5)
    recipe.changes.pop("noise")
    patch, spacing = PATCHES[1]
    images, references = batch(recipe, list(range(12)), patch, spacing)
    here = recipe(images, references, list(range(12)), spacing, patch)
    there = recipe([i.cuda() for i in images], [r.cuda() for r in references], list(range(12)), spacing, patch)
    assert (there[1].cpu() == here[1]).float().mean() > 0.999
    assert (there[0].cpu() - here[0]).abs().median() < 1e-3
