"""The verb reproduce from end to end: a tiny custom study, interrupted, distributed, reduced, and recorded."""

import contextlib
import csv
import io
import json
import shutil
import sys
import time
from pathlib import Path

import pytest
from assembled import experiment_of
from finished_runs import diverge
from forked import fork_segment
from omegaconf import DictConfig

from segment import cli
from segment.config.study import shortened
from segment.errors import UserError
from segment.studies import reproduce
from segment.studies.budget import Trial, steps_within
from segment.studies.figures import read_measured
from segment.studies.results import page
from segment.studies.verdict import INCONCLUSIVE

pytestmark = pytest.mark.usefixtures("without_pages")

TINY = """# @package _global_
# Balls in balls.
defaults:
  - override /data: {data}
  - override /network: unet_small
data: {{root: {root}}}
folds: 2
network: {{encoder: {{features: [4, 8]}}}}
plan: {{patch_size: [8, 16, 16]}}
sampler: {{steps_per_epoch: 2}}
inference: {{mirror: []}}
trainer: {{max_steps: 4, check_val_every_n_epoch: 1, precision: 32-true}}
"""
HEAD = "run,method,data,split,metric,label,fold,value,spread,scale,overlap,test_time_augmentation,source,sure"
OUT = Path("runs/reproduce/mine")


def figure(metric: str, label: str, value: object, fold: object = "", scale: int = 1, run: str = "tiny") -> str:
    return f'{run},Tiny,balls,two folds,{metric},{label},{fold},{value},,{scale},0.5,none,"Me, 2026",read'


def segment(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``segment reproduce`` in this process."""
    given, sys.argv = sys.argv, ["segment", "reproduce", *arguments]
    code, out, err = 0, io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = given
    return code, out.getvalue(), err.getvalue()


def make_study(folder: Path, name: str = "mine", data: str = "auto", root: str = "scans") -> Path:
    study = folder / "experiments" / name
    study.mkdir(parents=True)
    (study / "README.md").write_text("# Mine\n\nMe et al. 2026, *Balls*.\n\n## Data\n")
    (study / "tiny.yaml").write_text(TINY.format(data=data, root=root))
    (study / "published.csv").write_text(f"{HEAD}\n{figure('dice', 'ball_1', '.5')}\n")
    return study


@pytest.fixture
def here(tmp_path, make_dataset, monkeypatch) -> Path:
    """A folder with a study and its data, where the command is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGMENT_CACHE", str(tmp_path / "cache"))
    make_dataset(tmp_path / "scans", n=6)
    make_study(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Where the run folders of the uninterrupted study are kept for the tests of this file."""
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def done(here, whole) -> Path:
    """The study, finished; trained by the first test that asks for it."""
    if not (whole / "mine").exists():
        code, _, err = segment("study=mine")
        assert code == 0, err
        shutil.copytree(OUT, whole / "mine")
    else:
        shutil.copytree(whole / "mine", OUT)
    return here


def tables() -> list[bytes]:
    return [(OUT / name).read_bytes() for name in ("table.md", "table.csv")]


def test_requirements_are_stated_before_training(here):
    make_study(here, "theirs", "hippocampus", "nowhere")
    code, out, err = segment("study=theirs", "data.root=nowhere")
    assert code == 2
    assert out.startswith("theirs: Me et al. 2026, *Balls*.")
    assert "2 folds x 4 steps. Published: dice ball_1 .5." in out
    for words in ("hippocampus", "CC-BY-SA", "segment fetch data=hippocampus", "nowhere", "data.root=FOLDER"):
        assert words in err
    assert "Traceback" not in err
    code, _, err = segment("study=mine", "data.root=elsewhere")
    assert code == 2
    assert "data/README.md" in err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("study=mnie",), "Did you mean 'mine'?"),
        (("study=../mine",), "no such study"),
        (("study=mine", "run=tinny"), "Did you mean 'tiny'?"),
        (("study=mine", "fold=first"), "fold=first"),
        (("study=mine", "fold=7"), "fold=7: there are 2 folds"),
        (("study=mine", "steps=5"), "from 1 to the 4 steps"),
        (("study=mine", "steps=2", "budget=1"), "Give only one of them"),
        (("study=mine", "write=nowhere"), "nowhere is not a folder"),
        (("study=mine", "trainer.max_step=3"), "Did you mean 'trainer.max_steps'?"),
        (("study=mine", "format=xml"), "there is no such format"),
    ],
)
def test_mistakes_are_reported_and_write_nothing(here, arguments, said):
    code, _, err = segment(*arguments)
    assert code == 2
    assert said in err
    assert not Path("runs").exists()


def test_studies_are_listed_without_a_name(here):
    code, out, _ = segment("format=json")
    assert code == 0
    assert {"study": "mine", "name": "+experiments/mine=tiny", "about": "Balls in balls."} in json.loads(out)


def test_every_verdict(done):
    run = OUT / "tiny"
    assert sorted(path.name for path in run.iterdir()) == ["fold0", "fold1", "foldall"]
    command = json.loads((run / "fold1" / "provenance.json").read_text())["command"]
    assert command[1:4] == ["train", "+experiments/mine=tiny", "fold=1"]
    whole, first = (
        json.loads((run / fold / "summary.json").read_text())["labels"]["ball_1"]["dice"]
        for fold in ("foldall", "fold0")
    )
    low, high = whole["ci95"]
    rows = [
        figure("dice", "ball_1", f"{(low + high) / 2:.4f}"),
        figure("dice", "Ball_1", f"{high * 100 + 0.1:.2f}", scale=100),
        figure("dice", "ball_1", f"{low - 0.001:.4f}"),
        figure("dice", "ball_1", f"{first['mean']:.6f}", fold=0),
        figure("assd_mm", "ball_1", "5.7"),
        figure("dice", "ball_3", ".8"),
        figure("dice", "ball_1", ".8", run="later"),
        figure("dice", "ball_1", ".8", run=""),
        figure("memory_gb", "", "8"),
    ]
    study = done / "experiments" / "mine"
    (study / "published.csv").write_text("\n".join([HEAD, *rows, ""]))
    (study / "later.yaml").write_text(TINY.format(data="auto", root="nowhere"))
    code, out, err = segment("study=mine", "format=json")
    assert code == 0, err
    lines = json.loads(out)
    assert "published.csv: tiny has no label ball_3. Did you mean 'ball_2'?" in err
    words = [INCONCLUSIVE] * 4 + ["", ""]
    assert [line["verdict"] for line in lines] == ["not run (data needed)", *words]
    assert lines[1]["measured"] == whole["mean"]
    assert (lines[1]["scans"], lines[1]["folds"], lines[4]["scans"], lines[4]["folds"]) == (6, "all", 3, "0")
    code, out, _ = segment("study=mine", "run=tiny")
    assert (
        f"{whole['mean'] * 100:.2f} ({low * 100:.2f} - {high * 100:.2f}), 6 scans, all folds"
        in (OUT / "table.md").read_text()
    )
    assert "published  tiny: two folds; overlap 0.5; test-time augmentation none (Me, 2026)" in out
    assert "fold 0 is finished" in out
    assert "reduced" not in out
    with (OUT / "table.csv").open() as file:
        assert [row["verdict"] for row in csv.DictReader(file)] == ["not run", *words]  # it was not asked for


BETWEEN, INSIDE = "fold0/report.html", "fold1/checkpoints/last.ckpt"


@pytest.mark.parametrize("moments", [[INSIDE], pytest.param([BETWEEN, INSIDE], marks=pytest.mark.slow)])
def test_killed_reproduction_resumes_to_the_same_table(done, moments):
    expected = tables()
    shutil.rmtree("runs")

    def kill_when(path: Path) -> None:
        process = fork_segment("reproduce", "study=mine", folder=Path(), output=Path("output.txt"))
        deadline = time.monotonic() + 200
        while not path.exists():
            assert process.poll() is None, "the study ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()

    for moment in moments:
        kill_when(OUT / "tiny" / moment)
    before = {file: file.stat().st_mtime_ns for file in (OUT / "tiny" / "fold0").rglob("*") if file.is_file()}
    assert not (OUT / "tiny" / "fold1" / "report.html").exists()
    assert not (OUT / "table.md").exists()
    code, _, err = segment("study=mine")
    assert code == 0, err
    assert tables() == expected
    assert before == {file: file.stat().st_mtime_ns for file in before}


def test_a_fold_that_diverged_is_refused_as_a_result_and_trained_anew_once_it_is_deleted(done):
    bad, before = diverge(OUT / "tiny" / "fold1", 2), tables()
    for arguments in (("study=mine",), ("study=mine", "fold=0")):
        code, out, err = segment(*arguments)
        assert code == 2
        assert f"{bad}: this fold diverged (the loss is not finite from step 2)" in err
        assert "Delete the folder to train the fold again" in err
        assert "optimizer.lr" in err
        assert "is finished" not in out
    assert tables() == before
    shutil.rmtree(bad)
    code, _, err = segment("study=mine")
    assert code == 0, err
    assert tables() == before


@pytest.mark.slow
def test_folds_of_several_machines_are_combined(done):
    expected = tables()
    shutil.move(OUT / "tiny" / "fold0", "fold0")
    shutil.rmtree(OUT / "tiny" / "foldall")
    code, out, err = segment("study=mine", "fold=1")
    assert code == 0, err
    assert "Note: tiny lacks fold 0 of 2." in err
    assert "(reduced)" in out
    assert "fold 1 only" in out
    config = Path("fold0/config.yaml")
    there = config.read_text()
    # Another path, precision or device is the machine's; another rate is another protocol.
    config.write_text(
        there.replace("precision: 32-true", "precision: bf16-mixed").replace("root: scans", "root: /else")
    )
    shutil.copytree("fold0", OUT / "tiny" / "fold0")
    code, _, err = segment("study=mine", "fold=1")
    assert code == 0, err
    assert tables() == expected
    record = Path(OUT / "tiny" / "fold0" / "provenance.json")
    whole = record.read_text()
    record.write_text(whole.replace('"steps": 4', '"steps": 3'))
    code, out, err = segment("study=mine", "fold=1")
    assert code == 0, err
    assert "reduced    tiny: fold 0 ended after 3 steps" in out
    record.write_text(whole)
    (OUT / "tiny" / "fold0" / "config.yaml").write_text(there.replace("max_steps: 4", "max_steps: 40"))
    code, _, err = segment("study=mine", "fold=1")
    assert code == 2
    assert "differs from that of fold 0" in err
    (OUT / "tiny" / "fold0" / "config.yaml").write_text(there.replace("planned:", "planned:\n  a: ${oc.env:HOME}"))
    code, _, err = segment("study=mine", "fold=1")
    assert code == 2
    assert "planned" in err
    assert str(Path.home()) not in err


def test_budget_is_measured_kept_and_reported(here, monkeypatch):
    measured = []

    def measure(config):
        measured.append(measure_here(config))
        return Trial(step=100.0, scan=0.0, scans=3, views=1)

    measure_here = reproduce.measure
    monkeypatch.setattr(reproduce, "measure", measure)
    code, out, err = segment("study=mine", "fold=0", "budget=0.1")
    assert code == 0, err
    assert measured[0].step > 0
    assert measured[0].scan > 0
    assert (measured[0].scans, measured[0].views) == (3, 1)
    assert "3 of 4 steps per fold" in out
    assert "reduced    tiny: trainer.max_steps 3 instead of 4; fold 0 only\n" in out
    assert "(reduced)" in out
    code, out, err = segment("study=mine", "fold=0")
    assert code == 0, err
    assert "continues with 3 of 4 steps" in out
    assert len(measured) == 1
    code, _, err = segment("study=mine", "steps=4")
    assert code == 2
    assert "has folds of 3 steps" in err


def test_a_budget_counts_validation_and_scoring():
    given = ["name=x", "trainer.max_steps=1000", "trainer.check_val_every_n_epoch=2", "sampler.steps_per_epoch=50"]
    experiment = experiment_of(*given)
    pace = Trial(step=2.0, scan=1.0, scans=10, views=8)
    steps = steps_within(500, experiment, pace, "budget=1")
    validations = steps / 100
    assert 490 < steps * 2 + validations * 10 + 80 <= 500
    assert steps_within(1e9, experiment, pace, "budget=1") == 1000
    with pytest.raises(UserError, match=r"budget=1: is too small.*80 s"):
        steps_within(81, experiment, pace, "budget=1")


def test_fewer_steps_shorten_the_schedule():
    config = DictConfig({"trainer": {"max_steps": 13200}, "scheduler": {"step_size": 12000, "gamma": 0.01}})
    assert shortened(config, 132) == ("trainer.max_steps=132", "scheduler.step_size=120")
    config.scheduler = {"milestones": [100, 200], "T_max": "${trainer.max_steps}"}
    assert shortened(config, 6600) == ("trainer.max_steps=6600", "scheduler.milestones=[50,100]")


def test_measurements_are_recorded_and_displayed(done):
    study, written = done / "experiments" / "mine", OUT / "tiny" / "fold0" / "provenance.json"
    record = json.loads(written.read_text())
    written.write_text(json.dumps(record | {"overrides": [f"data.root={done}"]}))
    code, _, err = segment("study=mine", "write=true")
    assert code == 0, err
    rows = read_measured(study)
    assert {(row.fold, row.metric, row.label) for row in rows} == {
        (fold, metric, label)
        for fold in ("0", "1", "all")
        for metric in ("dice", "iou", "hd95_mm", "nsd")
        for label in ("foreground", "ball_1", "ball_2")
    }
    whole = json.loads((OUT / "tiny/foldall/summary.json").read_text())
    (row,) = (row for row in rows if (row.fold, row.metric, row.label) == ("all", "dice", "foreground"))
    assert row.value == whole["foreground"]["dice"]["mean"]
    assert row.interval == tuple(whole["foreground"]["dice"]["ci95"])
    assert (row.scans, row.steps, row.seed, row.reduced) == (6, 4, 0, "")
    for row in rows:
        record = (study / row.provenance).read_text()
        assert json.loads((study / row.provenance).with_name("summary.json").read_text())["scans"] == row.scans
        assert str(done) not in record
        assert "torch" in record
    text = (done / "experiments" / "README.md").read_text()
    assert text == page(done / "experiments")
    assert "6 scans, all folds" in text
    before = (study / "measured.csv").read_bytes()
    code, _, err = segment("study=mine", "write=true")
    assert code == 0, err
    assert (study / "measured.csv").read_bytes() == before
    assert segment("page=experiments")[0] == 0
    assert (done / "experiments" / "README.md").read_text() == text
