"""Mistakes on the command line: exit code 2 and one paragraph that says what is wrong, before anything slow starts."""

import importlib.metadata
from pathlib import Path

import pytest
from many_commands import run_all

from segment.config.launch import fail

OLD = Path(__file__).parent / "fixtures" / "runs_of_november_2026"
SCANS = ["data=auto", f"data.root={OLD / 'scans'}"]
RUN, IMAGE = OLD / "seed0", OLD / "scans" / "imagesTr" / "case_0.nii.gz"
PREDICT = ["predict", f"model={RUN}", f"input={IMAGE}", "output=masks"]
EXPORT = ["export", f"model={RUN}", "output=exported"]
CALLBACKS = "pytorch_lightning.callbacks"
MISTAKES = [
    # keys, choices and options
    (["trian"], ["'trian'", "Did you mean 'train'?"]),
    (["train", "network=unett"], ["network=unett", "Did you mean 'unet'?"]),
    (["train", "network.encoder.featurs=[8]"], ["Did you mean 'network.encoder.features'?"]),
    (["train", "+network.encoder.featurs=[8]"], ["network.encoder.featurs", "Did you mean 'features'?"]),
    (["train", "trainer.max_step=3"], ["trainer.max_step", "Did you mean 'trainer.max_steps'?"]),
    (["train", "lr=0.1"], ["lr", "Did you mean 'optimizer.lr'?"]),
    (["train", "batch_size=4"], ["Did you mean 'plan.batch_size' or 'inference.batch_size'?"]),
    (["train", "--epochs", "10"], ["--epochs", "key=value", "trainer.max_epochs=10"]),
    (["train", "--lr=0.1"], ["optimizer.lr=0.1"]),
    (["train", "data", "auto"], ["'data' is not key=value", "data=auto"]),
    (["train", "nonsense"], ["'nonsense'", "Usage: segment train data=NAME"]),
    (["compare", "A", "B"], ["'A' is not key=value", "runs=[A,B]"]),
    (["predict", "input=my", "scan.nii"], ["'scan.nii'", "'input=my scan.nii'"]),
    (["train", "-m", "--cfg", "hydra"], ["--cfg", "-m"]),
    (["train", "--resolve"], ["--resolve", "--cfg"]),
    (["train", "--cfg", "jobs"], ["--cfg", "jobs"]),
    (["train", "-m", "hydra/launcher=submitit_slurm", "seed=0,1"], ["no Slurm", "hydra/launcher=joblib"]),
    (["train", "+experiments/nothing=here"], ["experiments/nothing", "segment list"]),
    (["train", "network=null"], ["network=null", "a value is required"]),
    (["train", "network._target_=no.such.Network"], ["no.such.Network", "cannot be imported"]),
    (["train", "network._target_=segment.networks.unet.UNett"], ["cannot be imported", "Did you mean 'UNet'?"]),
    # values
    (["train", *SCANS, "fold=7"], ["fold=7", "5 folds", "0 to 4"]),
    (["train", *SCANS, "folds=1"], ["folds=1"]),
    (["train", *SCANS, "seed=-1"], ["seed=-1"]),
    (["train", *SCANS, "overfit=-1"], ["overfit=-1"]),
    (["train", *SCANS, "name=a b"], ["name=a b", "name=a_b"]),
    (["train", *SCANS, "sampler.foreground=1.5"], ["sampler.foreground=1.5", "0 to 1"]),
    (["train", *SCANS, "sampler.steps_per_epoch=0"], ["sampler.steps_per_epoch=0"]),
    (["train", *SCANS, "sampler.workers=-1"], ["sampler.workers=-1"]),
    (["train", *SCANS, "trainer.accumulate_grad_batches=0"], ["trainer.accumulate_grad_batches=0"]),
    (["train", *SCANS, "trainer.accumulate_grad_batches=3"], ["sampler.steps_per_epoch=50", "such as 51"]),
    (["train", *SCANS, "trainer.check_val_every_n_epoch=0"], ["trainer.check_val_every_n_epoch=0"]),
    (["train", *SCANS, "+trainer.overfit_batches=1"], ["trainer.overfit_batches", "overfit=N"]),
    (["train", *SCANS, "trainer.max_time=5"], ["trainer.max_time=5", "DD:HH:MM:SS"]),
    (["train", *SCANS, "trainer.max_steps=-1"], ["trainer.max_steps=-1", "trainer.max_epochs"]),
    (["train", *SCANS, "trainer.max_steps=0"], ["trainer.max_steps", "0 trains nothing"]),
    (["train", *SCANS, "trainer.max_steps=1.5"], ["trainer.max_steps=1.5", "an integer"]),
    (["train", *SCANS, "trainer.precision=64-true"], ["trainer.precision=64-true", "bf16-mixed"]),
    (["train", *SCANS, "trainer.precision=bf16"], ["trainer.precision=bf16", "bf16-mixed"]),
    (["train", *SCANS, "trainer.precision=16-mixed"], ["trainer.precision=16-mixed", "GPU"]),
    (["train", *SCANS, "trainer.accelerator=foo"], ["trainer.accelerator=foo"]),
    (["train", *SCANS, "trainer.devices=0"], ["trainer.devices=0"]),
    (["train", *SCANS, "inference.overlap=1.5"], ["inference: overlap=1.5"]),
    (["train", *SCANS, "callbacks=null"], ["callbacks=null", "callbacks.last"]),
    (["train", *SCANS, "callbacks.last=null"], ["callbacks.last=null"]),
    (["train", *SCANS, "callbacks.last.filename=mine"], ["callbacks.last", "checkpoints/last"]),
    (["train", *SCANS, "callbacks.best.monitor=val/foregroud_dice"], ["Did you mean 'val/foreground_dice'?"]),
    (
        ["train", *SCANS, f"+callbacks.e={{_target_: {CALLBACKS}.EarlyStopping, monitor: val_loss}}"],
        ["callbacks.e.monitor=val_loss", "train/loss"],
    ),
    # files
    (["train", "data=auto"], ["data.root"]),
    (["train", "data=auto", "data.root=nowhere"], ["nowhere", "does not exist"]),
    (["train", "data=hippocampus", "data.root=nowhere"], ["segment fetch data=hippocampus", "CC-BY-SA"]),
    (["train", *SCANS, "plan=nowhere.yaml"], ["plan=nowhere.yaml", "segment plan"]),
    (["train", *SCANS, "splits=nowhere.json"], ["splits=nowhere.json"]),
    (["train", *SCANS, "weights=nowhere"], ["weights=nowhere", "does not exist"]),
    (["train", *SCANS, f"output={IMAGE}/sub"], [f"{IMAGE} is a file"]),
    (["train", *SCANS, f"output={RUN}"], ["network.encoder.features is [4, 8] there and [8, 32, 64, 128] here"]),
    (["train", *SCANS, f"output={OLD}"], ["is not a run folder"]),
    # other verbs
    (["predict", "input=a", "output=b"], ["model", "a value is required"]),
    (["predict", "model=nowhere", "input=a", "output=b"], ["model=nowhere", "model.json"]),
    (["predict", "model=[a,b]", "input=a", "output=b"], ["model=a", "model.json"]),
    (["predict", f"model={RUN}", "input=nowhere", "output=b"], ["input=nowhere"]),
    ([*PREDICT, "accelerator=foo"], ["accelerator=foo", "auto, cpu, gpu"]),
    ([*PREDICT, "precision=foo"], ["precision=foo", "32-true"]),
    ([*PREDICT, "inference.overlap=2"], ["inference: overlap=2"]),
    ([*PREDICT, "+inference.overlp=0.2"], ["inference.overlp", "Did you mean 'overlap'?"]),
    ([*PREDICT[:-1], f"output={OLD / 'masks'}"], ["the mask case_0.nii.gz exists", "overwrite=true"]),
    ([*PREDICT, "inference.engine=openvno"], ["inference.engine=openvno", "Did you mean 'openvino'?"]),
    (["export", "model=nowhere", "output=b"], ["model=nowhere", "model.json"]),
    ([*EXPORT, "format=keras"], ["format=keras", "onnx, openvino"]),
    ([*EXPORT, "format=onnx", "precision=bf16"], ["precision=bf16", "format=openvino"]),
    ([*EXPORT, "input=nowhere"], ["input=nowhere"]),
    ([*EXPORT[:-1], f"output={OLD}"], [f"output={OLD}", "is not an export"]),
    (["evaluate", "predictions=nowhere", "references=nowhere", "output=out"], ["predictions=nowhere"]),
    (["compare", "runs=[nowhere,there]"], ["runs=nowhere"]),
    (["compare", "runs=[nowhere,there]", "common=yes please"], ["common=yes please"]),
    (["compare", "runs=[nowhere,there]", "metric=[dice,dice]"], ["metric="]),
    (["list", "netwroks"], ["Did you mean 'networks'?"]),
    (["list", "networks", "format=yaml"], ["format=yaml"]),
    (["reproduce", "study=hippocampuss"], ["Did you mean 'hippocampus'?"]),
    (["show", "augmentt"], ["Did you mean 'augment'?"]),
    (["show", "augment", "scans=0"], ["scans=0"]),
    (["check", "data=auto", "data.root=nowhere"], ["nowhere"]),
    (["plan", "data=auto", "data.root=nowhere"], ["nowhere"]),
    (["plan", "data=demo", "output=plan.txt"], ["output=plan.txt", ".yaml"]),
    (["fetch"], ["data"]),
    (["fetch", "data=demo"], ["no download URL"]),
]


def test_a_mistake_ends_with_code_2_and_one_paragraph_before_anything_slow_is_imported(tmp_path):
    """One test for all, since they share one process, which the workers of pytest-xdist would not."""
    told = run_all([arguments for arguments, _ in MISTAKES], tmp_path, SEGMENT_CACHE=str(tmp_path / "cache"), PATH="")
    wrong = {}
    for (arguments, said), (code, out, err) in zip(MISTAKES, told["results"], strict=True):
        is_paragraph = err.startswith("segment: ") and len(err.strip().splitlines()) == 1
        if (code, out) != (2, "") or not is_paragraph or not all(words in err for words in said):
            wrong[" ".join(arguments)] = (code, out, err)
    assert not wrong, "\n".join(map(repr, wrong.items()))
    assert told["imported"] == []
    assert [*tmp_path.iterdir()] == []


@pytest.mark.skipif("+cpu" not in importlib.metadata.version("torch"), reason="this torch may find a GPU")
def test_a_gpu_that_torch_cannot_use_is_refused_at_once(tmp_path):
    told = run_all([["train", "trainer=gpu"], [*PREDICT, "accelerator=gpu"]], tmp_path)
    assert told["imported"] == []
    for (code, _, err), key in zip(told["results"], ("trainer.accelerator=gpu", "accelerator=gpu"), strict=True):
        assert code == 2
        assert key in err
        assert "finds no GPU" in err


def test_text_of_others_cannot_control_the_terminal(capsys):
    with pytest.raises(SystemExit):
        fail("a.json: \x1b[2J\x00 is not a name.")
    assert capsys.readouterr().err == "segment: a.json: \ufffd[2J\ufffd is not a name.\n"
