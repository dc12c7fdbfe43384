"""The table of file formats."""

import re
from pathlib import Path

import numpy as np
import pytest

from segment.io.formats import format_of, suffixes

PAGE = (Path(__file__).parents[2] / "docs/reference/formats.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]
TABLE = {end: row for row in ROWS for end in re.findall(r"`([^`]+)`", row[0])}


def test_the_table_has_every_built_in_format():
    assert set(TABLE) == {end for end in suffixes() if type(format_of(f"a{end}")).__module__.startswith("segment.")}


@pytest.mark.parametrize("end", TABLE)
def test_the_table_says_how_masks_are_written(end):
    image_format = format_of(f"a{end}")
    if image_format.mask_suffix:
        written = f"as `{image_format.mask_suffix}`"
        assert not image_format.label_types
    else:
        written = ", ".join(f"{axes}D" for axes in image_format.dimensions)
        bits = max(np.iinfo(kind).bits for kind in image_format.label_types)
        written += f", to {bits} bits" if bits < 32 else ""
    assert TABLE[end][2] == written
    assert all(len(cell) > 1 for cell in TABLE[end])
