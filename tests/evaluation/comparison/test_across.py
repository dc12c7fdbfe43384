"""Methods compared over several data sets."""

import json

import numpy as np
import pytest
from finished_runs import scan_names, scores_like_dice, write_run

from segment.command_line import override
from segment.commands import compare
from segment.config.compose import compose
from segment.errors import UserError

NETWORKS = ("unet", "mednext", "vnet")


def compared(*overrides: str) -> None:
    compare.run(compose("compare", [override(word) for word in overrides]))


def write_datasets(root, networks=NETWORKS, datasets=8, noise=0.002):
    """Runs of every network on every data set; mednext is the best on all of them."""
    for number in range(datasets):
        for place, network in enumerate(networks):
            effect = 0.05 if network == "mednext" else 0.01 * (place if number % 2 else -place)
            scores = scores_like_dice(4, 2, 100 * number + place, effect, noise)
            config = {"network": {"_target_": f"nets.{network}"}, "data": {"name": f"organ{number}", "root": "x"}}
            cases = scan_names(4, 10 * number)
            write_run(root / f"organ{number}-{network}", scores, config, cases=cases)
    return f"runs={root}/*"


def test_methods_are_ranked_on_every_data_set(tmp_path, capsys):
    runs, output = write_datasets(tmp_path / "runs"), tmp_path / "across"
    compared(runs, "by=dataset", f"output={output}", "resamples=100")
    text = capsys.readouterr().out
    found = json.loads((output / "comparison.json").read_text())
    assert found["methods"][0]["name"] == "mednext"
    assert found["methods"][0]["mean_rank"] == 1
    assert found["p"] < 0.01
    assert "mednext ranks significantly before" in found["conclusion"]
    assert found["conclusion"] in text
    assert "With fewer than 10 data sets" in text
    expected = np.mean(scores_like_dice(4, 2, 301, 0.05, 0.002))
    assert found["methods"][0]["scores"][3] == pytest.approx(expected)
    page = (output / "report.html").read_text()
    assert "critical difference" in page
    assert (output / "organ3" / "report.html").is_file()
    assert len((output / "comparison.csv").read_text().splitlines()) == 1 + 3 * 8


def test_two_methods_are_compared_by_wilcoxons_test_over_data_sets(tmp_path, capsys):
    compared(write_datasets(tmp_path, NETWORKS[:2], 6), "by=dataset", "format=json")
    found = json.loads(capsys.readouterr().out)
    assert (found["test"], found["critical_difference"]) == ("wilcoxon", None)
    assert found["p"] == pytest.approx(2 / 2**6)


def test_runs_that_cannot_be_compared_over_data_sets_are_refused(tmp_path):
    runs = write_datasets(tmp_path / "one", NETWORKS, 1)
    with pytest.raises(UserError, match="all runs belong to the data set organ0"):
        compared(runs, "by=dataset")
    runs = write_datasets(tmp_path / "more", NETWORKS, 2)
    with pytest.raises(UserError, match="Omit names"):
        compared(runs, "by=dataset", "names=[a,b,c]")
    for file in (tmp_path / "more" / "organ1-vnet").iterdir():
        file.unlink()
    (tmp_path / "more" / "organ1-vnet").rmdir()
    with pytest.raises(UserError, match="methods of organ0 are mednext, unet, vnet, those of organ1 are mednext, unet"):
        compared(runs, "by=dataset")
