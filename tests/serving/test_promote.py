"""The verb promote: refused unless the new model is shown to be as good within the margin; the card of a run."""

import shutil

import pytest
from finished_runs import scores_like_dice, write_run
from served_models import OLD

from segment.commands import promote
from segment.config.compose import compose
from segment.errors import UserError


def run(*words):
    promote.run(compose("promote", list(words)))


@pytest.fixture
def runs(tmp_path):
    """Writes a finished run with test scans and a model."""

    def write(name, effect=0.0, scans=40, noise=0.005, seed=1, sha256="same"):
        scores = scores_like_dice(scans, 2, seed, effect, noise)
        folder = write_run(tmp_path / name, scores, {"optimizer": {"lr": seed}}, seed=seed, split="test", sha256=sha256)
        shutil.copytree(OLD / "seed0" / "model", folder / "model")
        provenance = folder / "provenance.json"
        provenance.write_text(provenance.read_text().replace('"cases"', '"test_cases"'))
        return folder

    return write


def test_a_model_is_promoted_if_it_is_as_good_within_the_margin_and_refused_otherwise(runs, tmp_path, capsys):
    current = runs("current", seed=1)
    for name, effect, promoted in (("better", 0.01, True), ("same", 0.0, True), ("worse", -0.02, False)):
        new = runs(name, effect, seed=2)
        words = (f"model={new}", f"current={current}", "margin=0.01", "use='Measuring the hippocampus.'")
        if promoted:
            run(*words)
            assert "dice of 40 test scans is" in capsys.readouterr().out
            card = (new / "MODEL_CARD.md").read_text()
            assert "Measuring the hippocampus." in card
            assert "In place of the model before: dice of 40 test scans" in card
        else:
            with pytest.raises(UserError, match=r"not promoted: dice of 40 .*worse by more than that"):
                run(*words)
            assert not (new / "MODEL_CARD.md").exists()
    uncertain = runs("uncertain", 0.01, noise=0.05, seed=5)
    with pytest.raises(UserError, match="the 40 scans do not show that it is not"):
        run(f"model={uncertain}", f"current={current}")


def test_runs_that_were_not_scored_on_the_same_references_are_refused(runs):
    current = runs("current")
    others = (runs("fewer", scans=30, seed=2), runs("changed", seed=3, sha256="other"))
    for new in others:
        with pytest.raises(UserError, match=r"not scored on the same scans|have different SHA-256 hashes"):
            run(f"model={new}", f"current={current}")
        assert not (new / "MODEL_CARD.md").exists()
    with pytest.raises(UserError, match="is the new model itself"):
        run(f"model={current}", f"current={current}")
    with pytest.raises(UserError, match=r"no summary\.json"):
        run(f"model={current.parent}")


def test_the_card_tells_data_plan_scores_failures_cost_and_licence(tmp_path):
    shutil.copytree(OLD / "seed0", tmp_path / "run")
    run(f"model={tmp_path / 'run'}")
    card = (tmp_path / "run" / "MODEL_CARD.md").read_text()
    for part in (
        "# Model card: run",
        "Data set scans: 2 train, 3 val.",
        "Labels: background, shell, core.",
        "| patch_size | [8, 8, 8] |",
        "| foreground | 0.8104 (0.7959 - 0.8239), n 3 |",
        "| core | 3 | 0 | 0 | 0 | 0.798 |",
        "Data: CC0",
        "commit db99af0",
        "Intel(R) Xeon(R) Processor",
        "it is no medical device",
    ):
        assert part in card, card
    assert "case_" not in card
