"""Shared fixtures: small synthetic data sets on disk, and real ones if they are beside the repository."""

from __future__ import annotations

import csv
import gc
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from tensorboard_server import Board, serve

pytest_plugins = ["whole_runs", "written_run"]
SHARED = Path(__file__).parents[1].parent / "shared" / "data"

# The fast tests repeat their examples; `make slow` looks for new ones.
settings.register_profile("repeated", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None, print_blob=True)
settings.load_profile("repeated")


def pytest_collection() -> None:
    """Collect without garbage collections, half the time of collecting, then never look at what was imported again."""
    gc.disable()


def pytest_collection_finish() -> None:
    """See `pytest_collection`."""
    gc.enable()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # runs leave much behind that lives as long as the test


def synthetic_scan(shape: tuple[int, ...], channels: int, labels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Nested balls: image int16 (channels, *shape) brighter inward with noise, mask uint8 with values 0..labels."""
    rng = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + rng.uniform(-1, 1, len(shape))
    axes = np.meshgrid(*[np.arange(size) for size in shape], indexing="ij")
    distance = np.sqrt(sum(((axis - c) / (size / 2)) ** 2 for axis, c, size in zip(axes, centre, shape, strict=True)))
    mask = np.sum([distance < 0.8 * (k + 1) / labels for k in range(labels)], axis=0).astype(np.uint8)
    image = np.stack([mask * 50 + 20 + rng.normal(0, 5, shape) for _ in range(channels)])
    return np.clip(image, 0, 255).astype(np.int16), mask


def write_array(path: Path, array: np.ndarray, spacing: tuple[float, ...]) -> Path:
    """Write (z, y, x) as NIfTI, or (y, x) as an 8-bit PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(array.astype(np.uint8)).save(path)
    else:
        nib.save(nib.Nifti1Image(array.T, np.diag([*spacing[::-1], 1.0])), path)
    return path


def _describe(root: Path, layout: str, rows: list[dict[str, str]], channels: int, labels: int) -> None:
    """Write the file that lists the cases, where the layout has one."""
    names = {"background": 0} | {f"ball_{value}": value for value in range(1, labels + 1)}
    numbered = {str(number): f"channel_{number}" for number in range(channels)}
    images = [f"image_{number}" for number in range(channels)]
    if layout == "nnunet":
        ending = ".png" if rows[0]["label"].endswith(".png") else ".nii.gz"
        described = {"channel_names": numbered, "labels": names, "numTraining": len(rows), "file_ending": ending}
        (root / "dataset.json").write_text(json.dumps(described))
    elif layout == "msd":
        training = [{"image": [row[key] for key in images], "label": row["label"]} for row in rows]
        values = {str(value): name for name, value in names.items()}
        described = {"modality": numbered, "labels": values, "training": training, "licence": "none"}
        (root / "dataset.json").write_text(json.dumps(described))
    elif layout == "table":
        with (root / "scans.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["id", *images, "label"])
            writer.writeheader()
            writer.writerows(rows)


def _make_dataset(
    root: Path,
    layout: str = "msd",
    n: int = 6,
    shape: tuple[int, ...] = (12, 16, 14),
    channels: int = 1,
    labels: int = 2,
    spacing: tuple[float, ...] | None = None,
    seed: int = 0,
) -> Path:
    """Write a small data set and return its root."""
    folders = ("images", "labels") if layout == "folders" else ("imagesTr", "labelsTr")
    end = ".png" if len(shape) == 2 else ".nii.gz"
    rows = []
    for index in range(n):
        case = f"case_{chr(ord('a') + index % 26)}{index:02d}"
        image, mask = synthetic_scan(shape, channels, labels, seed * 1000 + index)
        row = {"id": case, "label": f"{folders[1]}/{case}{end}"}
        for channel in range(channels):
            row[f"image_{channel}"] = f"{folders[0]}/{case}_{channel:04d}{end}"
            write_array(root / row[f"image_{channel}"], image[channel], spacing or (1.0,) * len(shape))
        write_array(root / row["label"], mask, spacing or (1.0,) * len(shape))
        rows.append(row)
    _describe(root, layout, rows, channels, labels)
    return root


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Path]:
    """``make_dataset(root, layout="msd" | "nnunet" | "folders" | "table", n=6, shape=(z, y, x), ...) -> root``.

    Cases ``case_a00``, ``case_b01``, ...; labels ``background, ball_1, ...``; balls nested in balls, brighter inward.
    """
    return _make_dataset


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """``shared_data("Task04_Hippocampus")``: a real data set beside the repository; without it the test is skipped."""

    def find(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"the data set {name} does not lie in {SHARED.parent.name}/data beside the repository")
        return SHARED / name

    return find


@pytest.fixture
def tensorboard_server() -> Callable[..., AbstractContextManager[Board]]:
    """``with tensorboard_server(runs_folder) as board:`` the real TensorBoard; ask by ``board.get("scalars/tags")``."""
    return serve
