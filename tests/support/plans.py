"""Plans and placements of small scans."""

from segment.io.geometry import Grid, canonical_grid
from segment.preprocessing.plan import Plan
from segment.preprocessing.prepare import Placement, transposed


def plan_of(spacing, channels: int = 1, normalization: str = "zscore", transpose=()) -> Plan:
    return Plan(tuple(spacing), (8,) * len(spacing), 1, (normalization,) * channels, transpose)


def whole(grid: Grid, plan: Plan) -> Placement:
    """The placement of a scan without a border of zeros."""
    return Placement(grid, tuple((0, size) for size in transposed(canonical_grid(grid).shape, plan)))
