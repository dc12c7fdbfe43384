"""A metric of one's own: one Python file and one YAML make it a column, a row, curves, a part of the page, a choice."""

import json
import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from segment import cli
from segment.runs.curves import read_curves
from segment.runs.scans import read_scans

CODE = '''
import numpy as np
from segment.metrics.metric import DIAGONAL, Metric

class Found(Metric):
    """Share of the reference that was found, to a power."""
    name, title = "found", "Found"

    def __init__(self, power=1):
        self.power = power

    def compute(self, prediction, reference, spacing):
        return ((prediction & reference).sum() / reference.sum()) ** self.power

class Again(Found):
    name = "again"

class Centres(Metric):
    """Distance of the centres; its name does not imply that smaller is better."""
    name, title, unit = "centres", "Centres apart", "mm"
    higher_is_better, perfect, penalty, needs_spacing = False, 0.0, DIAGONAL, True

    def compute(self, prediction, reference, spacing):
        centres = [np.argwhere(mask).mean(axis=0) * spacing for mask in (prediction, reference)]
        return np.linalg.norm(centres[0] - centres[1])
'''
SHAPE, SPACING = (12, 16, 14), (2.0, 1.0, 1.5)
DIAGONAL = np.linalg.norm(np.multiply(SHAPE, SPACING))
TRAIN = (
    "data=auto", "network=unet_small", "network.encoder.features=[4,8]", "optimizer.lr=0.01", "trainer.max_steps=16",
    "sampler.steps_per_epoch=8", "trainer.check_val_every_n_epoch=1", "trainer.precision=32-true",
    "plan.patch_size=[8,16,16]", "inference.mirror=[]", "metrics=[found,centres,hd95]",
)  # fmt: skip


@pytest.fixture
def command(tmp_path, monkeypatch):
    """``command("train", "key=value", ...) -> exit code``, beside a module and a conf/ with two metrics."""
    (tmp_path / "my_metrics.py").write_text(CODE)
    (tmp_path / "conf" / "metrics").mkdir(parents=True)
    (tmp_path / "conf" / "metrics" / "found.yaml").write_text("found: {_target_: my_metrics.Found, power: 2}\n")
    (tmp_path / "conf" / "metrics" / "centres.yaml").write_text("centres: {_target_: my_metrics.Centres}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_metrics", raising=False)

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["segment", *words])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    yield run
    sys.modules.pop("my_metrics", None)


def test_custom_metric_appears_everywhere_the_built_in_ones_do(command, make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", n=6, shape=SHAPE, spacing=SPACING)
    for name, seed in (("first", 0), ("second", 1)):
        given = (f"data.root={root}", f"cache={tmp_path / 'cache'}", f"name={name}", f"seed={seed}")
        assert command("train", *TRAIN, *given) == 0
    run = tmp_path / "runs" / "first"
    printed = capsys.readouterr().out

    # A column of the table of scans, after those that every table has; a missing structure costs the diagonal.
    scans = pd.read_csv(run / "scans.csv")
    assert list(scans.columns[9:]) == ["status", "reference_ml", "predicted_ml", "found", "centres", "hd95_mm"]
    for row in scans.itertuples():
        expected = by_hand(run / "predictions" / f"{row.case}.nii.gz", root / "labelsTr" / f"{row.case}.nii.gz", row)
        assert (row.found, row.centres) == pytest.approx(expected)
    assert {"ok"} <= set(scans["status"])  # else nothing but the penalty was seen

    # A row of the summary, which says how its numbers read.
    summary = json.loads((run / "summary.json").read_text())
    for metric in ("found", "centres"):
        mean = scans.groupby("name")[metric].mean().mean()
        assert summary["foreground"][metric]["mean"] == pytest.approx(mean)
        assert f"{mean:.4f}" in printed
        assert summary["labels"]["ball_1"][metric]["n"] == len(scans) // 2
    assert summary["metrics"]["centres"] == {
        "title": "Centres apart", "unit": "mm", "higher_is_better": False, "perfect": 0, "penalty": "diagonal"
    }  # fmt: skip
    rows = [line.split()[0] for line in printed.splitlines() if re.search(r" ball_1 +\d", line)]
    assert rows[:4] == ["Dice", "IoU", "Found", "Centres"]
    assert "invented (scored 0, Centres apart (mm) the diagonal of the scan, HD95" in printed

    drawn_in_tensorboard(run, scans["case"].iloc[0], summary)
    shown_on_the_page(run)

    # A run that is there is the same run with other metrics; its masks are scored by those that it lacks.
    again = (
        f"data.root={root}",
        f"cache={tmp_path / 'cache'}",
        "name=first",
        "+metrics.again._target_=my_metrics.Again",
    )
    assert command("train", *TRAIN, *again) == 0
    assert "is finished" in (text := capsys.readouterr().out)
    assert "its masks were scored by again too." in text
    assert read_scans(run / "scans.csv")["again"].notna().any()

    # A choice of the comparison, which knows which way round it reads though it does not import it.
    (tmp_path / "my_metrics.py").unlink()
    sys.modules.pop("my_metrics", None)
    means = {
        name: json.loads((tmp_path / "runs" / name / "summary.json").read_text())["foreground"]
        for name in ("first", "second")
    }
    for metric, best, heading in (("found", max, "Found"), ("centres", min, r"Centres apart \(mm\)")):
        assert command("compare", "runs=[runs/first,runs/second]", f"metric={metric}", "names=[first,second]") == 0
        text = capsys.readouterr().out
        leader = best(means, key=lambda name: means[name][metric]["mean"])
        assert re.search(rf"foreground {heading}", text)
        assert re.search(rf"^ +1  {leader} +{means[leader][metric]['mean']:.4f}", text, re.M)
    assert command("compare", "runs=[runs/first,runs/second]", "metric=[dice,centres]", "names=[first,second]") == 0
    assert capsys.readouterr().out.count("Holm over 2 comparisons by Dice and Centres apart (mm)") == 2


def drawn_in_tensorboard(run: Path, case: str, summary: dict) -> None:
    """Curves over training, and the final scores."""
    tags = [f"{tag}_{metric}" for metric in ("found", "centres") for tag in (
        "val/foreground", "val/ball_1", f"scan/{case}/ball_1"
    )]  # fmt: skip
    drawn = read_curves(run / "tensorboard", tags)
    assert list(drawn) == tags
    assert list(drawn["val/foreground_centres"].index) == [8, 16]
    # Distances between surfaces are left to the final scoring.
    (last,) = read_curves(run / "tensorboard", ["val/foreground_hd95_mm"]).values()
    assert last.to_dict() == {16: pytest.approx(summary["foreground"]["hd95_mm"]["mean"])}
    # The curve ends with the number of the table.
    assert drawn["val/foreground_centres"].iloc[-1] == pytest.approx(summary["foreground"]["centres"]["mean"])


def shown_on_the_page(run: Path) -> None:
    """Columns, spread and curves."""
    page = (run / "report.html").read_text()
    scans = read_scans(run / "scans.csv")
    for name, heading, worst in (("found", "Found", min), ("centres", "Centres apart (mm)", max)):
        score = worst(scans.groupby("case")[name].mean())
        assert re.search(rf"<td>{re.escape(heading)}</td><td[^>]*>[^<]+ \({score:.4f}\)</td>", page)
        assert f'<th class="n">{heading}</th>' in page
        assert f'<th class="n">foreground {heading}</th>' in page
        assert f"{heading} of every scan, by label" in page
        assert f"validation {heading} over training steps" in page
    assert "HD95 (mm) of every scan, by label" in page
    assert "validation HD95 (mm) over" not in page


def by_hand(prediction: Path, reference: Path, row) -> tuple[float, float]:
    """Both scores of one structure, from the files, in their own axes x, y, z."""
    masks = [np.asarray(nib.load(file).dataobj) == row.label for file in (prediction, reference)]
    if not masks[0].any() or not masks[1].any():
        return 0.0, DIAGONAL
    centres = [np.argwhere(mask).mean(axis=0) * SPACING[::-1] for mask in masks]
    return ((masks[0] & masks[1]).sum() / masks[1].sum()) ** 2, np.linalg.norm(centres[0] - centres[1])


def test_evaluate_uses_custom_metrics_and_reports_invalid_ones_first(command, tmp_path, capsys):
    for folder, shift in (("masks", 1), ("references", 0)):
        mask = np.zeros((6, 6, 6), np.uint8)
        mask[1 + shift : 3 + shift, 2:4, 2:4] = 1
        (tmp_path / folder).mkdir()
        nib.save(nib.Nifti1Image(mask, np.diag([3.0, 1, 1, 1])), tmp_path / folder / "a.nii.gz")
    folders = ("predictions=masks", "references=references", "output=scores")
    assert command("evaluate", *folders, "metrics=centres") == 0
    assert pd.read_csv("scores/scans.csv")["centres"].tolist() == [3.0]
    # The other way round it would rank the worst first.
    text = CODE.replace(
        "higher_is_better, perfect, penalty, needs_spacing = False, 0.0", "a, perfect, penalty, b = 0, 0.0"
    )
    (tmp_path / "my_metrics.py").write_text(text)
    sys.modules.pop("my_metrics")
    assert command("evaluate", "predictions=nowhere", "references=nowhere", "output=other", "metrics=centres") == 2
    assert "metrics.centres: centres: penalty = 'diagonal' is only for distances" in capsys.readouterr().err
