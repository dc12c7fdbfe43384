"""``segment evaluate``: scores per scan for masks from any program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress

from segment.config.build import check_targets
from segment.config.metrics import metrics_of
from segment.data.labels import Labels
from segment.data.layouts.common import label_table, read_json
from segment.errors import UserError
from segment.evaluation.match import discover_labels, pair_folders
from segment.evaluation.score import score_pairs
from segment.files import read_mapping
from segment.runs.scans import write_scans
from segment.runs.summary import summarise, text_table, write_summary
from segment.workflow.experiment import NO_COMMAND, Command


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Pair two folders by file name, score them, write scans.csv and summary.json and print the table."""
    predictions, references, output = Path(config.predictions), Path(config.references), Path(config.output)
    check_targets(config)
    metrics = metrics_of(config)
    pairs = pair_folders(predictions, references, ignore_extra=config.ignore_extra)
    labels = declared_labels(config, references) or discover_labels(pairs)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("scoring", total=len(pairs))
        scans = score_pairs(
            pairs, labels, config.split, config.fold, metrics, advance=lambda case: progress.advance(task)
        )
    protocol = {
        "split": config.split,
        "fold": config.fold,
        **made_with(predictions),
        "predictions": str(predictions),
        "references": str(references),
    }
    summary = summarise(scans, protocol, metrics=[metric.info for metric in metrics])
    output.mkdir(parents=True, exist_ok=True)
    write_scans(output / "scans.csv", scans)
    write_summary(output / "summary.json", summary)
    print(text_table(summary, scans))
    print(f"Results: {output / 'scans.csv'} and {output / 'summary.json'}")


def made_with(predictions: Path) -> dict[str, Any]:
    """Overlap, test-time augmentation and precision of masks that ``segment predict`` made; else nothing."""
    file = predictions / "predictions.json"
    settings = read_mapping(file).get("predicted") if file.is_file() else None
    if not isinstance(settings, dict):
        return {}
    mirror = settings.get("mirror")
    return {
        "overlap": settings.get("overlap"),
        "test_time_augmentation": f"mirror {mirror}" if mirror else "none",
        "precision": settings.get("precision"),
    }


def declared_labels(config: DictConfig, references: Path) -> Labels | None:
    """Labels from the command line, or from a dataset.json in or beside the folder of references."""
    if config.labels is not None:
        given = OmegaConf.to_container(config.labels)
        if not isinstance(given, dict):
            raise UserError(
                f"labels={config.labels}: give names and values, e.g. 'labels={{background: 0, liver: 1}}'."
            )
        return label_table(given, "labels", config.region_order)
    for folder in (references, references.parent):
        if (folder / "dataset.json").is_file():
            content = read_json(folder / "dataset.json")
            return label_table(content.get("labels", {}), folder / "dataset.json", content.get("regions_class_order"))
    return None
