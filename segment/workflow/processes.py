"""Runs nested trainings that use several devices in a separate process.

Lightning starts the other processes of such a training with the command-line arguments of the first one, which must
therefore describe this training alone.
"""

from __future__ import annotations

import subprocess
import sys

from segment.errors import UserError
from segment.workflow.experiment import Experiment


def run_separately(experiment: Experiment) -> bool:
    """Run an experiment as a separate command if it is nested in a larger command and uses several devices.

    Returns:
        Whether it was run separately.

    Raises:
        UserError: When that command fails; it has printed the reason.
        KeyboardInterrupt: When it is interrupted.
    """
    if not experiment.command.nested or experiment.trainer.devices in (1, "1", [0]):
        return False
    command = [sys.executable, "-m", "segment.cli", *experiment.command.arguments]
    code = subprocess.run(command, check=False).returncode
    if code in (130, -2):
        raise KeyboardInterrupt
    if code:
        raise UserError(f"{experiment.output}: its training failed with exit code {code}, see above.")
    return True
