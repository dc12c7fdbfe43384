"""Trainings over several devices that this process was not started for run in a process of their own.

Lightning starts the further processes of such a training with the arguments of this one, which must therefore be those
of this training alone.
"""

from __future__ import annotations

import subprocess
import sys

from segment.errors import UserError
from segment.workflow.experiment import Experiment


def started_apart(experiment: Experiment) -> bool:
    """Run an experiment that is nested in a larger command by a command of its own, where it takes several devices.

    Returns:
        Whether it was run so.

    Raises:
        UserError: When its command fails, which has said why.
        KeyboardInterrupt: When it is stopped.
    """
    if not experiment.command.nested or experiment.trainer.devices in (1, "1", [0]):
        return False
    command = [sys.executable, "-m", "segment.cli", *experiment.command.arguments]
    code = subprocess.run(command, check=False).returncode
    if code in (130, -2):
        raise KeyboardInterrupt
    if code:
        raise UserError(f"{experiment.output}: its training ended with exit code {code}, see above.")
    return True
