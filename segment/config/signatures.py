"""Parameters of constructors, read from their source: importing torch, MONAI or Lightning takes seconds."""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

# Decorators that leave the parameters as they are written.
TRANSPARENT = {"_defaults_from_env_vars", "deprecated", "deprecated_arg", "deprecated_arg_default"}
NUMBERS: dict[str, type] = {"bool": bool, "float": float, "int": int}
PLAIN_BASES = {"ABC", "Callback", "object"}  # without parameters
MAX_DEPTH = 8  # of imports that are followed to the module that defines a class, and of base classes


@dataclass(frozen=True)
class Signature:
    """What a constructor accepts by keyword.

    Attributes:
        names: Its parameters.
        open: Whether it accepts any other keyword as well.
        numbers: The types of each parameter that holds numbers, booleans and None only.
    """

    names: tuple[str, ...]
    open: bool
    numbers: Mapping[str, frozenset[type]]


NONE = Signature((), False, {})  # of a class without a constructor of its own


def signature_of(constructor: Callable[..., Any]) -> Signature:
    """The signature of an imported function or class."""
    parameters = inspect.signature(constructor).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    try:
        hints = get_type_hints(vars(constructor).get("__init__") if isinstance(constructor, type) else constructor)
    except (NameError, TypeError, AttributeError):
        hints = {}
    kinds = {
        name: frozenset(get_args(hint) if get_origin(hint) in (Union, UnionType) else {hint})
        for name, hint in hints.items()
    }
    return Signature(
        tuple(names),
        any(p.kind is p.VAR_KEYWORD for p in parameters),
        _only_numbers(kinds),
    )


def read_signature(target: str) -> Signature | None:
    """Read a signature without importing the module.

    Args:
        target: Dotted name of a function or class.

    Returns:
        The signature; None where the source alone does not tell it, for example behind a decorator.

    Raises:
        AttributeError: When the module certainly has no such name.
    """
    module, _, name = target.rpartition(".")
    found = _definition(module, name)
    if found is None:
        names = _names(module)
        if names is not None and name not in names:
            raise AttributeError(f"module {module!r} has no {name!r}")
        return None
    module, node = found
    return _of_class(module, node) if isinstance(node, ast.ClassDef) else _of_function(node)


def is_imported(target: str) -> bool:
    """Whether the module of a dotted name is loaded, so that looking at the object itself costs nothing."""
    return target.rpartition(".")[0] in sys.modules


def names_in(module: str) -> frozenset[str]:
    """Names that a module defines or imports; empty if they cannot be told from its source."""
    return _names(module) or frozenset()


def _only_numbers(kinds: Mapping[str, frozenset[Any]]) -> dict[str, frozenset[type]]:
    """The parameters whose types are numbers, booleans and None only."""
    return {key: found for key, found in kinds.items() if found - {NoneType} and found <= {*NUMBERS.values(), NoneType}}


def _find(module: str) -> ModuleSpec | None:
    """Where a module's source is; unlike `importlib.util.find_spec`, it does not import the packages around it."""
    package = module.rpartition(".")[0]
    if not package:
        return importlib.util.find_spec(module) if module.isidentifier() else None
    around = _find(package)
    places = around.submodule_search_locations if around else None
    return PathFinder.find_spec(module, places) if places else None


def _parsed(module: str) -> ast.Module | None:
    """The syntax tree of a module; None if there is none in Python."""
    try:
        found = _find(module)
        if found is None or not found.has_location or not str(found.origin).endswith(".py"):
            return None
        file = Path(str(found.origin))
        return _parsed_file(file, file.stat().st_mtime_ns)
    except (OSError, SyntaxError, ValueError, ImportError):
        return None  # importing it gives the better reason


@functools.cache
def _parsed_file(file: Path, changed: int) -> ast.Module:
    return ast.parse(file.read_bytes())


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, including those under ``if``, ``try`` and ``with``."""
    for statement in body:
        yield statement
        for block in ("body", "orelse", "finalbody"):
            if not isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _statements(getattr(statement, block, []))
        for handler in getattr(statement, "handlers", []):
            yield from _statements(handler.body)


def _definition(module: str, name: str, depth: int = MAX_DEPTH) -> tuple[str, ast.ClassDef | ast.FunctionDef] | None:
    """The module and the statement that define a name, imports followed; None if it is not a class or a function."""
    tree = _parsed(module)
    if tree is None or depth < 0:
        return None
    for statement in reversed([*_statements(tree.body)]):
        match statement:
            case ast.ClassDef() | ast.FunctionDef() if statement.name == name:
                return module, statement
            case ast.ImportFrom():
                for alias in statement.names:
                    if (alias.asname or alias.name) == name:
                        return _definition(_absolute(module, statement), alias.name, depth - 1)
            case ast.Assign(targets=[ast.Name(id=bound)]) if bound == name:
                other = statement.value
                return _definition(module, other.id, depth - 1) if isinstance(other, ast.Name) else None
    return None


def _absolute(module: str, statement: ast.ImportFrom) -> str:
    """The module that ``from ... import`` in another module names."""
    if not statement.level:
        return statement.module or ""
    found = _find(module)
    is_package = found is not None and found.submodule_search_locations is not None
    parts = module.split(".")
    kept = parts[: len(parts) - statement.level + is_package]
    return ".".join([*kept, *([statement.module] if statement.module else [])])


def _names(module: str) -> frozenset[str] | None:
    """Names at the top level of a module; None if they cannot be told from its source."""
    tree = _parsed(module)
    if tree is None:
        return None
    names: set[str] = set()
    for statement in _statements(tree.body):
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(statement.name)
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.alias):
                names.add(node.asname or node.name.partition(".")[0])
    return None if names & {"*", "__getattr__"} else frozenset(names)


def _of_class(module: str, node: ast.ClassDef, depth: int = MAX_DEPTH) -> Signature | None:
    own = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name in ("__init__", "__new__")]
    decorators = [_last_name(item) for item in node.decorator_list]
    metaclasses = [_last_name(keyword.value) for keyword in node.keywords]
    if any(item.name == "__new__" for item in own) or not {*metaclasses} <= {"ABCMeta"}:
        return None
    if own and decorators in ([], ["dataclass"]):
        return _of_function(own[-1], bound=True)
    inherited = NONE
    for base in node.bases:
        if _last_name(base) in PLAIN_BASES:
            continue
        found = _definition(module, base.id) if isinstance(base, ast.Name) else None
        if found is None or depth < 0 or not isinstance(found[1], ast.ClassDef):
            return None
        above = _of_class(found[0], found[1], depth - 1)
        if above is None:
            return None
        inherited = inherited if inherited is not NONE else above
    if decorators == ["dataclass"]:
        return _of_dataclass(node, inherited)
    return inherited if not decorators else None


def _of_dataclass(node: ast.ClassDef, inherited: Signature) -> Signature | None:
    entries = [item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
    if any(isinstance(item.value, ast.Call) for item in [*entries]):
        return None  # of `field`, which may leave it out
    kinds = {
        item.target.id: _numbers(item.annotation)  # type: ignore[union-attr]
        for item in entries
        if not (isinstance(item.annotation, ast.Subscript) and _last_name(item.annotation.value) == "ClassVar")
    }
    names = dict.fromkeys([*inherited.names, *kinds])
    return Signature(tuple(names), inherited.open, {**inherited.numbers, **_only_numbers(kinds)})


def _of_function(node: ast.FunctionDef, bound: bool = False) -> Signature | None:
    """The signature of a function, or of a method without its first parameter."""
    if not all(_last_name(item) in TRANSPARENT for item in node.decorator_list):
        return None
    given = node.args
    parameters = [*given.posonlyargs, *given.args][bound:] + given.kwonlyargs
    names = tuple(item.arg for item in parameters if item not in given.posonlyargs)
    return Signature(
        names, given.kwarg is not None, _only_numbers({item.arg: _numbers(item.annotation) for item in parameters})
    )


def _last_name(node: ast.expr) -> str:
    """The last part of a dotted name, which may be called."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _numbers(annotation: ast.expr | None) -> frozenset[type]:
    """The types of an annotation of numbers, booleans and None only; empty for any other."""
    match annotation:
        case ast.Name(id=name) if name in NUMBERS:
            return frozenset({NUMBERS[name]})
        case ast.Constant(value=None):
            return frozenset({NoneType})
        case ast.Constant(value=str(text)):
            return _numbers(ast.parse(text, mode="eval").body)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _all_of([left, right])
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return _all_of([inner, ast.Constant(value=None)])
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
            return _all_of(parts)
    return frozenset()


def _all_of(parts: list[ast.expr]) -> frozenset[type]:
    found = [_numbers(part) for part in parts]
    return frozenset().union(*found) if all(found) else frozenset()
