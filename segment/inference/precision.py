"""Which precision scans are predicted in."""

from __future__ import annotations

from segment.inference.model import PRECISIONS


def scoring_precision(trained: str) -> str:
    """The precision that scans are predicted in after a training in this one: mixed ones stay, all others are fp32."""
    return trained if trained in PRECISIONS else "32-true"
