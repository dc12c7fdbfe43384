"""A network in torch that another engine computes, converted in memory."""

import shutil

import numpy as np
import pytest
import torch
from saved_models import save
from torch import nn

from segment.errors import UserError
from segment.inference.engines.engine import Checked
from segment.inference.engines.names import check_engine
from segment.inference.ensemble import ensemble
from segment.inference.model import load_model

SCAN = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
AFFINE = np.diag([1.5, 0.5, 1, 1])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save(folder)
    return load_model(folder)


@pytest.fixture(scope="module")
def by_torch(model):
    return model.predict(SCAN, AFFINE, precision="32-true", probabilities=True)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", pytest.param("compile", marks=pytest.mark.slow)])
def test_every_engine_gives_the_probabilities_of_torch(engine, model, by_torch):
    with pytest.warns(UserWarning, match=f"engine is {engine} here, torch for the model's scores, as requested"):
        found = model.predict(SCAN, AFFINE, precision="32-true", inference={"engine": engine}, probabilities=True)
    for name, expected in by_torch.probabilities.items():
        np.testing.assert_allclose(found.probabilities[name], expected, atol=1e-5)


def test_every_network_of_an_ensemble_is_converted(model, tmp_path):
    other = load_model(shutil.copytree(model.folder, tmp_path / "other"))
    with torch.no_grad():
        for value in other.network.parameters():
            value.mul_(-1)
    both, _ = ensemble([model, other])
    expected = both.predict(SCAN, AFFINE, precision="32-true", probabilities=True).probabilities
    with pytest.warns(UserWarning, match="engine is openvino"):
        found = both.predict(SCAN, AFFINE, precision="32-true", inference={"engine": "openvino"}, probabilities=True)
    for name, probabilities in expected.items():
        np.testing.assert_allclose(found.probabilities[name], probabilities, atol=1e-5)
    assert list(other.engines) == [("openvino", "32-true")]


def test_a_network_is_converted_once(model, monkeypatch):
    settings = {"precision": "32-true", "inference": {"engine": "openvino"}}
    with pytest.warns(UserWarning, match="engine is openvino"):
        model.predict(SCAN, AFFINE, **settings)
    monkeypatch.setattr("segment.inference.exported.to_onnx", None)
    with pytest.warns(UserWarning, match="engine is openvino"):
        model.predict(SCAN, AFFINE, **settings)


@pytest.mark.parametrize(("factor", "precision"), [(1.01, "32-true"), (0.5, "bf16-mixed"), (float("nan"), "32-true")])
def test_an_engine_that_computes_something_else_is_refused_at_its_first_window(factor, precision):
    class Other(nn.Identity):
        def forward(self, windows):
            return windows * factor

    windows = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match="its logits differ from those of torch by"):
        Checked(nn.Identity(), Other(), "other", precision)(windows)
    assert Checked(nn.Identity(), nn.Identity(), "same", precision)(windows) is windows


def test_an_engine_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"openvino: needs openvino.*pip install 'segment\[export\]'"):
        check_engine("openvino", "openvino")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"engine=compile: .*g\+\+"):
        check_engine("compile")
