"""Published figures equal those printed, each with its source; measured figures have their provenance."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from segment.config import experiments

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
STUDIES = sorted(path.name for path in EXPERIMENTS.iterdir() if path.is_dir())
FIGURES = Path(__file__).parents[2].parent / "shared" / "PUBLISHED.md"
PUBLISHED = [
    "run", "method", "data", "split", "metric", "label", "fold", "value", "spread", "scale", "overlap",
    "test_time_augmentation", "source", "sure",
]  # fmt: skip
MEASURED = [
    "run", "fold", "metric", "label", "value", "sd", "ci95_low", "ci95_high", "scans", "seed", "steps", "hours",
    "hardware", "versions", "commit", "date", "reduced", "provenance",
]  # fmt: skip
# Metrics of results, and what is said of a method itself.
RESULTS = {"dice", "iou", "hausdorff_mm", "warping_error", "rand_error"}
COSTS = {"memory_gb", "hours", "parameters_millions"}
every_study = pytest.mark.parametrize("study", STUDIES)
# Which study has the figures of which row of the table of single studies.
ROWS = {
    "MONAI bundle UNet": "spleen",
    "MONAI spleen notebook": "spleen",
    "Auto3DSeg": "spleen",
    "SegResNet BraTS18": "segresnet_brats18",
    "SwinUNETR BTCV": "swinunetr_btcv",
    "SwinUNETR BraTS21": "swinunetr_brats21",
    "U-Net (": "unet2015",
    "3D U-Net": "unet3d2016",
    "V-Net": "vnet2016",
    "Attention U-Net": "attention_unet2018",
    "UNet++": "unetpp2018",
    "MedNeXt": "nnunet_revisited",
}
# The paragraph under it: papers' claims and what users reach, in the order it names them.
GAP = ("swinunetr_btcv", "unetr_btcv", "swinunetr_btcv", "swinunetr_btcv", "unetr_btcv")


def rows(study: str, file: str) -> list[dict[str, str]]:
    with (EXPERIMENTS / study / file).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def columns(study: str, file: str) -> list[str]:
    with (EXPERIMENTS / study / file).open(encoding="utf-8", newline="") as stream:
        return next(csv.reader(stream))


def runs(study: str) -> dict[str, list[Path]]:
    return experiments.runs(EXPERIMENTS / study)


@every_study
def test_every_published_figure_has_a_source_a_scale_and_a_run_or_a_method(study):
    assert columns(study, "published.csv") == PUBLISHED
    data = {path.stem for path in (EXPERIMENTS.parent / "conf" / "data").glob("*.yaml")}
    for row in rows(study, "published.csv"):
        assert row["method"]
        assert row["source"]
        assert row["split"] or row["metric"] == "parameters_millions"
        assert row["run"] in {*runs(study), ""}
        assert row["sure"] in ("read", "secondary")
        assert row["fold"] in ("", "0", "1", "2", "3", "4")
        assert row["metric"] in RESULTS | COSTS
        assert float(row["value"]) > 0
        assert not row["spread"] or float(row["spread"]) > 0
        assert row["scale"] in ("1", "100")
        if row["metric"] in ("dice", "iou"):
            assert 0 < float(row["value"]) / int(row["scale"]) < 1
        if row["metric"] in RESULTS:
            assert row["data"] in data
            assert row["label"]
            assert row["overlap"]
            assert row["test_time_augmentation"]
    keys = [
        tuple(row[key] for key in PUBLISHED if key not in ("value", "spread")) for row in rows(study, "published.csv")
    ]
    twice = {key for key, count in Counter(keys).items() if count > 1 and "reproduced by users" not in key[1]}
    assert not twice


@every_study
def test_a_published_figure_of_a_run_is_of_its_data_set(study):
    for row in rows(study, "published.csv"):
        if row["run"]:
            text = "".join(file.read_text(encoding="utf-8") for file in runs(study)[row["run"]])
            parts = (EXPERIMENTS / study / "parts").glob("*.yaml")
            parts = "".join(part.read_text(encoding="utf-8") for part in parts)
            if study == "unetr_btcv":  # trained with the parts of the other one
                parts = (EXPERIMENTS / "swinunetr_btcv" / "parts" / "training.yaml").read_text(encoding="utf-8")
            own = re.search(r"override /data: (\w+)", text) or re.search(r"override /data: (\w+)", parts)
            assert own
            assert own[1] == row["data"]


@every_study
def test_every_measured_figure_has_its_provenance(study):
    assert columns(study, "measured.csv") == MEASURED
    for row in rows(study, "measured.csv"):
        assert row["run"] in runs(study)
        provenance = EXPERIMENTS / study / row["provenance"]
        assert provenance.resolve().is_relative_to((EXPERIMENTS / study).resolve())
        record = json.loads(provenance.read_text(encoding="utf-8"))
        parts = record.get("runs", [record])  # of several folds together
        assert len(parts) == {"all": 5}.get(row["fold"], len(row["fold"].split("+")))
        for part in parts:
            assert (part["seed"], part["steps"]) == (int(row["seed"]), int(row["steps"]))
            assert part["code"]["commit"] in row["commit"].split(" / ")
            assert not part["code"]["uncommitted_changes"]
        assert max(part["started"] for part in parts).startswith(row["date"])
        # A resumed run records the time of its last session only.
        assert float(row["hours"]) > sum(part["wall_seconds"] for part in parts) / 3600 - 1e-3
        summary = json.loads((provenance.parent / "summary.json").read_text(encoding="utf-8"))
        assert str(summary["protocol"]["fold"]) == row["fold"]
        of = summary["foreground"] if row["label"] == "foreground" else summary["labels"][row["label"]]
        found = of[row["metric"]]
        assert [found["mean"], found["sd"], *found["ci95"], found["n"]] == [
            float(row[key]) for key in ("value", "sd", "ci95_low", "ci95_high", "scans")
        ]
        assert not re.search(r"[\"=](/|[A-Z]:\\)", provenance.read_text(encoding="utf-8")), "a machine's path"


@pytest.fixture(scope="module")
def figures() -> dict[str, str]:
    """The sections of the list of published figures by their letter."""
    if not FIGURES.is_file():
        pytest.skip(f"{FIGURES.name} does not lie in {FIGURES.parent.name} beside the repository")
    parts = re.split(r"^## ", FIGURES.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {part[0]: part for part in parts[1:] if part[1] == "."}


def table(section: str) -> Iterator[list[str]]:
    """Cells of the rows under the head of a section's table."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_the_figures_of_the_hippocampus_are_those_printed(figures):
    wanted = Counter()
    for label, *cells in table(figures["A"]):
        keys = [*(("dynunet", str(fold)) for fold in range(5)), ("dynunet", ""), ("nnunet", "")]
        wanted.update((*key, label.capitalize(), value) for key, value in zip(keys, cells, strict=True))
        # Our own is set beside what DynUNet came to.
        wanted.update(
            ("two_cores_long", *key[1:], label.capitalize(), value)
            for key, value in zip(keys[:6], cells[:6], strict=True)
        )
    found = Counter(
        (row["run"], row["fold"], row["label"], row["value"]) for row in rows("hippocampus", "published.csv")
    )
    assert found == wanted
    assert len(wanted) == 14 + 12


def test_the_figures_of_nnunet_revisited_are_those_printed(figures):
    wanted = Counter()
    for names, *cells in table(figures["B"]):
        first, *others = names.split(" / ")
        methods = [first, *(f"{first.rpartition(' ')[0]} {other}" for other in others)]
        heads = ["btcv", "acdc", "lits", "brats2021", "kits", "amos", "memory_gb", "hours"]
        for head, cell in zip(heads, cells, strict=True):
            wanted.update((method, head, value) for method, value in zip(methods, cell.split(" / "), strict=True))
    found = Counter(
        (row["method"], row["data"] or row["metric"], row["value"])
        for row in rows("nnunet_revisited", "published.csv")
        if row["metric"] != "parameters_millions"
    )
    assert found == wanted
    assert len(wanted) == 18 * 8


def test_the_figures_of_the_other_studies_are_those_printed(figures):
    wanted: dict[str, Counter] = {}
    for cells in table(figures["D"]):
        study = next(study for title, study in ROWS.items() if cells[0].startswith(title))
        text = re.sub(r"\((overlap )?\.\d\)", "", " ".join(cells))  # overlaps of windows
        wanted.setdefault(study, Counter()).update(decimals(text))
    gap = figures["D"].partition("Known gap")[2]
    for study, value in zip(GAP, decimals(gap), strict=True):
        wanted.setdefault(study, Counter())[value] += 1
    found = {
        study: Counter(
            row[key]
            for row in rows(study, "published.csv")
            for key in ("value", "spread")
            if row[key] and (study != "nnunet_revisited" or row["metric"] == "parameters_millions")
        )
        for study in STUDIES
        # Another table; nothing published; quoted by other papers only, which its README names.
        if study not in ("hippocampus", "isbi2012_em", "r2unet2018")
    }
    assert found == wanted


def decimals(text: str) -> list[str]:
    """Numbers with a decimal point, as they are printed."""
    return re.findall(r"(?<![\w.])\d*\.\d+", text)
