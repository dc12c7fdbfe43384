import resource
import subprocess
import sys
import zipfile
from dataclasses import replace

import nibabel as nib
import numpy as np
import psutil
import pytest
import torch
from saved_models import PLAN, save

from segment import memory
from segment.errors import UserError
from segment.inference.model import load_model
from segment.io.images import read_image
from segment.memory import available_memory, require_memory
from segment.training.checkpoints import network_weights


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """Writes the files of a cgroup: its path in this process's list, and its limit, usage and cached files."""
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "OWN_CGROUPS", tmp_path / "own")
    (tmp_path / "own").write_text("")

    def write(line, folder, limit, used, cached):
        (tmp_path / "own").write_text(f"{line}\n")
        second = ("max", "current", "inactive_file")
        names = second if line.startswith("0::") else ("limit_in_bytes", "usage_in_bytes", "total_inactive_file")
        place = tmp_path / "cgroup" / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / f"memory.{names[0]}").write_text(f"{limit}\n")
        (place / f"memory.{names[1]}").write_text(f"{used}\n")
        (place / "memory.stat").write_text(f"anon 5\n{names[2]} {cached}\n")

    return write


def test_without_limits_it_is_the_systems(cgroups):
    assert abs(available_memory() - psutil.virtual_memory().available) < 1e9


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ("0::/job/step", "job/step"),
        ("0::/job/step", "job"),  # the limit of the group around it
        ("0::/", ""),  # as a container sees its own
        ("4:cpu,memory:/docker/1", "memory/docker/1"),
    ],
)
def test_the_limit_of_a_container_counts_without_its_cached_files(cgroups, line, folder):
    cgroups(line, folder, 100_000, 70_000, 20_000)
    assert available_memory() == 50_000


@pytest.mark.parametrize(("line", "limit"), [("0::/job", "max"), ("2:cpu:/job", 1000), ("0::/other", 1000)])
def test_no_limit_and_groups_of_others_do_not_count(cgroups, line, limit):
    cgroups(line, "job", limit, 0, 0)
    assert available_memory() > 1e6


def test_limit_of_the_address_space_counts():
    code = "from segment.memory import available_memory; print(available_memory())"
    limit = 3 << 30
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert 0 < int(found.stdout) < limit


def test_what_does_not_fit_is_refused_in_one_sentence_with_both_figures(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 9 * 10**9)
    require_memory(8.9e9, "a.nii.gz: its 5 voxels", "Crop it.")
    with pytest.raises(UserError) as refused:
        require_memory(11.84e9, "a.nii.gz: its 5 voxels", "Crop it.")
    assert str(refused.value) == (
        "a.nii.gz: its 5 voxels would take 11.8 GB of memory, but only 9.0 GB are available. Crop it."
    )


@pytest.fixture
def little(monkeypatch):
    """A machine with 1 MB, on which nothing is granted without a look."""
    monkeypatch.setattr(memory, "available_memory", lambda: 1_000_000)
    monkeypatch.setattr(memory, "SMALL", 0)


def test_a_scan_that_unpacks_beyond_the_memory_is_not_read(little, tmp_path):
    file = tmp_path / "bomb.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((100, 100, 30), np.uint8), np.eye(4)), file)
    assert file.stat().st_size < 5000
    with pytest.raises(UserError, match=r"bomb.nii.gz: its 300,000 voxels would take .* Crop or downsample it"):
        read_image(file)


def test_a_scan_in_wrong_units_is_refused_by_name_before_it_is_resampled(tmp_path, monkeypatch, little):
    save(tmp_path / "model")
    monkeypatch.setattr(memory, "available_memory", lambda: 10**8)
    model = load_model(tmp_path / "model")
    array = np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32)
    model.predict(array, np.eye(4))
    with pytest.raises(UserError, match=r"16 x 24 voxels of 1000 x 1000 mm would .* Fix the spacing"):
        model.predict(array, np.diag([1000, 1000, 1, 1]))


def test_a_model_whose_window_exceeds_the_memory_is_refused(tmp_path, monkeypatch):
    save(tmp_path / "model", plan=replace(PLAN, patch_size=(1 << 14, 1 << 14), features=(32, 64)))
    monkeypatch.setattr(memory, "available_memory", lambda: 10**9)
    with pytest.raises(UserError, match=r"model: its window of 16384 x 16384 voxels would take 73.0 GB"):
        load_model(tmp_path / "model").settings()


def test_a_training_patch_that_exceeds_the_memory_is_refused(make_dataset, run_train, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 10**9)
    with pytest.raises(UserError, match=r"plan.patch_size=\[512, 512, 512\].* would take .* GB"):
        run_train(make_dataset(tmp_path / "scans", n=5), "huge", "plan.patch_size=[512,512,512]")


def test_a_deflated_checkpoint_and_an_expanded_tensor_are_not_unpacked(tmp_path):
    stored, deflated = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    torch.save({"state_dict": {"network.a": torch.zeros(1 << 20)}, "global_step": 1}, stored)
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(UserError, match=r"b.ckpt: is not a checkpoint .*compressed"):
        network_weights(deflated)
    torch.save({"state_dict": {"network.a": torch.zeros(1).expand(1 << 40)}, "global_step": 1}, stored)
    with pytest.raises(UserError, match=r"a.ckpt: is not a checkpoint .*larger than the file"):
        network_weights(stored)
