"""Sweeps: jobs one after another, in parallel processes and as a search; failed jobs do not stop the others."""

import json
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import yaml
from joblib.externals.loky import get_reusable_executor
from omegaconf import OmegaConf

from segment.config.compose import compose, register
from segment.config.messages import explain
from segment.config.nested import outer_trainings
from segment.config.sweep import Job, pattern_of
from segment.evaluation.comparison.methods import find_runs
from segment.workflow import train as training

pytestmark = pytest.mark.usefixtures("without_pages")


@pytest.fixture
def quiet_optuna() -> Iterator[None]:
    """Optuna's handler keeps the stream of its first use, which a later test has closed."""
    optuna.logging.disable_default_handler()
    yield
    optuna.logging.enable_default_handler()


def runs(folder: Path) -> list[Path]:
    """Run folders, by name."""
    return sorted(path for path in (folder / "runs").iterdir() if path.name != ".sweeps")


def dice(run: Path) -> float:
    return json.loads((run / "summary.json").read_text())["foreground"]["dice"]["mean"]


def test_failed_jobs_do_not_stop_a_sweep_and_finished_jobs_are_skipped(
    segment, make_dataset, tmp_path, capsys, monkeypatch
):
    root = make_dataset(tmp_path / "data", n=4)
    prepare = training.prepare
    monkeypatch.setattr(training, "prepare", lambda one: prepare(one) if one.seed == 0 else {}["a crash"])
    here = "hydra.sweep.dir=runs/.sweeps/mine"
    assert segment("train", root, "-m", here, "seed=7,0", "fold=9,0") == 1  # a crash
    output = capsys.readouterr()
    (run,) = runs(tmp_path)
    assert f"{dice(run):.4f}  runs/{run.name}" in output.out
    assert re.search(r"^0 +seed=7 fold=9 +failed", output.out, re.M)
    last = output.err.strip().splitlines()[-1]
    assert last.startswith("segment: 3 of 4 jobs failed")
    assert "[1] seed=7 fold=0: KeyError: 'a crash'" in last
    assert "[2] seed=0 fold=9: fold=9: there are 5 folds" in last
    # The command in the provenance, which child processes of a strategy would start, is that of the job alone.
    command = json.loads((run / "provenance.json").read_text())["command"]
    assert command[:2] == ["segment", "train"]
    assert {"seed=0", "fold=0"} <= set(command)
    assert "-m" not in command

    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    assert segment("train", root, "-m", here, "seed=0", "fold=9,0") == 2  # mistakes of the user's only
    assert "is finished" in capsys.readouterr().out
    assert before == {file: file.stat().st_mtime_ns for file in run.rglob("*")}


def test_two_jobs_never_share_a_run_folder(segment, make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", n=4)
    # Their configurations differ in nothing that claims a run folder.
    assert segment("train", root, "-m", "trainer.log_every_n_steps=1,2", "name=same") == 2
    output = capsys.readouterr()
    assert "output=runs/same: job 0 of this sweep uses this run folder" in output.err
    assert "Compare" not in output.out


@pytest.mark.parametrize(
    ("swept", "others", "pattern"),
    [
        (["a-fold0-seed0", "a-fold0-seed1"], ["b-fold0-seed0"], "a-fold0-seed*"),
        (["a-foldall-seed0", "b-foldall-seed0"], ["a-fold0-seed0", "b-fold0-seed0"], "*-foldall-seed0"),
        (["a-x-fold0", "a-y-fold0", "b-x-fold0"], ["a-x-fold1", "c-fold0"], "*-*-fold0"),
        (["a[1]x0", "a[1]x1"], ["b"], "a[[]1]x*"),
        (["a", "b"], ["c"], None),
        (["a-fold0", "other/a-fold1"], [], None),
    ],
)
def test_glob_matches_exactly_the_runs_of_a_sweep(swept, others, pattern, tmp_path):
    for name in (*swept, *others):
        (tmp_path / name).mkdir(parents=True)
    found = pattern_of([f"{tmp_path}/{name}" for name in swept])
    assert found == (pattern and f"{tmp_path}/{pattern}")
    if pattern:
        assert sorted(map(str, find_runs(found))) == sorted(f"{tmp_path}/{name}" for name in swept)


def test_ctrl_c_ends_a_sweep(segment, make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", n=4)
    before = signal.getsignal(signal.SIGINT)
    try:
        assert segment("train", root, "-m", "seed=0,1", "+callbacks.stop={_target_: stopping.Interrupt}") != 0
    finally:
        signal.signal(signal.SIGINT, before)  # which the Trainer takes away
    assert "Job 0" in (output := capsys.readouterr().out)
    assert "Job 1" not in output


@pytest.mark.usefixtures("quiet_optuna")
def test_search_finds_the_highest_dice_and_is_reproducible(segment, make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", n=4)
    search = ("-m", "hydra/sweeper=optuna", "optimizer.lr=tag(log,interval(1e-4,1e-1))", "hydra.sweeper.n_trials=2")
    search += ("name=trial${hydra:job.num}",)
    assert segment("train", root, *search) == 0
    output = capsys.readouterr().out
    (results,) = tmp_path.glob("runs/.sweeps/*/optimization_results.yaml")
    found = yaml.safe_load(results.read_text())
    scores = {run: dice(run) for run in runs(tmp_path)}
    assert [run.name for run in scores] == ["trial0", "trial1"]
    assert "Compare  segment compare 'runs=runs/trial*'\n" in output
    board = Path(re.search(r"^Curves   tensorboard --logdir (\S+)$", output, re.M)[1])
    short = {link.name: link.resolve() for link in board.iterdir()}  # what TensorBoard shows as names of runs
    assert set(short.values()) == {run / "tensorboard" for run in runs(tmp_path)}
    assert all(re.fullmatch(r"lr0\.\d+(e-\d+)?", name) for name in short), short
    assert found["best_value"] == pytest.approx(max(scores.values()))
    best = max(scores, key=scores.get)
    assert OmegaConf.load(best / "config.yaml").optimizer.lr == pytest.approx(found["best_params"]["optimizer.lr"])
    assert f"Best     optimizer.lr={found['best_params']['optimizer.lr']}" in output
    assert "chosen for their score on the validation scans, so that score is optimistic" in output

    assert segment("train", root, *search) == 0
    assert capsys.readouterr().out.count("is finished") == 2
    assert runs(tmp_path) == sorted(scores)


def test_the_best_of_a_nested_sweep_is_scored_once_on_scans_that_had_no_part_in_the_choice(
    segment, make_dataset, tmp_path, capsys
):
    root = make_dataset(tmp_path / "data", n=4)
    assert segment("train", root, "-m", "optimizer.lr=1e-2,1e-9", "nested=true", "name=try${hydra:job.num}") == 0
    output = capsys.readouterr().out
    assert "on part of its training scans" in output.replace("mean over", "on")
    named = {run.name: run for run in runs(tmp_path)}
    (final,) = named.keys() - {"try0", "try1"}
    splits = {name: json.loads((run / "provenance.json").read_text())["split"] for name, run in named.items()}
    assert splits["try0"] == splits["try1"]
    assert sorted(splits["try0"]["train"] + splits["try0"]["val"]) == sorted(splits[final]["train"])
    best = max(("try0", "try1"), key=lambda name: dice(named[name]))
    tried, trained = (OmegaConf.load(named[name] / "config.yaml") for name in (best, final))
    assert (trained.optimizer.lr, trained.nested, tried.nested) == (tried.optimizer.lr, False, True)
    assert f"-lr{trained.optimizer.lr}-" in final
    assert "nested" not in final


def test_each_fold_of_a_nested_sweep_has_its_own_best():
    scores = [("0", "1e-3", 0.5), ("0", "1e-2", 0.7), ("1", "1e-3", 0.6), ("1", "1e-2", None), ("1", "1e-1", 0.6)]
    jobs = [
        Job(number, [f"fold={fold}", f"optimizer.lr={lr}", "nested=true", "name=x"], score=score, nested=True)
        for number, (fold, lr, score) in enumerate(scores)
    ]
    assert outer_trainings(jobs) == [
        ["fold=0", "optimizer.lr=1e-2", "nested=false"],
        ["fold=1", "optimizer.lr=1e-3", "nested=false"],
    ]
    assert outer_trainings([replace(job, nested=False) for job in jobs]) == []
    assert outer_trainings([replace(job, score=None) for job in jobs]) == []


@pytest.mark.usefixtures("quiet_optuna")
def test_search_without_a_score_gives_the_reason(segment, make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", n=4)
    search = ("-m", "hydra/sweeper=optuna", "seed=choice(0,1)", "hydra.sweeper.n_trials=2", "fold=9")
    assert segment("train", root, *search) == 2
    assert "2 of 2 jobs failed" in (output := capsys.readouterr().err)
    assert "Traceback" not in output


def parallel(segment, make_dataset, tmp_path, *launcher: str) -> None:
    """Two jobs in other processes find the studies, the resolvers and the modules beside the command."""
    root = make_dataset(tmp_path / "data", n=4)
    (tmp_path / "experiments" / "mine").mkdir(parents=True)
    (tmp_path / "experiments" / "mine" / "tiny.yaml").write_text(
        "# @package _global_\nloss: {batch: '${planned:batch_dice,true}'}\noptimizer: {_target_: mine.Optimizer}\n"
    )
    (tmp_path / "mine.py").write_text("import torch\nclass Optimizer(torch.optim.AdamW):\n    pass\n")
    assert segment("train", root, "-m", *launcher, "+experiments/mine=tiny", "seed=0,9999999999") == 1
    (run,) = runs(tmp_path)
    assert run.name.startswith("mine-tiny-fold0-seed0-")
    assert dice(run) >= 0


@pytest.mark.slow
def test_jobs_run_in_parallel_processes(segment, make_dataset, tmp_path, capsys):
    try:
        parallel(segment, make_dataset, tmp_path, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    finally:
        get_reusable_executor().shutdown(wait=True)
    assert "[1] seed=9999999999: ValueError" in capsys.readouterr().err


@pytest.mark.slow
def test_cluster_launcher_runs_jobs(segment, make_dataset, tmp_path, capsys):
    parallel(segment, make_dataset, tmp_path, "hydra/launcher=submitit_local")
    assert "[1] seed=9999999999: ValueError" in capsys.readouterr().err


@pytest.mark.parametrize("choice", ["launcher=submitit_slurm", "launcher=joblib", "sweeper=optuna"])
def test_launchers_and_sweepers_compose_and_those_not_installed_name_their_extra(choice):
    register()
    overrides = [f"hydra/{choice}", "name=x", "output=out"]
    compose("train", overrides)
    group, _, name = choice.partition("=")
    missing = f"Could not find 'hydra/{group}/{name}'\n\nAvailable options in 'hydra/{group}':\n\tbasic\n"
    extra = "cluster" if "submitit" in choice else "sweep"
    assert f"'.[{extra}]'" in explain(Exception(missing), "train", [])
