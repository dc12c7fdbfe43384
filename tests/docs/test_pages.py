"""What README and docs/ show runs, or is checked without being run; every page says by a comment which."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pages import LANGUAGES, REPOSITORY, blocks, check, commands, matches

from segment import cli
from segment.config.folders import BUILT_IN

WITH_BLOCKS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "data/README.md", "examples/README.md")
PAGES = [*map(Path, WITH_BLOCKS), *sorted(p.relative_to(REPOSITORY) for p in (REPOSITORY / "docs").rglob("*.md"))]
# One's own choices go before the built-in ones: here the same names, made small.
SMALL = {
    "data/demo.yaml": ("scans: 24", "scans: 5"),
    "trainer/cpu.yaml": ("max_steps: 1000", "max_steps: 2"),
    "sampler/patches.yaml": ("steps_per_epoch: 50", "steps_per_epoch: 2"),
    "inference/mirror.yaml": ("mirror: all", "mirror: []"),
    "network/unet_small.yaml": ("features: [8, 32, 64, 128]", "features: [4, 8]"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch, make_dataset, formats_restored) -> Path:
    """A folder with the files that the pages assume, in which their commands are started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SEGMENT_CACHE", str(tmp_path / "cache"))
    for file, (old, new) in SMALL.items():
        text = (BUILT_IN / "conf" / file).read_text(encoding="utf-8")
        assert old in text
        (tmp_path / "conf" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / file).write_text(text.replace(old, new), encoding="utf-8")
    scans = make_dataset(tmp_path / "scans", layout="folders", n=5)
    for image in (scans / "images").iterdir():
        image.rename(image.with_name(image.name.replace("_0000", "")))
    for copy in ("masks", "references"):
        shutil.copytree(scans / "labels", tmp_path / copy)
    for kind in ("images", "labels"):
        (tmp_path / "raw" / kind).mkdir(parents=True)
        for file in sorted((scans / kind).iterdir())[:2]:
            write_raw(tmp_path / "raw" / kind / file.name.replace(".nii.gz", ".raw3"), nib.load(file))
    return tmp_path


def write_raw(path: Path, image: nib.Nifti1Image) -> None:
    """The format of docs/how-to/format.md."""
    voxels = np.ascontiguousarray(np.asarray(image.dataobj).T)
    header = {"shape": voxels.shape, "affine": image.affine.tolist(), "dtype": voxels.dtype.str}
    path.write_bytes(json.dumps(header).encode() + b"\n" + voxels.tobytes())


def run_shell(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the commands of a block, one a line, those of segment in this process."""
    for line, words in zip(text.strip().splitlines(), commands(text), strict=True):
        if words[0] == "segment":
            monkeypatch.setattr(sys, "argv", words)
            assert exit_code() == 0, line
        else:
            subprocess.run(line, shell=True, check=True)


def exit_code() -> int:
    """Exit code of the command in ``sys.argv``."""
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def short(text: str) -> str:
    """Commands with two training steps."""
    return re.sub(r"(?<=max_steps=)\d+", "2", text)


@pytest.mark.timeout(900)  # README trains three times
@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_blocks_of_a_page(page, folder, monkeypatch, capfd):
    namespace: dict = {}
    printed = ""
    for block in blocks(REPOSITORY / page):
        where = f"{page}, line {block.line}"
        assert block.language in LANGUAGES, f"{where}: say which language the block is in"
        if block.declared == "output":
            assert matches(block.text, printed), f"{where}: this was printed:\n{printed}"
        elif block.file:
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.file).write_text(block.content, encoding="utf-8")
        elif block.declared == "run" and block.language == "sh":
            run_shell(short(block.text), monkeypatch)
            printed = capfd.readouterr().out
        elif block.declared == "run":
            exec(compile(short(block.text), where, "exec"), namespace)
            printed = capfd.readouterr().out
        else:
            assert not block.declared, f"{where}: {block.declared} is neither run nor output"
            check(block)
