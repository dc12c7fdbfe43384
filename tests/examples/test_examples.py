"""Every example runs unchanged, here on fewer scans with smaller settings."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = (
    "trainer.max_steps=2", "sampler.steps_per_epoch=2", "plan.patch_size=[16,16,16]", "plan.spacing=[6,6,6]",
    "trainer.precision=32-true",
)  # fmt: skip
# One's own choice of a name goes before the built-in one.
DEMO = "_target_: segment.data.synthetic.demo.demo_dataset\nname: demo\nroot: {}\nscans: 6\nseed: 0\n"
LEFT = {
    "compare_runs": "comparison/report.html",
    "evaluate_masks": "scores/summary.json",
    "train_and_predict": "runs/*/new/demo_000.nii.gz",
    "training_loop": "masks/demo_*.nii.gz",
    "uncertainty": "runs/*/entropy.nii.gz",
}
NOTEBOOKS = {"compare_two_runs": "comparison/report.html", "own_data_to_masks": "masks/demo_002.nii.gz"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory, tmp_path, monkeypatch):
    """Work in a temporary folder, where the demonstration data are six scans that all examples share."""
    shared = tmp_path_factory.getbasetemp() / "examples"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGMENT_CACHE", str(shared / "cache"))
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "demo.yaml").write_text(DEMO.format(shared / "demo"))


def test_each_example_has_its_test():
    assert {file.stem for file in EXAMPLES.glob("*.py")} == LEFT.keys()
    assert {file.stem for file in EXAMPLES.glob("*.ipynb")} == NOTEBOOKS.keys()


@pytest.mark.parametrize(
    "name",
    # A notebook compares two runs too, README's block trains and predicts, and the second test starts `evaluate_masks`.
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "training_loop")) for name in LEFT],
)
def test_scripts_run_and_leave_their_result(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, *SMALL])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert list(tmp_path.glob(LEFT[name]))
    assert capsys.readouterr().out.strip()


@pytest.mark.slow  # the others run in this process, which has imported everything
def test_a_script_runs_as_a_stranger_starts_it(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
    command = [sys.executable, EXAMPLES / "evaluate_masks.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "grey_matter" in done.stdout
    assert (tmp_path / LEFT["evaluate_masks"]).exists()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "own_data_to_masks")) for name in NOTEBOOKS]
)
def test_notebooks_run_and_are_kept_without_outputs(name, tmp_path, monkeypatch):
    cells = json.loads((EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    monkeypatch.setenv("SEGMENT_SETTINGS", " ".join(SMALL))
    mpl.use("Agg")
    mpl.rcParams["figure.max_open_warning"] = 0
    namespace: dict = {"__name__": "__main__"}
    for number, cell in enumerate(code):
        exec(compile("".join(cell["source"]), f"{name}, cell {number}", "exec"), namespace)
    mpl.pyplot.close("all")
    assert (tmp_path / NOTEBOOKS[name]).exists()
