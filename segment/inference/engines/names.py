"""Names of engines, formats and precisions, and the packages they need, without importing any of them."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable

from segment.errors import UserError, did_you_mean

ENGINES = ("torch", "compile", "openvino", "onnxruntime")
CONVERSION = ("onnx", "onnxscript")
PACKAGES = {"openvino": ("openvino",), "onnxruntime": ("onnx", "onnxruntime")}
"""Packages that each engine needs to run an export; converting a network needs `CONVERSION` too."""

FORMATS = {"onnx": ("onnxruntime", "openvino"), "openvino": ("openvino",)}
"""Formats of exports, and the engines that run each, its own first."""

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-true", "int8": "int8"}
"""Precisions of exports, and how predictions name them: as Lightning does where it has a name."""

COMPILERS = ("g++", "clang++", "c++")


def check_engine(engine: str, exported: str | None = None) -> None:
    """Check that an engine exists, is installed, and runs a model.

    Args:
        engine: Its name.
        exported: Format of the model if it is an export; None for a network in torch.

    Raises:
        UserError: When it does not.
    """
    if engine not in ENGINES:
        raise UserError(
            f"inference.engine={engine}: there is no such engine.{did_you_mean(engine, ENGINES)} There are: "
            f"{', '.join(ENGINES)}."
        )
    if exported and engine not in FORMATS[exported]:
        raise UserError(
            f"inference.engine={engine}: the model is an export in the format {exported}, which is run by "
            f"{' or '.join(FORMATS[exported])}. Leave the engine out, or give the run folder that it was exported from."
        )
    if engine == "compile":
        check_compiler("inference.engine=compile", "predict with inference.engine=torch or openvino")
    require((*PACKAGES.get(engine, ()), *(() if exported or engine == "compile" else needed(engine))), engine)


def check_compiler(key: str, instead: str) -> None:
    """Check that there is a C++ compiler.

    Args:
        key: What needs it, for the message.
        instead: What can be done without one, for the message.

    Raises:
        UserError: When there is none.
    """
    if not any(map(shutil.which, (os.environ.get("CXX") or "", *COMPILERS))):
        raise UserError(
            f"{key}: torch compiles a network with a C++ compiler, and there is none. Install g++, or {instead}."
        )


def needed(engine: str) -> tuple[str, ...]:
    """Packages that turn a network in torch into one for an engine."""
    return CONVERSION if engine in PACKAGES else ()


def require(packages: Iterable[str], what: str) -> None:
    """Check that packages are installed.

    Args:
        packages: Their names.
        what: What needs them, for the message.

    Raises:
        UserError: When one is missing.
    """
    missing = [package for package in dict.fromkeys(packages) if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(
            f"{what}: needs {' and '.join(missing)}, not installed here. Install the extra: pip install "
            "'segment[export]'"
        )
