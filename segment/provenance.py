"""Provenance of results: versions, code, hardware, inputs, time and memory."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from segment.instruction_set import onednn_isa

PACKAGES = (
    "segment",
    "torch",
    "monai",
    "pytorch-lightning",
    "numpy",
    "nibabel",
    "SimpleITK",
    "hydra-core",
    "codecarbon",
)
# Libraries that torch bundles for CPU computation, as its build description names them.
LIBRARIES = {"oneDNN": r"MKL-DNN v(\S+)", "MKL": r"Math Kernel Library Version (\S+)"}


def code_version() -> dict[str, Any]:
    """Git commit of the code and whether there are uncommitted changes; empty outside a checkout."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    if git("ls-files", "--error-unmatch", str(Path(__file__).resolve())) is None:
        return {}
    return {"commit": git("rev-parse", "HEAD"), "uncommitted_changes": bool(git("status", "--porcelain"))}


def hardware() -> dict[str, Any]:
    """Processor, cores available to this process, memory, instruction sets of torch and oneDNN, and accelerators."""
    import joblib
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "processor": _processor(),
        "cores": joblib.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "onednn_isa": onednn_isa(),
        "accelerators": names,
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python, and of the packages and libraries the numbers depend on."""
    import torch

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    built_with = torch.__config__.show()
    for library, pattern in LIBRARIES.items():
        if match := re.search(pattern, built_with):
            found[library] = match[1]
    return found


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def collect(seed: int, started: float, command: Sequence[str] = (), **more: Any) -> Mapping[str, Any]:
    """The record that is stored beside every result as provenance.json.

    Args:
        seed: The run's seed.
        started: ``time.time()`` at the start of the command.
        command: The arguments after ``segment``; by default those of this process.
        **more: Further JSON-compatible entries, such as hashes of the inputs.
    """
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "wall_seconds": round(time.time() - started, 1),
        "peak_memory_mb": round(peak_memory_mb()),
        "command": ["segment", *command] if command else [Path(sys.argv[0]).name, *sys.argv[1:]],
        "seed": seed,
        "versions": versions(),
        "code": code_version(),
        "hardware": hardware(),
        **more,
    }
