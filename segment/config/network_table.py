"""Key figures of every network, kept in network_table.json, since counting them all takes half a minute.

``segment list`` itself counts a network whose configuration differs from the counted one, such as one of the user's
own, and all networks if the code in segment/networks differs. ``make networks`` updates the file.
"""

from __future__ import annotations

import ast
import functools
import gc
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from segment.config.build import make
from segment.config.choices import options, search_folders, source
from segment.config.compose import register
from segment.config.folders import BUILT_IN
from segment.errors import UserError
from segment.files import write_json
from segment.text import one_line

if TYPE_CHECKING:  # importing torch takes seconds
    from torch import nn

    from segment.networks.describe import Description

FILE = Path(__file__).with_name("network_table.json")
NETWORKS = Path(__file__).parents[1] / "networks"
COMMAND = "make networks"


def network_row(name: str) -> dict[str, Any]:
    """A network's key figures for one channel and two classes, None for dimensions it does not support, and its paper.

    Args:
        name: A choice of the group ``network``; Hydra must be initialised.
    """
    kept = table()["networks"].get(name, {})
    known = table()["code"] == code_hash() and kept.get("configuration") == configuration_hash(name)
    figures = {key: value for key, value in kept.items() if key != "configuration"} if known else count(name)
    return {"name": name, **figures, **source(name)}


@functools.cache
def table() -> dict[str, Any]:
    """The content of the file."""
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return content


@functools.cache
def code_hash() -> str:
    """Hash of the code in segment/networks, without comments and docstrings; the same for every version of Python."""
    found = hashlib.sha256()
    for file in sorted(NETWORKS.rglob("*.py")):
        tree = ast.parse(file.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        found.update(f"{file.relative_to(NETWORKS)}\n{_plain(tree)}\n".encode())
    return found.hexdigest()[:16]


def _plain(node: object) -> object:
    """A part of a syntax tree as lists, without its empty fields, of which each version of Python has others."""
    if isinstance(node, list):
        return [_plain(part) for part in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    return [
        type(node).__name__,
        *((name, _plain(part)) for name, part in ast.iter_fields(node) if part not in (None, [])),
    ]


def configuration_hash(name: str) -> str:
    """Hash of a network's configuration file, of those it inherits, and of MONAI's version if it is MONAI's."""
    text = "\n".join(_texts(name, ()))
    version = importlib.metadata.version("monai") if "monai." in text else ""
    return hashlib.sha256(f"{text}{version}".encode()).hexdigest()[:16]


def _texts(name: str, above: tuple[str, ...]) -> Iterator[str]:
    file = next(
        (path for folder in search_folders("file") if (path := folder / "network" / f"{name}.yaml").is_file()), None
    )
    if file is None or name in above:
        return
    text = file.read_text(encoding="utf-8")
    yield text
    content = yaml.safe_load(text)
    for entry in (content.get("defaults") or []) if isinstance(content, dict) else []:
        if isinstance(entry, str) and entry != "_self_":
            yield from _texts(entry, (*above, name))


def count(name: str) -> dict[str, Any]:
    """Count a network's key figures; the reason why it cannot be described is printed to stderr."""
    found: dict[int, Description] = {}
    reasons = []
    try:
        constructor = make(hydra.compose("train", [f"network={name}"]), "network")
    except (UserError, HydraException, OmegaConfBaseException) as error:
        reasons.append(one_line(error))
    else:
        for dims in (2, 3):
            try:
                found[dims] = described(constructor, dims)
            except UserError as error:
                reasons.append(str(error))
    if not found:
        print(f"segment: network={name} cannot be described: {'; '.join(dict.fromkeys(reasons))}", file=sys.stderr)
    either = found.get(3) or found.get(2)
    return {
        "dimensions": sorted(found),
        **{f"parameters {d}D": found[d].parameters if d in found else None for d in (2, 3)},
        **{f"operations per voxel {d}D": found[d].operations_per_voxel if d in found else None for d in (2, 3)},
        "divisor": list(either.divisor) if either else None,
        "deep supervision": either.deep_supervision if either else None,
    }


def described(constructor: Callable[..., nn.Module], dims: int, size: Any = None) -> Description:
    """Key figures of a network.

    Args:
        constructor: The network's constructor.
        dims: 2 or 3.
        size: Size of the image, one integer or one per axis; None for the default.

    Raises:
        UserError: When it cannot be built, or does not accept the image.
    """
    from segment.networks.blocks import per_axis
    from segment.networks.describe import build, describe

    try:
        return describe(build(constructor, dims), dims, None if size is None else per_axis(size, dims))
    except Exception as error:  # a third-party network may raise anything
        raise UserError(one_line(error).removeprefix("network: ")) from error


def write_table(file: Path = FILE) -> None:
    """Count every built-in network and write the file."""
    register([("file", BUILT_IN / "conf")])
    gc.disable()  # saves a fifth of the time; the modules hold no parameter memory
    with hydra.initialize(version_base="1.3", config_path=None):
        rows = {name: {"configuration": configuration_hash(name), **count(name)} for name in options("network")}
    write_json(file, {"code": code_hash(), "networks": rows})


if __name__ == "__main__":
    write_table()
