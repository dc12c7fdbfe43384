import math
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from segment.augment import intensity
from segment.augment.counter import generator
from segment.augment.recipe import Parameters, Recipe, move

FOLDER = Path(__file__).parents[2] / "conf" / "augment"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
EVERYTHING = {
    "spatial_probability": 0.5,
    "rotation": 20,
    "scale": (0.8, 1.25),
    "mirror": "all",
    "noise_probability": 0.4,
    "noise": (0.05, 0.3),
    "brightness_probability": 0.3,
    "brightness": (0.7, 1.4),
    "contrast_probability": 0.2,
    "contrast": (0.6, 1.5),
    "gamma_probability": 0.25,
    "gamma": (0.7, 1.6),
}
SPACING = {2: (1.0, 1.5), 3: (2.0, 1.0, 1.5)}


def batch(samples: list[int], dims: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches that are functions of their sample numbers."""
    images, references = [], []
    for sample in samples:
        random = torch.Generator().manual_seed(sample)
        images.append(torch.randn(2, *[10] * dims, generator=random))
        references.append(torch.randint(0, 3, (1, *[10] * dims), generator=random, dtype=torch.uint8))
    return torch.stack(images), torch.stack(references)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=5, unique=True), st.sampled_from([2, 3]))
def test_a_sample_looks_the_same_in_any_batch_and_order(samples, dims):
    recipe = Recipe(**EVERYTHING, seed=7)
    image, reference = recipe(*batch(samples, dims), samples, SPACING[dims])
    for i, sample in enumerate(samples):
        alone = recipe(*batch([sample], dims), [sample], SPACING[dims])
        torch.testing.assert_close(image[i : i + 1], alone[0], rtol=0, atol=1e-5)
        assert torch.equal(reference[i : i + 1], alone[1])


def test_another_sample_or_seed_looks_different_and_the_same_ones_alike():
    image, reference = batch([3, 3, 3, 3])
    first = Recipe(**EVERYTHING, seed=1)(image, reference, [10, 11, 12, 13], SPACING[3])[0]
    again = Recipe(**EVERYTHING, seed=1)(image, reference, [10, 11, 12, 13], SPACING[3])[0]
    other = Recipe(**EVERYTHING, seed=2)(image, reference, [10, 11, 12, 13], SPACING[3])[0]
    assert torch.equal(first, again)
    assert all(not torch.equal(first[i], first[j]) for i in range(4) for j in range(i))
    assert all(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_noise_of_two_samples_is_not_the_same_noise():
    image = torch.zeros(2, 1, 8, 8)
    noisy, _ = Recipe(noise_probability=1, noise=(1, 1))(image, image.byte(), [4, 5], SPACING[2])
    assert abs(float(torch.corrcoef(noisy.flatten(1))[0, 1])) < 0.5


@pytest.fixture(scope="module")
def drawn() -> Parameters:
    return Recipe(**EVERYTHING, seed=11).parameters(range(2000), dims=3)


@pytest.mark.parametrize(
    ("name", "probability", "neutral"),
    [("moved", 0.5, 0), ("noise", 0.4, 0), ("brightness", 0.3, 1), ("contrast", 0.2, 1), ("gamma", 0.25, 1)],
)
def test_probabilities_hold(drawn, name, probability, neutral):
    chosen = float((getattr(drawn, name) != neutral).float().mean())
    assert chosen == pytest.approx(probability, abs=4 * math.sqrt(probability * (1 - probability) / 2000))


def test_flips_are_fair_and_independent(drawn):
    share = drawn.flips.float().mean(dim=0)
    assert share.tolist() == pytest.approx([0.5] * 3, abs=4 * math.sqrt(0.25 / 2000))
    correlation = torch.corrcoef(drawn.flips.float().T) - torch.eye(3)
    assert correlation.abs().max() < 4 / math.sqrt(2000)


@pytest.mark.parametrize(
    ("name", "chosen", "low", "high"),
    [
        ("angles", "moved", -math.radians(20), math.radians(20)),
        ("scale", "moved", 0.8, 1.25),
        ("noise", "noise", 0.05, 0.3),
        ("brightness", "brightness", 0.7, 1.4),
        ("contrast", "contrast", 0.6, 1.5),
        ("gamma", "gamma", 0.7, 1.6),
    ],
)
def test_ranges_are_respected_and_used_to_their_ends(drawn, name, chosen, low, high):
    neutral = {"moved": 0, "noise": 0}.get(chosen, 1)
    values = getattr(drawn, name)[getattr(drawn, chosen) != neutral]
    assert low - 1e-6 <= float(values.min()) < low + 0.02 * (high - low)
    assert high - 0.02 * (high - low) < float(values.max()) <= high + 1e-6
    deviation = (high - low) / math.sqrt(12 * values.numel())
    assert float(values.double().mean()) == pytest.approx((low + high) / 2, abs=4 * deviation)


def test_one_probability_does_not_shift_the_others(drawn):
    other = Recipe(**EVERYTHING | {"noise_probability": 0, "spatial_probability": 1}, seed=11)
    changed = other.parameters(range(2000), dims=3)
    for name in ("flips", "angles", "brightness", "contrast", "gamma"):
        assert torch.equal(getattr(changed, name), getattr(drawn, name)), name
    assert not changed.noise.any()
    assert changed.moved.all()


@pytest.mark.parametrize("dims", [2, 3])
def test_parameters_applied_by_hand_give_what_the_call_gives(dims):
    samples = list(range(100, 112))
    image, reference = batch(samples, dims)
    recipe = Recipe(**EVERYTHING, seed=5)
    result, labels = recipe(image, reference, samples, SPACING[dims])
    parameters = recipe.parameters(samples, dims)
    assert all(int((getattr(parameters, f.name) != 1).sum()) > 0 for f in fields(parameters))  # something happens
    for i, sample in enumerate(samples):
        row = Parameters(**{f.name: getattr(parameters, f.name)[i : i + 1] for f in fields(parameters)})
        by_hand, mask = move(image[i : i + 1], reference[i : i + 1], row, SPACING[dims])
        noise = torch.Generator().manual_seed(int(generator(5, sample, "noise").integers(2**63)))
        by_hand = intensity.add_noise(by_hand, row.noise, [noise])
        if row.brightness != 1:
            by_hand = intensity.scale_brightness(by_hand, row.brightness)
        if row.contrast != 1:
            by_hand = intensity.scale_contrast(by_hand, row.contrast)
        if row.gamma != 1:
            by_hand = intensity.gamma(by_hand, row.gamma)
        torch.testing.assert_close(result[i : i + 1], by_hand, rtol=0, atol=1e-5)
        assert torch.equal(labels[i : i + 1], mask)


@pytest.mark.parametrize(("mirror", "flipped"), [("all", {0, 1, 2}), ([0, 2], {0, 2}), ([], set())])
def test_only_the_named_axes_are_mirrored(mirror, flipped):
    flips = Recipe(mirror=mirror).parameters(range(40), dims=3).flips
    assert {axis for axis in range(3) if flips[:, axis].any()} == flipped


def test_a_flip_moves_image_and_reference_alike():
    _, reference = batch(list(range(8)), 3)
    moved, labels = Recipe(mirror="all", seed=3)(reference.float(), reference, list(range(8)), SPACING[3])
    assert torch.equal(moved, labels.float())
    assert not torch.equal(labels, reference)


def test_there_are_recipes():
    assert {"none", "light"} <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("dims", [2, 3])
def test_every_configured_recipe_works(name, dims):
    node = OmegaConf.create({"seed": 9, "augment": OmegaConf.load(FOLDER / f"{name}.yaml")}).augment
    recipe = instantiate(node, _convert_="all")
    assert recipe.seed == 9
    samples = list(range(24))
    image, reference = batch(samples, dims)
    before = image.clone(), reference.clone()
    moved, labels = recipe(image, reference, samples, SPACING[dims])
    assert moved.shape == image.shape
    assert moved.dtype == torch.float32
    assert torch.isfinite(moved).all()
    assert labels.shape == reference.shape
    assert labels.dtype == torch.uint8
    assert set(labels.unique().tolist()) <= {0, 1, 2}
    assert torch.equal(moved, image) == (name == "none")
    assert torch.equal(image, before[0])
    assert torch.equal(reference, before[1])
