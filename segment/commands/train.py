"""``segment train``: one run, or every fold of one."""

from segment.workflow.train import run

__all__ = ["run"]
