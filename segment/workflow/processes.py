"""The processes of a training on several devices: who started them, which one this is, and trainings of their own.

Lightning starts the other processes of such a training with the command-line arguments of the first one, which must
therefore describe this training alone. torchrun and Slurm's srun start all of them at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from segment.errors import UserError
from segment.workflow.experiment import Experiment, TrainerSettings


@dataclass(frozen=True)
class Process:
    """A process of a training.

    Attributes:
        rank: Its number over all machines; 0 claims the run folder and writes it.
        launched: Whether torchrun or srun started it and the others, rather than Lightning.
    """

    rank: int = 0
    launched: bool = False


def this_process(settings: TrainerSettings) -> Process:
    """What the environment tells of this process, before any connection to the others.

    Raises:
        UserError: When torchrun started more or fewer processes than the trainer has devices.
    """
    environment = os.environ
    devices, several = _number(settings.devices), device_count(settings) != 1
    if TorchElasticEnvironment.detect():
        count = int(environment["WORLD_SIZE"])
        if devices is not None and count != devices * settings.num_nodes:
            raise UserError(
                f"trainer.devices={devices}: torchrun started {count} processes on {settings.num_nodes} machine(s). "
                "Give trainer=ddp and trainer.devices=N, the number of processes on each machine, and "
                "+trainer.num_nodes=M on several machines."
            )
        return Process(int(environment["RANK"]), launched=True)
    # srun may also start independent trainings, on one device each.
    if several and SLURMEnvironment.detect():
        return Process(int(environment["SLURM_PROCID"]), launched=True)
    if several and "LOCAL_RANK" in environment:  # one of Lightning's children
        each = int(environment.get("WORLD_SIZE", 1)) // settings.num_nodes
        return Process(int(environment.get("NODE_RANK", 0)) * each + int(environment["LOCAL_RANK"]))
    return Process()


def device_count(settings: TrainerSettings) -> int | None:
    """Number of devices, and processes, on all machines; None where the trainer finds out."""
    each = _number(settings.devices)
    return None if each is None else each * settings.num_nodes


def _number(devices: int | str | Sequence[int]) -> int | None:
    """Number of devices on each machine; None where the trainer finds out."""
    if isinstance(devices, str):
        return int(devices) if devices.isdecimal() else None
    if isinstance(devices, int):
        return devices if devices > 0 else None
    return len(devices)


def run_separately(experiment: Experiment, process: Process) -> bool:
    """Run an experiment as a separate command if it is nested in a larger command and Lightning will start processes.

    Returns:
        Whether it was run separately.

    Raises:
        UserError: When that command fails; it has printed the reason.
        KeyboardInterrupt: When it is interrupted.
    """
    if not experiment.command.nested or process.launched or device_count(experiment.trainer) == 1:
        return False
    command = [sys.executable, "-m", "segment.cli", *experiment.command.arguments]
    code = subprocess.run(command, check=False).returncode  # noqa: S603 - what the user typed, without a shell
    if code in (130, -2):
        raise KeyboardInterrupt
    if code:
        raise UserError(f"{experiment.output}: its training failed with exit code {code}, see above.")
    return True
