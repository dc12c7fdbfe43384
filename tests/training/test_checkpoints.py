from pathlib import Path

import pytest
import torch

from segment.errors import UserError
from segment.training.checkpoints import WholeFileCheckpoints, network_weights

STATE = {"network.a.weight": torch.arange(4.0), "network.b.network.bias": torch.ones(2), "loss.weight": torch.zeros(1)}


def test_checkpoint_is_read_back(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"  # the folder is made
    io = WholeFileCheckpoints()
    io.save_checkpoint({"state_dict": STATE, "global_step": 7}, path)
    loaded = io.load_checkpoint(path, weights_only=True)
    assert loaded["global_step"] == 7
    assert all(torch.equal(loaded["state_dict"][key], value) for key, value in STATE.items())
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
def test_failed_save_leaves_the_previous_checkpoint(tmp_path, monkeypatch, error):
    path, io = tmp_path / "last.ckpt", WholeFileCheckpoints()
    io.save_checkpoint({"state_dict": STATE, "global_step": 1}, path)
    before = path.read_bytes()

    def half(checkpoint, file):
        Path(file).write_bytes(b"half a checkpoint")
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(type(error)):
        io.save_checkpoint({"state_dict": STATE, "global_step": 2}, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_network_weights_lose_their_prefix_and_others_are_left_out(tmp_path):
    torch.save({"state_dict": STATE, "epoch": 3}, tmp_path / "last.ckpt")
    weights = network_weights(tmp_path / "last.ckpt")
    assert set(weights) == {"a.weight", "b.network.bias"}
    assert torch.equal(weights["a.weight"], torch.arange(4.0))


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_malicious_checkpoint_does_not_run(tmp_path):
    torch.save({"state_dict": STATE, "callbacks": Bomb(tmp_path / "ran")}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt"):
        network_weights(tmp_path / "last.ckpt")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "last.ckpt", weights_only=False)
    assert (tmp_path / "ran").exists()  # it would have
