"""Signatures that are read from source are those of the imported objects."""

from pathlib import Path

import pytest
import yaml
from hydra.utils import get_object

from segment.config.build import walk
from segment.config.signatures import Signature, read_signature, signature_of

CONF = Path(__file__).parents[2] / "conf"


def targets() -> list[str]:
    nodes = [node for file in CONF.rglob("*.yaml") for _, node in walk({"": yaml.safe_load(file.read_text())})]
    return sorted({node["_target_"] for node in nodes if isinstance(node, dict) and "_target_" in node})


def test_every_target_of_the_configuration_is_read_as_it_is():
    found = targets()
    assert len(found) > 80
    for target in found:
        read, imported = read_signature(target), signature_of(get_object(target))
        assert read is not None, target
        assert (set(read.names), read.open) == (set(imported.names), imported.open), target
        for name, kinds in imported.numbers.items():
            assert read.numbers.get(name, kinds) == kinds, (target, name)


MODULE = """
import abc
import functools
from dataclasses import dataclass, field
from typing import ClassVar, Optional

def decorated(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        return function(*args, **kwargs)
    return call

@decorated
def wrapped(rate): ...

def plain(rate: float, /, steps: "int | None" = None, *, on: Optional[bool] = None, names: list[str] = (), **more): ...

class Base(abc.ABC):
    def __init__(self, width: int): ...

class Derived(Base): ...

@dataclass
class Values(Base):
    share: float = 0.5
    shared: ClassVar[int] = 1

@dataclass
class Fields:
    hidden: int = field(default=1, init=False)

class New:
    def __new__(cls, width): ...

alias = plain
value = plain(1)
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wrapped", None),
        ("Fields", None),
        ("New", None),
        ("value", None),
        ("Derived", Signature(("width",), False, {"width": frozenset({int})})),
        ("Values", Signature(("width", "share"), False, {"width": frozenset({int}), "share": frozenset({float})})),
        (
            "alias",
            Signature(
                ("steps", "on", "names"),
                True,
                {
                    "rate": frozenset({float}),
                    "steps": frozenset({int, type(None)}),
                    "on": frozenset({bool, type(None)}),
                },
            ),
        ),
    ],
)
def test_what_the_source_does_not_tell_is_left_to_the_import(tmp_path, monkeypatch, name, expected):
    (tmp_path / "module_of_the_signature_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    assert read_signature(f"module_of_the_signature_test.{name}") == expected


def test_a_name_that_is_certainly_missing_is_told(tmp_path, monkeypatch):
    (tmp_path / "complete_module.py").write_text("class Net: ...\n")
    (tmp_path / "open_module.py").write_text("from complete_module import *\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AttributeError, match="has no 'Nett'"):
        read_signature("complete_module.Nett")
    assert read_signature("open_module.Nett") is None
    assert read_signature("no_such_module.Net") is None
