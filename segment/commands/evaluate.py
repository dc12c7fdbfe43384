"""``segment evaluate``: score masks from any program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from segment.config.build import check_targets
from segment.config.metrics import metrics_of
from segment.config.options import EvaluateOptions, read_options, texts
from segment.errors import UserError
from segment.inference.inputs import find_series
from segment.runs.predictions import predictions_record
from segment.workflow.convert import masks_of_annotations
from segment.workflow.experiment import NO_COMMAND, Command
from segment.workflow.values import require_folder


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Pair two folders by file name, score them, write the results and their page, and print the table."""
    options = read_options(EvaluateOptions, config)
    check_targets(config)
    metrics = metrics_of(config)
    references = [Path(path) for path in texts("references", options.references) or []]
    for key, path in (("predictions", Path(options.predictions)), *(("references", path) for path in references)):
        if not path.exists():
            raise UserError(f"{key}={path}: there is no such file or folder.")
    if not references:
        raise UserError("references=[]: give the folder of the reference masks.")
    require_folder("output", Path(options.output))
    labels = options.labels
    if labels is not None and not isinstance(labels, dict):
        raise UserError(f"labels={labels}: give names and values, such as 'labels={{background: 0, liver: 1}}'.")
    output = Path(options.output)
    predictions, references, labels = _without_dicom(Path(options.predictions), references, labels, output)
    # Here, since pandas takes a second to import.
    from segment.evaluation.evaluate import evaluate, evaluate_raters, write_evaluation
    from segment.evaluation.journal import FILE as JOURNAL
    from segment.evaluation.raters import KEY as RATERS
    from segment.evaluation.raters import rater_text
    from segment.report.run_page import write_evaluation_page
    from segment.runs.subgroups import KEY as SUBGROUPS
    from segment.runs.subgroups import subgroup_text
    from segment.runs.summary import text_table

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("scoring", total=None)
        given: dict[str, Any] = {
            "labels": labels,
            "region_order": options.region_order,
            "split": options.split,
            "fold": options.fold,
            "ignore_extra": options.ignore_extra,
            "metrics": metrics,
            "progress": lambda done, total: progress.update(task, completed=done, total=total),
            "command": command.arguments,
            "tolerance": options.tolerance,
            "by": options.by,
            "table": None if options.table is None else Path(options.table),
            "kept": output / JOURNAL,
        }
        if len(references) > 1:
            found = evaluate_raters(predictions, references, output, options.consensus, **given)
        else:
            found = evaluate(predictions, references[0], **given)
    write_evaluation(output, found)
    write_evaluation_page(output)
    print(text_table(found.summary, found.scans))
    if found.summary.get(SUBGROUPS):
        print(subgroup_text(found.summary))
    if found.raters is not None:
        print(rater_text(found.summary[RATERS], [metric.info for metric in metrics]))
    print(f"Report   {output / 'report.html'}\nResults  {output / 'scans.csv'} and {output / 'summary.json'}")


def _without_dicom(
    predictions: Path, references: list[Path], labels: dict[str, Any] | None, output: Path
) -> tuple[Path, list[Path], dict[str, Any] | None]:
    """The folders of masks and the labels, with DICOM annotations made into masks in the folder of the results."""
    named = labels or predictions_record({predictions}).get("labels")
    predictions = masks_of_annotations(predictions, output / "predictions", named, references[0])
    if not any(find_series(path) for path in references):
        return predictions, references, labels
    folders = [output / "references" / path.absolute().name for path in references]
    pairs = zip(references, folders, strict=True)
    return predictions, [masks_of_annotations(path, folder, named) for path, folder in pairs], named
