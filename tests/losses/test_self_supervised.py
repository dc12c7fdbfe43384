"""The losses of pretraining equal their formulas, and BYOL's target and predictor keep embeddings apart."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from segment.losses.self_supervised import alignment, byol_loss, nt_xent, spread, uniformity
from segment.networks.decoders.unet import UNetDecoder
from segment.networks.encoders.staged import StagedEncoder
from segment.networks.projection import Bootstrapped
from segment.networks.unet import UNet


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(5, 7)), random.normal(size=(5, 7))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_is_equation_1_of_simclr(pair, temperature):
    views = unit(np.concatenate(pair))
    similar = np.exp(views @ views.T / temperature)
    terms = []
    for i in range(10):
        others = sum(similar[i, k] for k in range(10) if k != i)
        terms.append(-math.log(similar[i, (i + 5) % 10] / others))
    found = nt_xent(*map(torch.tensor, pair), temperature)
    assert float(found) == pytest.approx(np.mean(terms), rel=1e-5)


def test_byol_is_equation_2_and_measures_are_those_of_wang_and_isola(pair):
    first, second = map(unit, pair)
    tensors = [torch.tensor(part) for part in pair]
    squares = np.square(first - second).sum(1).mean()
    assert float(byol_loss(*tensors)) == pytest.approx(squares, rel=1e-5)
    assert float(alignment(*tensors)) == pytest.approx(squares, rel=1e-5)
    potentials = [np.exp(-2 * np.square(first[i] - first[j]).sum()) for i in range(5) for j in range(i)]
    assert float(uniformity(tensors[0])) == pytest.approx(math.log(np.mean(potentials)), rel=1e-5)
    assert float(spread(torch.ones(4, 3))) == 0
    assert float(spread(torch.randn(2000, 64))) == pytest.approx(1, abs=0.02)


def bootstrapped() -> Bootstrapped:
    torch.manual_seed(0)
    encoder = partial(StagedEncoder, features=[4, 8])
    return Bootstrapped(UNet(2, 1, 1, encoder, UNetDecoder), 32, 16)


def test_the_target_follows_with_momentum_and_gets_no_gradient():
    learner = bootstrapped()
    for parameter in learner.encoder.parameters():
        parameter.data.add_(1.0)
    before = [parameter.clone() for parameter in learner.target.parameters()]
    learner.follow(0.75)
    online = [*learner.encoder.parameters(), *learner.projector.parameters()]
    for old, new, own in zip(before, learner.target.parameters(), online, strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * own)
    image = torch.randn(4, 1, 8, 8)
    byol_loss(learner.predict(image), learner.aim(image)).backward()
    assert all(parameter.grad is None for parameter in learner.target.parameters())


@pytest.mark.parametrize("whole", [True, False])
def test_byol_does_not_collapse_and_without_predictor_momentum_and_last_norm_it_does(whole):
    learner = bootstrapped()
    if not whole:
        learner.predictor = nn.Identity()
        learner.projector[-1] = learner.target["projector"][-1] = nn.Identity()
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        image = torch.randn(16, 1, 8, 8, generator=generator).cumsum(-1)
        views = [image + 0.3 * torch.randn(image.shape, generator=generator) for _ in range(2)]
        loss = byol_loss(learner.predict(views[0]), learner.aim(views[1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        learner.follow(0.99 if whole else 0.0)
    assert (float(spread(learner.aim(image))) > 0.2) == whole
