"""Weights from a file or an earlier run: matching tensors are loaded; untrusted files run no code."""

import os
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from segment.data.labels import Labels
from segment.errors import UserError
from segment.inference.model import save_model
from segment.networks.encoders.classic import alexnet
from segment.preprocessing.plan import Plan
from segment.training import pretrained
from segment.training.pretrained import load_weights


class Network(nn.Module):
    """A small network with the parts of ours: an encoder, something more, heads."""

    def __init__(self, classes: int = 3, kernel: int = 3, heads: int = 1, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.decoder = nn.Conv2d(4, 4, kernel, padding=kernel // 2, groups=4)
        self.heads = nn.ModuleList(nn.Conv2d(4, classes, 1) for _ in range(heads))


def run_folder(folder: Path, network: nn.Module) -> Path:
    plan = Plan((1.0, 1.0), (16, 16), 2, ("zscore",))
    save_model(folder / "model", network, {}, plan, Labels({"background": 0, "a": 1, "b": 2}), ("ct",), {}, "demo")
    return folder


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def equal(network: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def save(state: object, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=path.suffix != ".pt")  # .pt: as before torch 1.6
    return path


def refused(network: nn.Module, path: Path) -> str:
    before = state_of(network)
    with pytest.raises(UserError) as refusal:
        load_weights(network, path)
    assert equal(network, before)
    words = str(refusal.value)
    assert words.startswith(f"weights={path}: ")
    assert "\n" not in words
    assert len(words) < 700
    return words


# An encoder's file


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.pt", "A.PTH"])
def test_file_is_loaded_into_the_encoder_only(name, tmp_path):
    source, network = Network(seed=1), Network(seed=2)
    before = state_of(network)
    path = save(state_of(source.encoder), tmp_path / name)
    assert str(load_weights(network, path)).startswith(f"{path}: encoder 7 of 7 tensors, decoder 0 of 2 tensors, heads")
    assert equal(network.encoder, source.encoder.state_dict())
    assert equal(network, before | {f"encoder.{key}": value for key, value in source.encoder.state_dict().items()})


def test_published_weights_load_into_a_3d_classic_encoder(tmp_path):
    source, network = alexnet(2, 3), nn.Module()
    network.encoder = alexnet(3, 2)
    published = {source.published_name(key): value for key, value in source.state_dict().items()}
    load_weights(network, save(published | {"classifier.1.weight": torch.zeros(2, 2)}, tmp_path / "alexnet.pth"))
    torch.testing.assert_close(network.encoder.trunk[3].weight.sum(2), source.trunk[3].weight)
    torch.testing.assert_close(network.encoder.trunk[0].weight.sum((1, 2)), source.trunk[0].weight.sum(1))


def test_an_encoder_may_adapt_the_weights_itself(tmp_path):
    class Adapting(nn.Linear):
        def adapt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.reshape(self.state_dict()[name].shape) for name, value in state.items()}

    network = nn.Module()
    network.encoder = Adapting(2, 3)
    load_weights(network, save({"weight": torch.arange(6.0), "bias": torch.zeros(3)}, tmp_path / "a.pth"))
    assert torch.equal(network.encoder.weight, torch.arange(6.0).view(3, 2))
    assert "does not fit" in refused(network, save({"weight": torch.zeros(7)}, tmp_path / "b.pth"))


def test_weights_are_copied_and_training_does_not_change_the_file(tmp_path):
    path = save(Network(seed=1).encoder.state_dict(keep_vars=True), tmp_path / "a.pth")
    content, network = path.read_bytes(), Network(seed=2)
    load_weights(network, path)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert path.read_bytes() == content
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in network.parameters())


def test_weights_from_an_accelerator_load_on_any_device(tmp_path):
    path, network = save(state_of(Network(seed=1).encoder), tmp_path / "a.pt"), Network(seed=2)
    content = path.read_bytes()
    place, elsewhere = (b"X" + len(name).to_bytes(4, "little") + name for name in (b"cpu", b"cuda:9"))
    assert place in content
    path.write_bytes(content.replace(place, elsewhere))
    load_weights(network, path)
    assert equal(network.encoder, Network(seed=1).encoder.state_dict())


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.pt"])
def test_weights_of_another_encoder_are_refused(name, tmp_path):
    path = save({"0.weight": torch.zeros(4, 2, 3, 3), "0.bias": torch.zeros(4)}, tmp_path / name)
    assert "'0.weight' is (4, 2, 3, 3) in the weights, (4, 1, 3, 3) in the network" in refused(Network(), path)


def test_a_network_without_an_encoder_says_so(tmp_path):
    path = save({"0.weight": torch.zeros(1)}, tmp_path / "a.pth")
    assert "a name of Linear, which has no encoder" in refused(nn.Linear(1, 1), path)


# The folder of a run


@pytest.mark.parametrize("place", ["", "model"])
def test_run_or_model_folder_loads_the_whole_network(place, tmp_path):
    source, network = Network(seed=1), Network(seed=2)
    text = str(load_weights(network, run_folder(tmp_path, source) / place))
    assert equal(network, source.state_dict())
    file = tmp_path / "model" / "weights.safetensors"
    assert text == f"{file}: encoder 7 of 7 tensors, decoder 2 of 2 tensors, heads 2 of 2 tensors"


def test_heads_with_other_classes_keep_their_initial_weights(tmp_path):
    source, network = Network(seed=1), Network(classes=5, seed=2)
    before = state_of(network)
    text = str(load_weights(network, run_folder(tmp_path, source)))
    heads = {key: value for key, value in before.items() if key.startswith("heads.")}
    assert equal(network, source.state_dict() | heads)
    assert "heads 0 of 2" in text
    assert "new: heads.0.weight ((3, 4, 1, 1) in the weights, (5, 4, 1, 1) in the network)" in text


@pytest.mark.parametrize(("there", "here"), [(1, 2), (2, 1)])
def test_heads_missing_on_one_side_are_ignored(there, here, tmp_path):
    source, network = Network(heads=there, seed=1), Network(heads=here, seed=2)
    before = state_of(network)
    found = load_weights(network, run_folder(tmp_path, source))
    assert equal(network, before | {name: value for name, value in source.state_dict().items() if name in before})
    names = ["heads.1.bias", "heads.1.weight"]
    assert (sorted(found.initial), sorted(found.unused)) == ((names, []) if here > there else ([], names))


def test_smaller_depthwise_kernels_are_interpolated(tmp_path):
    source, network = Network(seed=1), Network(kernel=5, seed=2)
    found = load_weights(network, run_folder(tmp_path, source))
    assert found.adapted == {"decoder.weight": "(4, 1, 3, 3) to (4, 1, 5, 5), kernel interpolated"}
    torch.testing.assert_close(network.decoder.weight[:, :, ::2, ::2], source.decoder.weight)
    assert torch.equal(network.encoder[0].weight, source.encoder[0].weight)


def test_what_does_not_fit_keeps_its_initial_weights_and_is_named(tmp_path):
    source, network = Network(kernel=5, seed=1), Network(seed=2)
    before = state_of(network)
    found = load_weights(network, run_folder(tmp_path, source))
    assert found.initial == {"decoder.weight": "(4, 1, 5, 5) in the weights, (4, 1, 3, 3) in the network"}
    assert equal(network, source.state_dict() | {"decoder.weight": before["decoder.weight"]})


def test_heads_of_other_labels_are_new_and_a_part_alone_can_be_taken(tmp_path):
    source, network = Network(seed=1), Network(seed=2)
    folder, before = run_folder(tmp_path, source), state_of(network)
    labels = {"background": 0, "a": 1, "c": 2}
    found = load_weights(network, folder, labels=labels)
    assert dict(found.initial) == dict.fromkeys(["heads.0.weight", "heads.0.bias"], "other labels")
    network.load_state_dict(before)
    load_weights(network, folder, take=["encoder"], labels=labels)
    assert equal(network, before | {f"encoder.{name}": value for name, value in source.encoder.state_dict().items()})
    with pytest.raises(UserError, match=r"parameters\.take: 'stem' matches no"):
        load_weights(network, folder, take=["stem"])


def test_what_differs_between_the_descriptions_is_named(tmp_path):
    plan = Plan((1.0, 1.0), (16, 16), 2, ("zscore",))
    there = {"encoder": {"strides": [[1, 1], [2, 1]], "depths": 2}, "in_channels": 4}
    save_model(tmp_path, Network(), there, plan, Labels({"background": 0, "a": 1}), ("ct",), {}, "demo")
    found = load_weights(Network(), tmp_path, architecture={"encoder": {"strides": [[1, 1], [2, 2]], "depths": 2}})
    assert found.differs == ["encoder.strides.1 is [2, 1] there and [2, 2] here"]


@pytest.mark.parametrize("key", ["state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "network.", "module."])
def test_whole_networks_of_other_programs_are_taken_by_their_names(key, prefix, tmp_path):
    source, network = Network(seed=1), Network(seed=2)
    state = {f"{prefix}{name}": value for name, value in source.state_dict().items()}
    load_weights(network, save({key: state, "epoch": 3}, tmp_path / "model.pt"))
    assert equal(network, source.state_dict())


def test_another_networks_run_is_refused(tmp_path):
    other = Network()
    other.encoder = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8))
    assert "'encoder.0.weight' is (8, 1, 3, 3) in the weights" in refused(Network(), run_folder(tmp_path, other))


def test_a_folder_without_a_model_is_refused(tmp_path):
    assert "no model.json" in refused(Network(), tmp_path)


def test_a_model_folder_without_its_weights_is_refused(tmp_path):
    (run_folder(tmp_path, Network()) / "model" / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors: cannot be read"):
        load_weights(Network(), tmp_path)


# Untrusted files


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.command = f"touch {path}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_a_malicious_file_runs_nothing(suffix, tmp_path):
    state = state_of(Network().encoder) | {"bomb": Bomb(tmp_path / "ran")}
    path = save(state, tmp_path / f"evil{suffix}")
    refused(Network(), path)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)  # the bomb is a bomb
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(suffix, part, tmp_path):
    path = save(state_of(Network(seed=1).encoder), tmp_path / f"a{suffix}")
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert "cannot be read" in refused(Network(), path)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [torch.zeros(1)],
        torch.zeros(1),
        5,
        {"0.weight": 1.0},
        {7: torch.zeros(1)},
        {"state_dict": {"a": 1.0}},
    ]
    + [{"0.bias": value} for value in (torch.zeros(4, device="meta"), torch.eye(4).to_sparse(), torch.zeros(4) * 1j)],
)
def test_files_without_a_state_dict_are_refused(content, tmp_path):
    assert "has no state dict" in refused(Network(), save(content, tmp_path / "a.pth"))


@pytest.mark.filterwarnings("ignore::UserWarning")  # quantised tensors are on their way out of torch
def test_values_of_a_kind_that_cannot_be_copied_leave_nothing_half_loaded(tmp_path):
    state = state_of(Network(seed=1).encoder)
    state["1.bias"] = torch.quantize_per_tensor(state["1.bias"], 0.1, 0, torch.qint8)
    refused(Network(), save(state, tmp_path / "a.pth"))


def test_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    path = save(state_of(Network(seed=1).encoder), tmp_path / "a.pth")
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    assert "compressed" in refused(Network(), path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_too_large_is_not_opened(suffix, tmp_path, monkeypatch):
    path = save(state_of(Network().encoder), tmp_path / f"a{suffix}")
    with path.open("r+b") as file:
        file.truncate(pretrained.MAX_BYTES + 1)  # takes no room on the disk
    monkeypatch.setattr(torch, "load", None)
    monkeypatch.setattr(pretrained, "load_file", None)
    assert "are more than" in refused(Network(), path)


def test_tensor_larger_than_its_file_is_refused(tmp_path):
    path = save({"0.weight": torch.zeros(1).expand(1 << 40, 3, 3, 3)}, tmp_path / "a.pth")
    assert path.stat().st_size < 1 << 20
    assert "larger than the file" in refused(Network(), path)


def test_a_missing_file_and_another_kind_of_file_are_refused(tmp_path):
    assert "does not exist" in refused(Network(), tmp_path / "a.pth")
    assert "not a file of weights" in refused(Network(), save({}, tmp_path / "last.ckpt"))
