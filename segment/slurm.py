"""Jobs of the Slurm scheduler that must end before they are done: the signal that says so, and another turn."""

from __future__ import annotations

import os
import signal
import subprocess


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that end a command: SIGINT, SIGTERM and, in a Slurm job that submitit does not manage, SIGUSR1."""
    scheduled = "SLURM_JOB_ID" in os.environ and "SUBMITIT_EXECUTOR" not in os.environ
    return (signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if scheduled else []))


def requeue() -> str:
    """Give this Slurm job another turn.

    Returns:
        What happened, as a sentence; nothing for every process of the job but the first.
    """
    if os.environ.get("SLURM_PROCID", "0") != "0":
        return ""
    job = os.environ.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    try:
        told = ["scontrol", "requeue", job]  # the cluster's, wherever it lies
        subprocess.run(told, check=True, capture_output=True, text=True, timeout=60)  # noqa: S603 - no shell
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip()
        return f"Slurm did not requeue job {job} ({reason}). Submit it again."
    return f"Slurm runs job {job} again."
