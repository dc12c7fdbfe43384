"""Values of a training that work as a user expects, and networks that are refused before they are trained."""

import sys
from pathlib import Path

import pytest

from segment import cli
from segment.config.compose import compose_command
from segment.config.experiment import checked

pytestmark = pytest.mark.usefixtures("without_pages")

NETWORK = """
import torch
class Net(torch.nn.Module):
    def __init__(self, spatial_dims, in_channels, out_channels, wrong=""):
        super().__init__()
        self.wrong = wrong
        self.layer = torch.nn.Conv3d(in_channels, 7 if wrong == "outputs" else out_channels, 3, padding=1)
    def forward(self, image):
        logits = self.layer(image)
        return torch.nn.functional.avg_pool3d(logits, 2) if self.wrong == "size" else logits
"""


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ((), 1000),
        (("trainer.max_epochs=10",), 500),
        (("trainer.max_epochs=100",), 1000),
        (("trainer.max_epochs=2", "trainer.max_steps=-1"), 100),
        (("trainer.max_epochs=2", "trainer.max_steps=-1", "trainer.accumulate_grad_batches=5"), 20),
        (("trainer.max_steps=-1", "trainer.max_time=00:01:00:00"), -1),
    ],
)
def test_schedules_count_the_steps_that_are_trained(given, steps):
    assert checked(*compose_command("train", given)).trainer.max_steps == steps


def test_no_logger_and_no_schedule_are_a_training_like_any_other(segment, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    assert segment("train", root, "output=run", "logger=null", "scheduler=null", "augment=null", "metrics=null") == 0
    assert (tmp_path / "run" / "report.html").is_file()
    assert segment("train", root, "output=run", "logger=null", "scheduler=constant", "augment=none") == 0  # finished


@pytest.mark.parametrize(("wrong", "said"), [("outputs", "returns 7 channels"), ("size", "returns 4x8x8 voxels")])
def test_a_network_of_ones_own_that_does_not_fit_is_told_before_training(
    make_dataset, tmp_path, capsys, monkeypatch, wrong, said
):
    (tmp_path / "own_net_of_the_values_test.py").write_text(NETWORK)
    own = tmp_path / "conf" / "network" / "own.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(f"_target_: own_net_of_the_values_test.Net\n_partial_: true\nwrong: {wrong}\n")
    root = make_dataset(tmp_path / "data", n=4)
    monkeypatch.chdir(tmp_path)
    given = ["data=auto", f"data.root={root}", "network=own", "plan.patch_size=[8,16,16]", "trainer.precision=32-true"]
    monkeypatch.setattr(sys, "argv", ["segment", "train", *given, f"cache={tmp_path / 'cache'}", "output=run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("segment: network: Net ")
    assert said in told
    assert not Path("run").exists()
