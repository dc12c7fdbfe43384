"""Model folders are untrusted: loading returns what was saved, or a one-paragraph error, and runs no code."""

import resource
import sys
from pathlib import Path

import pytest
import torch
from narrow_networks import narrow
from safetensors.torch import load_file
from saved_models import DECODER, INFERENCE, LABELS, PADDED, PLAN, STAGE, STAGED, TINY, edit, refused, save, tiny

from segment.errors import UserError
from segment.inference.architecture import build
from segment.inference.model import load_model, save_model

NETWORKS = Path(__file__).parents[2] / "conf" / "network"


def test_saved_model_is_loaded_unchanged(tmp_path):
    network = save(tmp_path / "model")
    for place in (tmp_path, tmp_path / "model"):  # the run folder or the model folder itself
        model = load_model(place)
        image = torch.rand(1, 1, 13, 18)
        with torch.inference_mode():
            torch.testing.assert_close(model.network(image), network(image), rtol=0, atol=0)
        assert not model.network.training
        assert all(not value.is_meta for value in model.network.state_dict().values())
    assert (model.plan, model.channels, model.dataset) == (PLAN, ("ct",), "demo")
    assert list(model.labels.items()) == list(LABELS.items())
    assert dict(model.inference) == INFERENCE


@pytest.mark.parametrize("name", sorted(path.stem for path in NETWORKS.glob("*.yaml")))
def test_every_configured_network_can_be_saved_and_loaded(name, tmp_path):
    architecture = narrow(name) | {"spatial_dims": 2, "in_channels": 1, "out_channels": 3}
    network = save(tmp_path, architecture)
    image = torch.rand(1, 1, 33, 41)
    with torch.inference_mode():
        torch.testing.assert_close(load_model(tmp_path).network(image), network(image), rtol=0, atol=0)


def test_weights_are_saved_whatever_their_layout_or_mode(tmp_path):
    network = build(TINY).to(memory_format=torch.channels_last).train()
    save_model(tmp_path, network, TINY, PLAN, LABELS, ("ct",), INFERENCE, "demo")
    stored = load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(stored[key], value) for key, value in network.state_dict().items())
    assert network.training


def test_failed_save_leaves_the_previous_model(folder, monkeypatch):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ValueError, match="JSON compliant"):
        save_model(folder, build(TINY), TINY | {"he_slope": float("nan")}, PLAN, LABELS, ("ct",), INFERENCE, "demo")
    assert set(before) == {file.name for file in folder.iterdir()}
    assert (folder / "model.json").read_bytes() == before["model.json"]


# Untrusted descriptions


@pytest.fixture
def evil(tmp_path, monkeypatch) -> Path:
    """A module that writes a file when it is imported; returns that file."""
    source = f"import pathlib, torch\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    source += "class Network(torch.nn.Conv2d):\n    def __init__(self, spatial_dims, in_channels, out_channels):\n"
    source += "        super().__init__(in_channels, out_channels, 1)\n"
    for name in ("evil_module", "evil_modules_neighbour"):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "ran"


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.exec",
        "torch.load",
        "torch.hub.load",
        "torch.nn.Linear",  # a network, but not of the trusted modules
        "subprocess.Popen",
        "hydra.utils.instantiate",
        "evil_module.Network",
        "segment.networks_evil.Network",
        "segment.networks",
        "segment.networks.unet.np",
        "segment.networks.unet.per_axis",
        "segment.networks.padding.count_parameters",
        "segment.networks.unet.torch.load",
        "segment.networks.unet.nothing",
        "segment.networks.nothing.Network",
        "segment.networks..unet.UNet",
        "monai.networks.nets.resnet18",
        "monai.networks.nets.torch.load",
        "monai.networks.nets.swin_unetr.rearrange",
        "monai.bundle.ConfigParser",
        "",
        ".",
        "exec",
        7,
        None,
        ["os.system"],
    ],
)
def test_a_target_outside_the_trusted_modules_is_refused_and_nothing_runs(folder, evil, monkeypatch, target):
    monkeypatch.setattr("os.system", lambda *a, **k: evil.touch())
    monkeypatch.setattr("torch.load", lambda *a, **k: evil.touch())
    for network in ({"_target_": target, "command": "x"}, {"_target_": target, "_args_": ["x"]}):
        edit(folder, network=network)
        refused(folder)
    # Nor inside of a trusted one, complete or to be called later.
    inner = {"_target_": target, "_partial_": True}
    for nested in (inner, inner | {"_partial_": False}):
        edit(folder, network=TINY | {"_target_": PADDED, "divisor": 2, "network": nested})
        refused(folder)
    edit(folder, network=tiny(features=[4, {"_target_": target}]))
    refused(folder)
    assert not evil.exists()
    assert "evil_module" not in sys.modules


def test_a_refused_target_says_how_to_trust_it(folder, evil):
    edit(folder, network={"_target_": "evil_module.Network"})
    assert "trust=[evil_module]" in refused(folder)


def test_trust_admits_only_the_given_module(tmp_path, evil):
    architecture = {"_target_": "evil_module.Network", "spatial_dims": 2, "in_channels": 1, "out_channels": 3}
    save_model(tmp_path / "m", torch.nn.Conv2d(1, 3, 1), architecture, PLAN, LABELS, ("ct",), {}, "demo")
    refused(tmp_path / "m", trust=["evil_modules_neighbour"])
    refused(tmp_path / "m", trust=["evil"])  # a beginning of a name is not a parent
    assert not evil.exists()
    assert load_model(tmp_path / "m", trust=["evil_module"]).network(torch.rand(1, 1, 4, 4)).shape == (1, 3, 4, 4)
    assert evil.exists()


@pytest.mark.parametrize("network", [None, 3, "UNet", [], {}, {"features": [4, 6]}, [TINY]])
def test_a_description_of_no_network_is_refused(folder, network):
    edit(folder, network=network)
    refused(folder)


@pytest.mark.parametrize(
    "wrong",
    [
        {"spatial_dims": 7},
        {"spatial_dims": "2"},
        {"in_channels": 0},
        {"encoder": None},
        {"encoder": "nosuch"},
        {"encoder": STAGED},
        {"decoder": {}},
        {"decoder": STAGED},
        {"decoder": DECODER | {"depths": [1, 2, 3]}},
        {"decoder": DECODER | {"up_features": "nosuch"}},
        {"head": STAGE | {"depth": -1}},
        {"deep_supervision": 9},
        {"deep_supervision": 1.5},
        tiny(featuers=[4, 6]),
        tiny(features=[]),
        tiny(features="abc"),
        tiny(features=[4, -6]),
        tiny(features=[4, 6.5]),
        tiny(features={"a": 4}),
        tiny(features=None),
        tiny(strides=[1, 2, 2]),
        tiny(strides=[1, 0]),
        tiny(kernel_sizes=[[3], 3]),
        tiny(depths=[0, 0]),
        tiny(stage=STAGE | {"norm": "nosuch"}),
        tiny(stage=STAGE | {"norm": []}),
        tiny(stage=STAGE | {"act": ["relu", {"nosuch": 1}]}),
        tiny(stage=STAGE | {"dropout": 5}),
        tiny(stage={"_target_": "segment.networks.stages.DenseStage", "_partial_": True}),
        tiny(each={"dropout": [0.1]}),
    ],
)
def test_arguments_that_the_network_does_not_take_are_refused(folder, wrong):
    edit(folder, network=TINY | wrong)
    with pytest.raises(UserError) as refusal:
        load_model(folder)
    assert str(folder) in str(refusal.value)


@pytest.mark.parametrize("number", [10**9, -(10**9), 1e300, 10**400, float("nan"), float("inf")])
def test_absurd_numbers_are_refused(folder, number):
    for network in (
        TINY | {"in_channels": number},
        tiny(features=[4, number]),
        tiny(stage=STAGE | {"act": ["elu", {"alpha": number}]}),
    ):
        edit(folder, network=network)
        refused(folder)


@pytest.mark.parametrize("features", [[4, 8192], [65_536] * 4], ids=["2 GB", "1 TB"])
def test_a_gigantic_network_is_refused_before_anything_is_allocated(folder, features):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    edit(folder, network=tiny(features=features))
    assert "weights.safetensors" in refused(folder, "weights.safetensors")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "network",
    [tiny(depths=65_000), tiny(features=[4] * 60_000)],
    ids=["convolutions", "stages"],
)
def test_network_of_too_many_modules_is_refused_quickly(folder, network):
    edit(folder, network=network)
    refused(folder)


def swin(**wrong) -> dict:
    """A small Swin UNETR's description; its constructor reads values of a tensor."""
    node = {"_target_": "monai.networks.nets.SwinUNETR", "_partial_": True, "feature_size": 12, "depths": [1, 1, 1, 1]}
    shape = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3}
    return {"_target_": PADDED, "divisor": 32, "network": node | wrong} | shape


def test_constructor_may_read_values(tmp_path):
    network = save(tmp_path, swin())
    image = torch.rand(1, 1, 33, 64)
    with torch.inference_mode():
        torch.testing.assert_close(load_model(tmp_path).network(image), network(image), rtol=0, atol=0)


@pytest.mark.timeout(20)
def test_constructor_cannot_read_unlimited_values(folder):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    edit(folder, network=swin(depths=[65_000] * 50_000))  # a schedule of 13 GB
    assert "3250000000 values" in refused(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_a_description_cannot_have_weights_downloaded():
    with pytest.raises(UserError, match="pretrained"):
        build({"_target_": "monai.networks.nets.DynUNet", "pretrained": True})
