"""``segment monitor``: tell whether the scans that a server sees have shifted."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from segment.config.options import MonitorOptions, read_options
from segment.errors import UserError
from segment.text import table
from segment.workflow.experiment import NO_COMMAND, Command
from segment.workflow.values import require_folder, require_number

ALARM = 3
"""Exit code when an alarm stands."""
ROWS = 10


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Compare a log with a reference, write the page, print the tests; exit with code 3 when an alarm stands."""
    options = read_options(MonitorOptions, config)
    log, reference = Path(options.log), Path(options.reference)
    for key, path in (("log", log), ("reference", reference)):
        if not path.exists():
            raise UserError(f"{key}={path}: there is no such file or folder.")
    if options.last is not None:
        require_number("last", options.last, 1, whole=True)
    require_number("level", options.level, 1e-6, 0.5)
    require_number("seed", options.seed, 0, whole=True)
    if options.output is not None:
        require_folder("output", Path(options.output))
    # Here, since pandas takes a second to import.
    from segment.serving.drift_page import PAGE, write_drift
    from segment.serving.monitor import monitor

    found = monitor(log, reference, options.model, options.last, options.level, options.seed)
    rows = [
        (one.feature, f"{one.reference:.4g}", f"{one.seen:.4g}", f"{one.statistic:.3f}", f"{one.p_holm:.2g}")
        for one in found.tests[:ROWS]
    ]
    print(table(("feature", "reference", "seen", "distance", "p corrected"), rows, left=("feature",)))
    print(found.conclusion)
    for note in found.untested:
        print(note)
    if options.output is not None:
        write_drift(Path(options.output), found)
        print(f"Page    {Path(options.output) / PAGE}")
    if found.alarms:
        sys.exit(ALARM)
