"""Weights of TorchScript files are read as data: equal to the network's own, and no code of the file runs."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from monai.networks.nets import BasicUNet

from segment.errors import UserError
from segment.inference.torchscript import is_torchscript, read_torchscript
from segment.training.pretrained import load_weights


def network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return BasicUNet(spatial_dims=2, features=(4, 4, 4, 4, 4, 4), norm="batch")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("bundle") / "model.ts"
    torch.jit.save(torch.jit.script(network(1)), path)
    return path.read_bytes()


@pytest.fixture
def file(saved, tmp_path) -> Path:
    (tmp_path / "model.ts").write_bytes(saved)
    return tmp_path / "model.ts"


def replaced(file: Path, name: str, content: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    """Replace an entry of an archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(packed, "w", compression) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, content if entry.filename.endswith(name) else old.read(entry))
    file.write_bytes(packed.getvalue())


def test_the_weights_are_those_of_the_network(file):
    source, target = network(1), network(2)
    assert is_torchscript(file)
    found = read_torchscript(file)
    assert found.keys() == source.state_dict().keys()
    assert all(torch.equal(value, found[name]) for name, value in source.state_dict().items())
    load_weights(target, file)
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


def test_a_payload_does_not_run(file, tmp_path):
    replaced(file, "/data.pkl", pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(UserError, match=r"posix\.system"):
        load_weights(network(2), file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "compression"),
    [
        ("/data/0", b"1234", zipfile.ZIP_STORED),
        ("/data.pkl", b"\x80\x02]r\xff\xff\xff\x7f.", zipfile.ZIP_STORED),  # puts an object at place 2^31
        ("/data.pkl", b"", zipfile.ZIP_STORED),
        ("/version", b"3", zipfile.ZIP_DEFLATED),
    ],
    ids=["short-storage", "huge-memo", "empty", "compressed"],
)
def test_a_damaged_file_is_refused(file, name, content, compression):
    replaced(file, name, content, compression)
    with pytest.raises(UserError, match="cannot be read as plain weights"):
        load_weights(network(2), file)


def module(attributes: bytes) -> bytes:
    """A module at place 0 of the pickle, whose attributes are a dict of what follows."""
    return b"\x80\x02c__torch__\nM\n)\x81q\x00}(" + attributes + b"ub."


def name(text: bytes) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text


def test_modules_that_hold_themselves_are_refused(file):
    replaced(file, "/data.pkl", module(name(b"left") + b"h\x00" + name(b"right") + b"h\x00"))
    with pytest.raises(UserError, match="nested without end"):
        load_weights(network(2), file)


def test_a_storage_that_is_named_again_and_again_is_read_once(file):
    count = zipfile.ZipFile(file).getinfo("model/data/0").file_size // 4
    one = (
        b"(" + name(b"storage") + b"ctorch\nFloatStorage\n" + name(b"0") + name(b"cpu") + b"K" + bytes([count]) + b"tQ"
    )
    replaced(file, "/data.pkl", module(b"".join(name(b"%d" % index) + one for index in range(3))))
    first, *others = read_torchscript(file).values()
    assert len(others) == 2
    assert all(other.data_ptr() == first.data_ptr() for other in others)
