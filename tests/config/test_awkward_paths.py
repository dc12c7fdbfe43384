"""Files and folders with awkward names, through the verbs from end to end, and the commands that are printed."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from segment import cli

pytestmark = pytest.mark.usefixtures("without_pages")

NAMES = ("größe (1) it's", "[a], b", 'a#b=$x^2 {c}"')


@pytest.fixture
def trained(segment, make_dataset, tmp_path_factory):
    """One data set and one tiny run for all tests here."""
    folder = tmp_path_factory.getbasetemp() / "awkward"
    root, run = folder / "data", folder / "run"
    if not run.exists():
        assert segment("train", make_dataset(root, n=4), f"output={run}") == 0
    return root, run


@pytest.fixture
def call(tmp_path, monkeypatch):
    """``call("predict", "model=x", ...) -> exit code``: the command in this process, started in tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGMENT_CACHE", str(tmp_path / "cache"))

    def command(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["segment", *words])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return command


@pytest.mark.parametrize("name", [*NAMES[:2], pytest.param(NAMES[2], marks=pytest.mark.slow)])
def test_every_verb_accepts_paths_with_any_characters(name, trained, call, segment, capsys):
    root, run = trained
    here = Path(name)
    for copy in ("run", "other"):
        shutil.copytree(run, here / copy)
    shutil.copytree(root, here / "data")
    scan = sorted((root / "imagesTr").iterdir())[0]
    shutil.copy(scan, f"{name}.nii.gz")
    (here / "references").mkdir()
    shutil.copy(root / "labelsTr" / scan.name.replace("_0000", ""), here / "references" / f"{name}.nii.gz")

    assert call("check", "data=auto", f"data.root={name}/data") == 0
    assert call("predict", f"model={name}/run", f"input={name}.nii.gz", f"output={name}/masks") == 0
    assert sorted(file.name for file in (here / "masks").iterdir()) == sorted([f"{name}.nii.gz", "predictions.json"])
    masks = (f"predictions={name}/masks", f"references={name}/references")
    assert call("evaluate", *masks, f"output={name}/scores") == 0
    assert set(pd.read_csv(here / "scores" / "scans.csv")["case"]) == {name}
    assert call("compare", f"runs=[{name}/run,{name}/other]", "resamples=100", f"output={name}/compared") == 0
    assert (here / "compared" / "comparison.csv").is_file()
    capsys.readouterr()
    assert segment("train", here / "data", f"output={name}/run") == 0
    assert f"{name}/run is finished" in capsys.readouterr().out


def test_runs_with_equals_signs_and_commas_in_their_names_are_read(trained, call, capsys):
    root, run = trained
    old = ["runs/demo-fold0-seed0-network.encoder.features=_4,8_-trainer.max_steps=150", "runs/demo-optimizer.lr=0.01"]
    for name in old:
        shutil.copytree(run, name)
    assert call("predict", f"model={old[0]}", f"input={root / 'imagesTr'}", "output=masks") == 0
    assert call("compare", f"runs=[{old[0]},{old[1]}]", "resamples=100") == 0
    assert call("compare", "runs=runs/*", "resamples=100") == 0


def test_tilde_after_a_key_is_the_home_folder(trained, call, tmp_path, monkeypatch):
    root, run = trained
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.copytree(run, tmp_path / "home" / "my run")
    assert call("predict", "model=~/my run", f"input={root / 'imagesTr'}", "output=~/masks") == 0
    assert (tmp_path / "home" / "masks" / "predictions.json").is_file()


def pasted(line: str) -> list[str]:
    """The words that a shell makes of a command."""
    show = 'segment() { python3 -c "import json, sys; print(json.dumps(sys.argv[1:]))" "$@"; }'
    return json.loads(subprocess.run(["bash", "-c", f"{show}\n{line}"], capture_output=True, check=True).stdout)


@pytest.mark.slow
def test_printed_and_recorded_commands_can_be_pasted(make_dataset, segment, call, tmp_path, capsys):
    root = make_dataset(tmp_path / "it's my data", n=4)
    given = ("hydra.sweep.dir=sweep", "seed=0,1", "output=it's (here) [x]/run ${seed}")
    assert segment("train", Path("it's my data"), "-m", *given) == 0
    lines = capsys.readouterr().out.splitlines()
    folders = [Path(f"it's (here) [x]/run {seed}") for seed in (0, 1)]
    for folder, line in zip(folders, (line for line in lines if line.startswith("Predict ")), strict=True):
        line = line.removeprefix("Predict ").replace("FILE_OR_FOLDER", shlex.quote(f"{root}/imagesTr"))
        assert call(*pasted(line.replace("output=FOLDER", shlex.quote(f"output={folder}/new")))) == 0
        assert (folder / "new" / "predictions.json").is_file()
    assert next(line for line in lines if line.startswith("Job 1")).endswith(f"seed=1 output={folders[1]}")
    (compare,) = [line for line in lines if line.startswith("Compare ")]
    assert compare.endswith("/run *'")
    assert call(*pasted(compare.removeprefix("Compare ")), "resamples=100", "output=compared") == 0
    assert len(json.loads(Path("compared/comparison.json").read_text())["methods"]) == 2
    command = json.loads((folders[1] / "provenance.json").read_text())["command"]
    assert "data.root=it's my data" in command
    capsys.readouterr()
    assert call(*pasted(shlex.join(command))) == 0
    assert f"{folders[1]} is finished" in capsys.readouterr().out
