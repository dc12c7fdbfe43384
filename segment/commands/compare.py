"""``segment compare``: finished runs, compared scan by scan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from segment.errors import UserError, did_you_mean
from segment.evaluation.comparison.compare import compare
from segment.evaluation.comparison.methods import read_methods
from segment.evaluation.comparison.tables import as_json, latex_table, markdown_report, pairs_csv, text_report
from segment.files import write_json, write_text
from segment.workflow.experiment import NO_COMMAND, Command

MOST_RESAMPLES = 1_000_000


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Read the runs, compare them, print the comparison and write it where output names a folder."""
    _check(config)
    methods = read_methods(
        _texts(config, "runs") or [], config.metric, config.by, _texts(config, "names"), bool(config.common)
    )
    comparison = compare(methods, config.level, config.resamples, config.seed)
    content = as_json(comparison)
    if config.output is not None:
        folder = Path(config.output)
        write_text(folder / "comparison.csv", pairs_csv(comparison))
        write_text(folder / "comparison.md", markdown_report(comparison))
        write_text(folder / "comparison.tex", latex_table(comparison))
        write_json(folder / "comparison.json", content)
        # Plots and pictures take their time to import, and a comparison that is only printed needs none.
        from segment.report.comparison_page import write_comparison_page

        write_comparison_page(folder / "report.html", comparison, config.resamples, config.seed)
    if config.format == "json":
        print(json.dumps(content, indent=2, allow_nan=False))
    else:
        print(text_report(comparison), end="")
        if config.output is not None:
            print(f"Report: {folder / 'report.html'}; tables: comparison.md, .tex, .csv and .json beside it")


def _check(config: DictConfig) -> None:
    """Refuse values that cannot be meant, before anything is read."""
    if config.format not in ("text", "json"):
        raise UserError(
            f"format={config.format}: there is no such format.{did_you_mean(str(config.format), ('text', 'json'))} "
            "There are: text, json."
        )
    if not _is(config.level, float) or not 0.5 <= config.level < 1:
        raise UserError(f"level={config.level}: give a number from 0.5 to below 1, such as 0.95.")
    if not _is(config.resamples, int) or not 100 <= config.resamples <= MOST_RESAMPLES:
        raise UserError(f"resamples={config.resamples}: give a whole number from 100 to {MOST_RESAMPLES}.")
    if not _is(config.seed, int) or config.seed < 0:
        raise UserError(f"seed={config.seed}: give a whole number from 0.")
    if not _is(config.common, bool):
        raise UserError(f"common={config.common}: give true or false.")
    if not isinstance(config.metric, str):
        raise UserError(f"metric={config.metric}: give the name of a column of scans.csv, such as dice.")
    if config.output is not None and Path(config.output).exists() and not Path(config.output).is_dir():
        raise UserError(f"output={config.output}: is a file. Name a folder for the tables.")


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _texts(config: DictConfig, key: str) -> Sequence[str] | None:
    """One text or a list of texts, as a list."""
    value = config[key]
    given = OmegaConf.to_container(value) if OmegaConf.is_config(value) else [value]
    if value is None:
        return None
    if not isinstance(given, list) or not all(isinstance(item, str | int | float) for item in given):
        raise UserError(f"{key}={value}: give a list, {key}=[A,B].")
    return [str(item) for item in given]
