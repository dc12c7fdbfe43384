"""The weights of a TorchScript file, such as a MONAI bundle's model.ts, without running or compiling its code."""

from __future__ import annotations

import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAX_PICKLE = 64 << 20  # bytes of the description of its modules
MAX_MODULES = 100_000  # and tensors
MAX_NAME = 1_000  # letters
STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
MARKER = "constants.pkl"  # in every TorchScript archive, and in no other of torch.save


class _Module:
    """A module of the file: its attributes alone."""

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _Reader(pickle.Unpickler):
    """Reads modules and tensors; every other class or function that the file asks for is refused."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(file)
        self.archive = archive
        self.root = root
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name of the file."""
        if module.startswith("__torch__"):
            return _Module
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name in (*LISTS, "restore_type_tag"):
            return _first
        raise pickle.UnpicklingError(f"it asks for {module[:80]}.{name[:80]}, which weights do not need")

    def persistent_load(self, pid: Any) -> Tensor:
        """The numbers of a storage, which must be stored in full and uncompressed."""
        _, dtype, key, _, count = pid
        entry = self.archive.getinfo(f"{self.root}data/{key}")
        if type(count) is not int or entry.file_size != count * dtype.itemsize:
            raise pickle.UnpicklingError(f"its storage {str(key)[:80]} has another size than it says")
        if entry.filename not in self.storages:  # a file may name one again and again
            numbers = bytearray(self.archive.read(entry))
            self.storages[entry.filename] = torch.frombuffer(numbers, dtype=torch.uint8) if count else torch.empty(0)
        return self.storages[entry.filename].view(dtype) if count else torch.empty(0).to(dtype)


def _first(value: Any, *_: Any) -> Any:
    return value


def _tensor(storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Tensor:
    if math.prod(size) > storage.numel():
        raise pickle.UnpicklingError("one of its tensors is larger than what is stored of it")
    return torch.as_strided(storage, size, stride, offset)


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.count("/") == 1 and name.endswith(f"/{MARKER}") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of a TorchScript file, on the CPU, by name.

    Args:
        path: The file.

    Raises:
        ValueError: If its numbers are compressed, or its description is too large or damaged.
        Exception: What is raised on a damaged file, or on one that asks for more than weights.
    """
    with zipfile.ZipFile(path) as archive:
        numbers = [entry for entry in archive.infolist() if "/data/" in entry.filename]
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in numbers):
            raise ValueError("its numbers are compressed, unlike those of torch.jit.save")
        root = next(name for name in archive.namelist() if name.endswith(f"/{MARKER}")).removesuffix(MARKER)
        if archive.getinfo(f"{root}data.pkl").file_size > MAX_PICKLE:
            raise ValueError(f"its data.pkl has more than {MAX_PICKLE} bytes")
        written = archive.read(f"{root}data.pkl")
        # Python allocates as many places as the largest number that a PUT names.
        places = [number for code, number, _ in pickletools.genops(written) if code.name.endswith("PUT")]
        if any(int(number or 0) > len(written) for number in places):
            raise ValueError("its data.pkl is damaged")
        with archive.open(f"{root}data.pkl") as file:
            return _named(_Reader(file, archive, root).load())


def _named(root: Any) -> dict[str, Tensor]:
    """Name and tensor of everything below a module, of which a file may repeat or nest one without end."""
    found, left, seen = dict[str, Tensor](), [("", root)], 0
    while left:
        prefix, node = left.pop()
        seen += 1
        if seen > MAX_MODULES or len(prefix) > MAX_NAME:
            raise ValueError(f"it has more than {MAX_MODULES:,} modules and tensors, or modules nested without end")
        if isinstance(node, Tensor):
            found[prefix] = node
        elif isinstance(node, _Module):
            inner = [(f"{prefix}.{name}" if prefix else str(name), value) for name, value in node.attributes.items()]
            left.extend(reversed(inner))
    return found
