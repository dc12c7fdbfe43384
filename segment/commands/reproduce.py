"""``segment reproduce``: a published study, run here and set beside its published figures."""

from segment.studies.reproduce import run

__all__ = ["run"]
