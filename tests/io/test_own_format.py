"""A custom format from a file outside the package, with the real commands and every kind of process."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from forked import fork_segment
from oriented import affine_of

from segment import cli
from segment.config.compose import compose
from segment.io import formats

pytestmark = pytest.mark.usefixtures("without_pages")

REPOSITORY = Path(__file__).parents[2]
SHAPE = (8, 12, 10)
TRAINING = (
    *("network=unet_small", "network.encoder.features=[4,8]", "trainer.max_steps=2", "sampler.steps_per_epoch=2"),
    *(
        "trainer.check_val_every_n_epoch=1",
        "trainer.precision=32-true",
        "plan.patch_size=[8,8,8]",
        "inference.mirror=[]",
    ),
    *("sampler.workers=1", "name=run", "cache=cache"),
)


def write(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"shape": array.shape, "affine": affine.tolist(), "dtype": array.dtype.str}
    path.write_bytes(json.dumps(header).encode() + b"\n" + array.tobytes())


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine, by a reader other than the tested one."""
    line, voxels = path.read_bytes().split(b"\n", 1)
    header = json.loads(line)
    return np.frombuffer(voxels, header["dtype"]).reshape(header["shape"]), np.array(header["affine"])


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with the format's file and, in scans/, enough cases for several processes."""
    shown = formats.__doc__.split("::\n\n", 1)[1].split("\nand pass it", 1)[0]  # what the documentation shows
    (tmp_path / "raw3.py").write_text(textwrap.dedent(shown))
    for index in range(18):
        mask = np.zeros(SHAPE, np.uint8)
        mask[2:6, 2:9, index % 3 : 8] = 1
        mask[3:5, 4:7, 3:6] = 2
        image = (mask * 50 + np.random.default_rng(index).integers(0, 20, SHAPE)).astype(np.int16)
        write(tmp_path / f"scans/images/case_{index:02}.raw3", image, affine_of("LPS"))
        write(tmp_path / f"scans/labels/case_{index:02}.raw3", mask, affine_of("LPS"))
    return tmp_path


def python(place: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments], cwd=place, capture_output=True, text=True, timeout=280,
        env={**os.environ, "PYTHONPATH": path, **more},
    )  # fmt: skip


def segment(place: Path, *arguments: str) -> str:
    done = fork_segment(*arguments, "formats=[raw3]", folder=place, output=place / "out.txt")
    assert done.wait() == 0, done.printed + done.errors
    return done.printed


def test_every_verb_reads_and_writes_the_format(place):
    data = ("data=auto", "data.root=scans")
    report = json.loads(segment(place, "check", *data, "format=json", "cache=cache"))
    assert (report["scans"], report["errors"]) == (18, 0)

    segment(place, "train", *data, *TRAINING)
    run = place / "runs" / "run"
    masks = sorted((run / "predictions").iterdir())
    assert len(masks) == pd.read_csv(run / "scans.csv")["case"].nunique() == 4
    for file in masks:
        voxels, affine = read(file)
        assert voxels.shape == SHAPE
        np.testing.assert_allclose(affine, affine_of("LPS"))
    assert "formats" not in run.name

    # The same scan under another name, and turned and cut: each mask lies on the grid of its input.
    image, affine = read(place / "scans/images" / masks[0].name)
    turned = nib.as_closest_canonical(nib.Nifti1Image(image.T, affine)).slicer[:, :, 1:]
    write(place / "new/plain.raw3", image, affine)
    write(place / "new/turned.raw3", np.ascontiguousarray(np.asarray(turned.dataobj).T), turned.affine)
    predict = ("predict", "model=runs/run", "input=new", "output=masks")
    done = python(place, "-m", "segment.cli", *predict, SEGMENT_FORMATS="raw3")
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (place / "masks").iterdir()) == [
        "plain.raw3",
        "predictions.json",
        "turned.raw3",
    ]
    np.testing.assert_array_equal(read(place / "masks/plain.raw3")[0], read(masks[0])[0])
    assert read(place / "masks/turned.raw3")[0].shape == (SHAPE[0] - 1, *SHAPE[1:])
    np.testing.assert_allclose(read(place / "masks/turned.raw3")[1], turned.affine)

    options = ("predictions=runs/run/predictions", "references=references", "output=scores")
    (place / "references").mkdir()
    for file in masks:
        shutil.copy(place / "scans/labels" / file.name, place / "references")
    segment(place, "evaluate", *options)
    columns = ["case", "dice"]
    there, here = (
        pd.read_csv(folder / "scans.csv").sort_values(["case", "label"])[columns] for folder in (run, place / "scores")
    )
    np.testing.assert_array_equal(there.to_numpy(), here.to_numpy())


def test_format_needs_the_key_and_a_missing_module_is_named(place):
    mask = "scans/labels/case_00.raw3"
    started = {"folder": place, "output": place / "out.txt"}
    done = fork_segment("predict", "model=none", f"input={mask}", "output=out", "formats=[raw4]", **started)
    assert done.wait() == 2
    assert "formats: raw4 cannot be imported" in done.errors
    assert "Traceback" not in done.errors
    done = fork_segment("evaluate", "predictions=scans/labels", "references=scans/labels", "output=out", **started)
    assert done.wait() == 2
    assert f"contains no mask ({formats.listed()})" in done.errors


@pytest.mark.slow
def test_damaged_file_is_named_with_the_check_command(place):
    damaged = place / "scans/images/case_03.raw3"
    damaged.write_bytes(damaged.read_bytes()[:-400])
    training = ("train", "data=auto", "data.root=scans", *TRAINING)
    done = python(place, "-m", "segment.cli", *training, "formats=[raw3]")
    assert done.returncode == 2
    assert "case_03.raw3: is truncated or damaged: its header declares 1,920 bytes" in " ".join(done.stderr.split())
    assert "segment check data=auto data.root=scans 'formats=[raw3]'" in done.stderr


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_the_key(verb):
    assert compose(verb, ["data=auto"] if verb in ("check", "fetch", "suggest") else []).formats == []


def test_spawned_process_knows_the_format(place):
    (place / "begin.py").write_text(
        "import multiprocessing, sys\nfrom pathlib import Path\n"
        "from segment.io.formats import import_formats, suffixes\nfrom segment.io.images import read_image\n"
        "def total(path): return float(read_image(Path(path)).array.sum())\n"
        "if __name__ == '__main__':\n"
        "    if sys.argv[1:]: import_formats(sys.argv[1:])\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.apply(total, ['scans/images/case_00.raw3']))\n"
    )
    done = python(place, "begin.py", "raw3")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == read(place / "scans/images/case_00.raw3")[0].sum()
    assert "unsupported format" in python(place, "begin.py").stderr
