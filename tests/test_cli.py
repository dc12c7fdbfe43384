"""The command, started as a program."""

import subprocess
import sys

import pytest
import torch

from segment import cli
from segment.config.folders import config_folders


def segment(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "segment.cli", *arguments], capture_output=True, text=True, timeout=120, **options
    )


def test_help_names_every_verb_and_imports_nothing_heavy():
    code = (
        "import sys, segment.cli as c\nsys.argv = ['segment', '--help']\n"
        "try: c.main()\nexcept SystemExit as e: assert not e.code\n"
        "print([m for m in ('torch', 'hydra', 'numpy', 'monai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    assert all(f"  {verb} " in done.stdout for verb in cli.VERBS)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_its_file_and_configuration(verb):
    folders = [folder for scheme, folder in config_folders() if scheme == "file"]
    assert any((folder / f"{verb}.yaml").is_file() for folder in folders)
    assert callable(__import__(f"segment.commands.{verb}", fromlist=["run"]).run)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], ["'trian'", "Did you mean 'train'?"]),
        (["train", "network=unett"], ["network=unett", "Did you mean 'unet'?"]),
        (
            ["train", "network.encoder.featurs=[8]"],
            ["network.encoder.featurs", "Did you mean 'network.encoder.features'?"],
        ),
        (["train", "+network.encoder.featurs=[8]"], ["network.encoder.featurs", "Did you mean 'features'?"]),
        (["train", "trainer.max_step=3"], ["trainer.max_step", "Did you mean 'trainer.max_steps'?"]),
        (["train", "+experiments/nothing=here"], ["experiments/nothing", "segment list"]),
        (["train", "data=auto"], ["data.root"]),
        (["train", "data=auto", "data.root=nowhere"], ["nowhere", "does not exist"]),
        (["train", "data=hippocampus", "data.root=nowhere"], ["nowhere", "segment fetch data=hippocampus", "CC-BY-SA"]),
        (["train", "network._target_=no.such.Network"], ["no.such.Network", "cannot be imported"]),
        pytest.param(
            ["train", "trainer=gpu"],
            ["trainer.accelerator=gpu", "finds no GPU", "trainer=cpu"],
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        (["predict", "input=a", "output=b"], ["model", "a value is required"]),
        (["predict", "model=nowhere", "input=a", "output=b"], ["model=nowhere", "model.json"]),
        (["evaluate", "predictions=nowhere", "references=nowhere", "output=out"], ["nowhere"]),
        (["list", "netwroks"], ["Did you mean 'networks'?"]),
        (["fetch"], ["data"]),
        (["fetch", "data=demo"], ["no download URL"]),
    ],
)
def test_a_mistake_ends_with_code_2_and_one_paragraph_that_names_it(tmp_path, arguments, said):
    done = segment(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    for words in said:
        assert words in done.stderr
    assert list(tmp_path.iterdir()) == []
