"""``segment promote``: write the card of a new model, unless it is worse than the current one."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from segment.config.options import PromoteOptions, read_options
from segment.errors import UserError
from segment.inference.limits import find_model
from segment.workflow.experiment import NO_COMMAND, Command
from segment.workflow.values import require_number


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Compare the new model with the current one on the frozen test scans, and write MODEL_CARD.md beside it."""
    options = read_options(PromoteOptions, config)
    for key in ("model", "current"):
        path = getattr(options, key)
        if path is not None and not (Path(path) / "summary.json").is_file():
            raise UserError(f"{key}={path}: has no summary.json. Give the folder of a finished run.")
    find_model(Path(options.model))
    if options.margin is not None:
        require_number("margin", options.margin, 1e-9)
    require_number("level", options.level, 0.5, 0.9999)
    # Here, since pandas takes a second to import.
    from segment.serving.promote import Rule, promote

    rule = Rule(options.metric, options.margin, options.split, options.level)
    current = None if options.current is None else Path(options.current)
    found = promote(Path(options.model), current, rule, options.use or "")
    if found.sentence:
        print(found.sentence)
    print(f"Card    {found.card}")
