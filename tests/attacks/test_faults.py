"""What a training needs disappears while it runs: it ends well, or with one paragraph and goes on once it is back."""

import shutil
from pathlib import Path

import pytest
import torch
from forked import Forked, fork_segment
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
OVERRIDES = (
    "data=auto", "network=unet_small", "network.encoder.features=[4,8]", "trainer.max_steps=8",
    "sampler.steps_per_epoch=4", "trainer.check_val_every_n_epoch=1", "trainer.precision=32-true",
    "plan.patch_size=[8,16,16]", "inference.mirror=[]", "name=x", "+callbacks.disturb={_target_: faults.Fault}",
)  # fmt: skip


def start(root: Path, folder: Path, **environment: str) -> Forked:
    given = [*OVERRIDES, f"data.root={root}", f"output={folder}", f"cache={folder.parent / 'cache'}"]
    return fork_segment(
        "train", *given, folder=folder.parent, output=folder.parent / "printed", environment=environment
    )


@pytest.mark.parametrize("fault", ["cache", "data", "clock"])
def test_training_survives_or_says_what_is_missing(make_dataset, tmp_path, without_pages, fault):
    root = make_dataset(tmp_path / "data", n=4)
    (tmp_path / "whole").mkdir()
    assert start(root, tmp_path / "whole" / "run").wait() == 0
    shutil.copytree(root, tmp_path / "kept")
    (tmp_path / "broken").mkdir()
    broken = tmp_path / "broken" / "run"
    places = {"cache": str(broken.parent / "cache"), "data": str(root), "clock": "clock"}
    process = start(root, broken, FAULT=places[fault])
    assert process.wait() in (0, 2), process.errors
    assert "Traceback" not in process.errors
    if process.code == 2:
        assert len(process.errors.strip().splitlines()[-1]) < 3000
        assert not (broken / "report.html").exists()
    if not root.exists():
        shutil.copytree(tmp_path / "kept", root)
    assert start(root, broken).wait() == 0
    a, b = (load_file(run / "model" / "weights.safetensors") for run in (tmp_path / "whole" / "run", broken))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert (tmp_path / "whole" / "run" / "scans.csv").read_text() == (broken / "scans.csv").read_text()
