"""A damaged model folder is refused with one paragraph that names the file."""

import json
import pickle
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from saved_models import INFERENCE, PLAN, edit, refused

from segment.errors import UserError
from segment.inference.model import load_model


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        pickle.dumps({"network": 1}),
    ],
    ids=["empty", "cut", "list", "null", "no-keys", "bytes", "deep-list", "deep-object", "pickle"],
)
def test_file_without_a_description_is_refused(folder, content):
    (folder / "model.json").write_bytes(content)
    refused(folder)


def test_oversized_description_is_refused_unread(folder):
    with (folder / "model.json").open("a") as file:
        file.write(" " * (1 << 20))
    assert "larger" in refused(folder)


def test_a_deeply_nested_network_is_refused(folder):
    text = json.dumps(json.loads((folder / "model.json").read_text()) | {"network": "HERE"})
    (folder / "model.json").write_text(text.replace('"HERE"', '{"network":' * 900 + "1" + "}" * 900))
    refused(folder)


@pytest.mark.parametrize("key", ["network", "plan", "labels", "channels", "inference", "dataset"])
def test_a_missing_entry_is_refused(folder, key):
    content = json.loads((folder / "model.json").read_text())
    content.pop(key)
    (folder / "model.json").write_text(json.dumps(content))
    assert key in refused(folder)


@pytest.mark.parametrize(
    "wrong",
    [
        {"spacing": [float("nan"), 1.0]},
        {"spacing": [float("inf"), 1.0]},
        {"spacing": [0.0, 1.0]},
        {"spacing": [-1.0, 1.0]},
        {"spacing": [1.0, 1.0, 1.0]},
        {"spacing": [1.0] * 5, "patch_size": [8] * 5},
        {"spacing": "ab"},
        {"spacing": None},
        {"patch_size": [16, 0]},
        {"patch_size": [16, 10**9]},
        {"patch_size": [60_000, 60_000]},
        {"patch_size": [16, float("inf")]},
        {"batch_size": float("inf")},
        {"normalization": ["magic"]},
        {"normalization": ["zscore", "zscore"]},
        {"normalization": ["ct"]},
        {"normalization": ["ct"], "intensities": [{"mean": float("nan"), "sd": 1, "low": 0, "high": 1}]},
        {"intensities": [{"mean": 0}]},
        {"transpose": [0, 0]},
        {"transpose": [0, 2, 3]},
    ],
)
def test_invalid_plan_is_refused(folder, wrong):
    edit(folder, plan=PLAN.as_dict() | wrong)
    refused(folder)


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"background": 0, "a": float("inf"), "b": 2},
        {"background": 0, "a": 1, "b": 1},
        {"a": "x"},
        [0, 1],
        None,
        {"background": 0},
    ],
)
def test_invalid_labels_are_refused(folder, labels):
    edit(folder, labels=labels)
    refused(folder)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _header_of_terabytes(path: Path) -> None:
    path.write_bytes((2**43).to_bytes(8, "little") + b"{}")


def _tensor_of_terabytes(path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def _change(path: Path, change) -> None:
    state = load_file(path)
    change(state)
    save_file(state, path)


def _reshape(state: dict) -> None:
    key = next(key for key, value in state.items() if value.ndim == 4)
    state[key] = state[key][:, :, :1].contiguous()


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(range(256)) * 40),
        _truncate,
        _header_of_terabytes,
        _tensor_of_terabytes,
        partial(_change, change=lambda state: state.popitem()),
        partial(_change, change=lambda state: state.update(more=torch.zeros(3))),
        partial(_change, change=_reshape),
    ],
    ids=["missing", "empty", "garbage", "cut", "long-header", "large-tensor", "tensor-missing", "tensor-more", "shape"],
)
def test_unsuitable_weights_are_refused(folder, damage):
    damage(folder / "weights.safetensors")
    refused(folder, "weights.safetensors")


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_pickle_with_the_name_of_safetensors_is_refused_and_does_not_run(folder, tmp_path, write):
    write({"state_dict": Bomb(tmp_path / "ran")}, folder / "weights.safetensors")
    refused(folder, "weights.safetensors")
    assert not (tmp_path / "ran").exists()


def test_integers_in_place_of_weights_are_refused(folder):
    weights = load_file(folder / "weights.safetensors")
    name = next(key for key, value in weights.items() if value.is_floating_point())
    save_file(weights | {name: weights[name].round().int()}, folder / "weights.safetensors")
    assert f"tensor {name!r} is torch.int32 in the file, torch.float32" in refused(folder, "weights.safetensors")


def test_a_duplicated_key_is_refused(folder):
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace("{", '{"dataset": "other",', 1))
    assert "'dataset' is duplicated" in refused(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^model=.*no model\.json"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"overlap": float("nan")}, {"overlap": 0.999}, {"overlap": -0.1}, {"overlap": "much"}, {"batch_size": 0},
        {"batch_size": 10**9}, {"batch_size": 1.5}, {"sigma": float("inf")}, {"sigma": 0}, {"sigma": 1e-400},
        {"mirror": [7]}, {"mirror": "left"}, {"mirror": 3},
    ],
    ids=str,
)  # fmt: skip
def test_invalid_windows_are_refused(folder, wrong):
    edit(folder, inference=INFERENCE | wrong)
    refused(folder)


@pytest.mark.parametrize("precision", ["bf17", 16, ["32-true"]])
def test_unknown_precision_is_refused(folder, precision):
    edit(folder, precision=precision)
    refused(folder)


def test_newer_format_is_refused_with_an_explanation(folder):
    edit(folder, format=6)
    assert "has format 6, but this version of segment reads formats up to 5" in refused(folder)


@pytest.mark.parametrize("written", [0, "1", None, True, 1.5])
def test_invalid_format_is_refused(folder, written):
    edit(folder, format=written)
    refused(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder, value):
    state = load_file(folder / "weights.safetensors")
    next(iter(state.values())).view(-1)[-1] = value
    save_file(state, folder / "weights.safetensors")
    assert "not finite" in refused(folder, "weights.safetensors")
