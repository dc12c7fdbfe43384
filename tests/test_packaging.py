"""After pip install: the wheel carries the configurations, and one's own parts are added from outside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

NETWORK = """
from torch import nn

class Tiny(nn.Module):
    def __init__(self, spatial_dims, in_channels, out_channels, width):
        super().__init__()
        conv = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
        self.layers = nn.Sequential(conv(in_channels, width, 3, padding=1), nn.ReLU(), conv(width, out_channels, 1))

    def forward(self, image):
        return self.layers(image)

class Mine(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, logits, reference):
        return self.scale * nn.functional.cross_entropy(logits, reference[:, 0].long())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel, installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder / "wheel"), str(REPOSITORY)]
    subprocess.run(wheel, check=True, capture_output=True, text=True)
    (file,) = (folder / "wheel").iterdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(file)], check=True)
    return folder / "site"


def segment(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(installed), "SEGMENT_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "segment.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


def test_the_wheel_carries_every_configuration(installed):
    for kind in ("conf", "experiments"):
        there = {file.relative_to(REPOSITORY / kind) for file in (REPOSITORY / kind).rglob("*.yaml")}
        assert there == {
            p.relative_to(installed / "segment" / kind) for p in (installed / "segment" / kind).rglob("*.yaml")
        }
        assert there


def test_the_wheel_says_that_it_is_typed(installed):
    assert (installed / "segment" / "py.typed").is_file()


def test_own_network_loss_and_data_set_are_used_from_outside(installed, make_dataset, tmp_path):
    make_dataset(tmp_path / "scans", n=4)
    (tmp_path / "mine.py").write_text(NETWORK)
    for group, text in {
        "network": "_target_: mine.Tiny\n_partial_: true\nwidth: 4\n",
        "loss": "_target_: mine.Mine\nscale: 2.0\n",
        "data": "# My scans.\n_target_: segment.data.open_dataset\nroot: scans\n",
    }.items():
        (tmp_path / "conf" / group).mkdir(parents=True)
        (tmp_path / "conf" / group / "mine.yaml").write_text(text)
    done = segment(
        installed, tmp_path, "train", "network=mine", "loss=mine", "data=mine", "trainer.max_steps=2",
        "sampler.steps_per_epoch=2", "trainer.check_val_every_n_epoch=1", "plan.patch_size=[8,8,8]",
        "inference.mirror=[]", "trainer.precision=32-true", "name=run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "run" / "report.html").exists()
    assert json.loads((tmp_path / "runs/run/model/model.json").read_text())["network"]["_target_"] == "mine.Tiny"

    predict = ["predict", "model=runs/run", "input=scans/imagesTr", "output=masks"]
    trusted = segment(installed, tmp_path, *predict, "trust=[mine]")
    assert trusted.returncode == 0, trusted.stderr
    assert len(list((tmp_path / "masks").glob("*.nii.gz"))) == 4
