"""Provenance of results: versions, code, hardware, inputs, time and memory."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
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
    "scipy",
    "pandas",
    "scikit-learn",
    "nibabel",
    "SimpleITK",
    "hydra-core",
    "codecarbon",
    "openvino",
    "onnxruntime",
)
_LARGEST_FILE = 10_000_000
# Libraries that torch bundles for CPU computation, as its build description names them.
LIBRARIES = {"oneDNN": r"MKL-DNN v(\S+)", "MKL": r"Math Kernel Library Version (\S+)"}


def code_version() -> dict[str, Any]:
    """Git commit of the code, whether there are uncommitted changes and the hash of their diff.

    Outside a checkout: the commit that an installation from a repository records (PEP 610); empty if none is known.
    """
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(  # noqa: S603 - our own words
                ["git", *arguments],  # noqa: S607 - the user's git
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    if git("ls-files", "--error-unmatch", str(Path(__file__).resolve())) is None:
        return _installed_commit()
    changed = bool(git("status", "--porcelain"))
    found = {"commit": git("rev-parse", "HEAD"), "uncommitted_changes": changed}
    if changed:
        # Tracked files only: a new file that takes part is a module of the user's or lies in conf/, which are hashed.
        found["diff_sha256"] = hashlib.sha256((git("diff", "HEAD", "--", ".") or "").encode()).hexdigest()
    return found


def _installed_commit() -> dict[str, Any]:
    """The commit or archive that an installed package was made from, as pip records it."""
    try:
        text = importlib.metadata.distribution("segment").read_text("direct_url.json")
        record = json.loads(text or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return {}
    if commit := record.get("vcs_info", {}).get("commit_id"):
        return {"commit": commit, "uncommitted_changes": False}
    archive = record.get("archive_info", {}).get("hashes", {}).get("sha256")
    return {"archive_sha256": archive} if archive else {}


def computing() -> dict[str, Any]:
    """What determines the last digits: threads, deterministic algorithms, and the accelerator's libraries."""
    import torch

    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "matmul_precision": torch.get_float32_matmul_precision(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
    }


def user_files(folders: Iterable[Path] = ()) -> dict[str, str]:
    """SHA-256 of files of the user's own that the run may depend on.

    Args:
        folders: Folders of configuration.

    Returns:
        Path to hash: every YAML in the folders, and the file of every imported module that lies below the current
        folder but belongs neither to this package nor to an environment.
    """
    here, own = Path.cwd().resolve(), Path(__file__).resolve().parent
    others = [folder for folder in folders if folder.resolve().parent != own.parent]  # not this package's checkout
    found = {file.resolve() for folder in others for file in folder.rglob("*.yaml") if file.is_file()}
    resolved = functools.cache(os.path.realpath)  # of folders: thousands of modules lie in few
    for name in [getattr(module, "__file__", None) for module in list(sys.modules.values())]:
        if not isinstance(name, str) or not name.endswith(".py") or "site-packages" in name:
            continue
        folder, _, base = name.rpartition(os.sep)
        file = Path(resolved(folder), base)
        if file.is_relative_to(here) and not file.is_relative_to(own) and "site-packages" not in file.parts:
            found |= {file} if file.is_file() else set()
    return {
        os.path.relpath(file, here): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(found)
        if file.stat().st_size < _LARGEST_FILE
    }


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
        "computing": computing(),
        **more,
    }
