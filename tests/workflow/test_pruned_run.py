"""A finished run whose network is pruned, trained on, killed, resumed, and exported."""

import json
import shutil

import pytest
import torch

from segment.errors import UserError
from segment.inference.model import load_model
from segment.networks.channels import channel_counts
from segment.networks.padding import count_parameters
from segment.runs.folder import read_run
from segment.training.checkpoints import network_weights


@pytest.mark.usefixtures("without_pages")
def test_pruned_run_is_trained_scored_and_resumed_like_every_run(run_train, tested_folds, tmp_path, capsys):
    data, source = tested_folds / "data", tested_folds / "cv-fold0"
    given = ["plan.patch_size=[16,16]", "folds=2", "network.encoder.features=[4,8]", f"weights={source}", "prune=0.5"]
    with pytest.raises(UserError, match=r"prune=0.5: prunes a trained network\. Give weights=RUN"):
        run_train(data, "none", *given[:3], "prune=0.5")
    with pytest.raises(UserError, match=r"prune=1.5: give the share of channels"):
        run_train(data, "none", *given[:4], "prune=1.5")
    run = run_train(data, "pruned", *given)
    assert "Pruned: " in capsys.readouterr().out
    model, before = load_model(run), load_model(source)
    assert count_parameters(model.network) < 0.9 * count_parameters(before.network)
    assert read_run(run).summary["foreground"]["dice"]["n"] == 2
    assert channel_counts(model.network) == json.loads((run / "weights.json").read_text())["channels"]

    # Killed after its training, before anything was scored: the same weights are read into the smaller network.
    again = tmp_path / "runs" / "again"
    shutil.copytree(run, again)
    for left in ("report.html", "summary.json", "scans.csv", "provenance.json"):
        (again / left).unlink()
    shutil.rmtree(again / "model")
    config = (again / "config.yaml").read_text()
    (again / "config.yaml").write_text(config.replace("/runs/pruned", "/runs/again").replace("pruned", "again"))
    run_train(data, "again", *given)
    last = network_weights(again / "checkpoints" / "last.ckpt")
    assert all(torch.equal(value, load_model(again).network.state_dict()[key]) for key, value in last.items())
