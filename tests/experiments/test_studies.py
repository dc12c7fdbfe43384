"""Every run of every study composes, plans and takes two steps, on a miniature of its data set."""

import csv
import re
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
from assembled import assembled
from miniatures import CASES, FLAT, options, write
from omegaconf import open_dict

from segment.config.compose import compose, compose_command
from segment.config.data import splits_of
from segment.config.experiment import read_experiment
from segment.config.experiments import RULES, runs
from segment.data import open_dataset
from segment.data.splits import read_folds
from segment.studies.study import folds_of
from segment.studies.verdict import read_rules

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
STUDIES = sorted(path.name for path in EXPERIMENTS.iterdir() if path.is_dir())
RUNS = sorted(f"{study}={run}" for study in STUDIES for run in runs(EXPERIMENTS / study))
# One a study, as light as the study has it, with fewer features where its network is not light.
LIGHT = {
    "attention_unet2018=attention_unet_30_120": ["network.encoder.features=[4,4,4,4,4]"],
    "hippocampus=dynunet": ["network.network.filters=[4,4,4,4]"],
    "isbi2012_em=attention_unet": ["network.encoder.features=[4,4,4,4,4]"],
    "nnunet_revisited=acdc_resenc_m": ["network.encoder.features=[4,8,8,8]"],
    "r2unet2018=drive_runet": ["network.encoder.features=[4,4,4,4,4]"],
    "segresnet_brats18=segresnet": ["network.network.init_filters=8"],
    "spleen=bundle_unet": [],
    "swinunetr_brats21=f48": ["network.network.feature_size=12", "network.network.depths=[1,1,1,1]"],
    "swinunetr_btcv=f12": ["network.network.depths=[1,1,1,1]"],
    "unet2015=dic_hela": ["network.encoder.features=[4,4,4,4,4]"],
    "unet3d2016=unet3d": ["network.encoder.features=[4,8,8,8]"],
    "unetpp2018=liver_unetpp_ds": ["network.encoder.features=[4,4,4,4,4]"],
    "unetr_btcv=unetr": ["network.encoder.depth=4", "network.encoder.taps=[1,2,3,4]", "network.encoder.hidden=48",
                         "network.encoder.mlp=64"],
    "vnet2016=dice": ["network.encoder.features=[4,4,8,8,8]", "network.decoder.features=[4,4,8,8]"],
}  # fmt: skip
SLOW = ("swinunetr_btcv=f12", "unetr_btcv=unetr")  # seconds each; swinunetr_brats21 stands for them


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.values.append(float(outputs["loss"]))


def composed(run: str, *overrides: str):
    return compose("train", [f"+experiments/{run}", *overrides])


def check(run: str, folder: Path, *overrides: str) -> None:
    """Two steps of a run on a miniature, with the least patch that its network takes."""
    published = composed(run)
    data, flat = published.data.name, published.data.name in FLAT
    root = write(data, folder / "data", (40, 40) if flat else (20, 40, 48), (1.0, 1.0, 1.0))
    patch = [32, 32] if flat or published.plan.configuration == "2d" else [16, 32, 32]
    if re.search(r"swinunetr|unetr|mednext|f\d\d$", run):
        patch = [32, 32, 64]
    given = [
        f"data.root={root}", f"cache={folder / 'cache'}", f"output={folder / 'run'}", "name=x", "trainer=cpu",
        "trainer.precision=32-true", "trainer.max_steps=2", "sampler.steps_per_epoch=2", "sampler.workers=0",
        "plan.batch_size=1", f"plan.patch_size={patch}", "callbacks.best=null",
        "callbacks.learning_rate=null", "splits=null", *overrides,
    ]  # fmt: skip
    recorded = Losses()
    work, module, trainer, patches = assembled([f"+experiments/{run}", *given], [recorded])
    trainer.fit(module, patches)
    assert len(recorded.values) == 2
    assert np.isfinite(recorded.values).all()
    if published.plan.spacing is not None:
        assert sorted(work.plan.spacing) == sorted(published.plan.spacing)


@pytest.mark.parametrize("run", [pytest.param(run, marks=pytest.mark.slow) if run in SLOW else run for run in LIGHT])
def test_a_run_of_each_study_takes_two_steps(run, tmp_path):
    check(run, tmp_path, *LIGHT[run])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("run", RUNS)
def test_every_run_takes_two_steps_at_its_published_widths(run, tmp_path):
    check(run, tmp_path)


def test_there_is_a_light_run_of_each_study():
    assert sorted(run.split("=")[0] for run in LIGHT) == STUDIES
    assert set(LIGHT) <= set(RUNS)


@pytest.mark.parametrize("study", STUDIES)
def test_study_describes_itself_and_its_deviations(study):
    text = (EXPERIMENTS / study / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    for heading in ("## Data", "## Protocol", "## Deviates"):
        assert f"\n{heading}\n" in text
    named = read_rules(EXPERIMENTS / study).differs
    assert all(any(fnmatchcase(run, pattern) for run in runs(EXPERIMENTS / study)) for pattern in named)
    for file in set((EXPERIMENTS / study).glob("*.yaml")) - {EXPERIMENTS / study / RULES}:
        first, second = file.read_text(encoding="utf-8").splitlines()[:2]
        assert first == "# @package _global_"
        assert re.fullmatch(r"# \S.{10,}", second), file
        assert f"`{file.stem}`" in text or re.search(r"`[A-Z_]+`", text), f"the README does not name {file.stem}"


# What a paper prints, so that an override that comes too late is seen.
PROTOCOL = {
    "nnunet_revisited=btcv_nnunet": {"trainer.max_steps": 250_000, "trainer.accelerator": "gpu", "optimizer.lr": 0.01,
                                     "augment.spatial.scale": [0.7, 1.4], "inference.mirror": "all"},
    "nnunet_revisited=kits_resenc_xl": {"plan.preset": "resenc_xl", "plan.memory": None, "optimizer.momentum": 0.99},
    "nnunet_revisited=amos_mednext_l_k5": {"network.encoder.kernel_sizes": 5, "optimizer.lr": 1e-3,
                                           "plan.patch_size": [128, 128, 128], "sampler.steps_per_epoch": 250},
    "hippocampus=dynunet": {"optimizer.lr": 0.1, "scheduler.gamma": 0.01, "plan.batch_size": 9},
    "swinunetr_btcv=f24": {"network.network.feature_size": 24, "scheduler.warmup_steps": 1200, "inference.mirror": []},
    "segresnet_brats18=segresnet": {"loss.sigmoid": True, "optimizer.weight_decay": 1e-5, "scheduler.T_max": 60_000},
    "spleen=bundle_unet": {"optimizer._target_": "monai.optimizers.Novograd", "optimizer.lr": 2e-3},
    "vnet2016=logistic": {"loss._target_": "segment.losses.cross_entropy.CrossEntropyLoss",
                          "optimizer.momentum": 0.99, "scheduler.step_size": 25_000},
    "unetpp2018=polyp_wide_unet": {"network.encoder.features": [35, 70, 140, 280, 560], "optimizer.lr": 3e-4},
    "r2unet2018=drive_resunet": {"optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 2e-4,
                                               "weight_decay": 0.0}},
    "r2unet2018=drive_unet": {"plan.patch_size": [48, 48], "optimizer.lr": 2e-4, "optimizer.weight_decay": 0.0,
                              "splits": "experiments/r2unet2018/splits.json", "inference.mirror": []},
    "r2unet2018=chase_runet": {"network.encoder.stage.residual": False, "network.decoder.stage.residual": False,
                               "plan.batch_size": 32, "optimizer._target_": "torch.optim.Adam", "splits": None},
    "isbi2012_em=nnunet_plain": {"optimizer.lr": 3e-4, "trainer.max_steps": 600, "trainer.accelerator": "cpu"},
}  # fmt: skip


@pytest.mark.parametrize("run", PROTOCOL)
def test_run_has_the_published_settings(run):
    config = composed(run)
    found = {key: _at(config, key) for key in PROTOCOL[run]}
    assert found == PROTOCOL[run]


def _at(config, key: str):
    for part in key.split("."):
        config = config[part]
    return config


# The training scans of data sets that studies share out by a list.
SCANS = {
    "btcv": [f"{number:04d}" for number in (*range(1, 11), *range(21, 41))],
    "spleen": [f"spleen_{number}" for number in (
        2, 3, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 19, 20, 21, 22, 24, 25, 26, 27, 28, 29, 31, 32, 33, 38, 40, 41, 44,
        45, 46, 47, 49, 52, 53, 56, 59, 60, 61, 62, 63,
    )],
}  # fmt: skip


def split_runs() -> list[str]:
    """Runs of which the source prints how many scans train and validate."""
    found = []
    for study in STUDIES:
        with (EXPERIMENTS / study / "published.csv").open(encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if re.match(r"\d+ train, \d+ validation(;|$)", row["split"])]
        found += [f"{study}={row['run']}" for row in rows if row["run"]]
    return sorted(set(found))


@pytest.mark.parametrize("run", split_runs())
def test_published_split_is_found_from_any_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = composed(run)
    monkeypatch.setitem(CASES, config.data.name, SCANS[config.data.name])
    dataset = open_dataset(**options(config.data.name) | {"root": write(config.data.name, tmp_path / "data")})
    here = ("name=x", "trainer.accelerator=cpu")
    experiment = read_experiment(*compose_command("train", [f"+experiments/{run}", *here]))
    assert folds_of(experiment) == 1
    (fold,) = read_folds(splits_of(config), dataset)
    with (EXPERIMENTS / run.split("=")[0] / "published.csv").open(encoding="utf-8") as stream:
        published = [row["split"] for row in csv.DictReader(stream) if row["run"] == run.split("=")[1]]
    assert all(f"{len(fold['train'])} train, {len(fold['val'])} validation" in split for split in published)
    assert {*fold["train"], *fold["val"]} == {case.id for case in dataset.cases}
    with open_dict(config):
        config.splits = "mine.json"
    Path("mine.json").write_text("[]", encoding="utf-8")
    assert splits_of(config) == Path("mine.json")
