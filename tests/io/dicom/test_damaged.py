"""Damaged and hostile files end with a paragraph for the user, never with another exception."""

import contextlib

import numpy as np
import pytest
from made_annotations import SHAPE, phantom, written
from made_dicom import make_series, voxels

from segment.errors import UserError
from segment.io.dicom.annotations import structure_masks
from segment.io.dicom.series import contents
from segment.io.images import read_image


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes of the header changed, left out or put in."""
    content = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(128, min(len(content), 3000)))
        kind = rng.integers(3)
        if kind == 0:
            content[place] = rng.integers(256)
        elif kind == 1:
            del content[place : place + rng.integers(1, 9)]
        else:
            content[place:place] = rng.bytes(4)
    return bytes(content)


@pytest.mark.parametrize("kind", ["slice", "binary", "rtstruct"])
def test_random_damage_is_a_mistake_of_the_file(tmp_path, kind, recwarn):
    if kind == "slice":
        path = make_series(tmp_path, voxels(SHAPE))[2]
    else:
        path, _ = written(tmp_path, phantom(), kind)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    recwarn.clear()
    for _ in range(40):
        path.write_bytes(damaged(data, rng))
        found = contents(tmp_path)
        for series in found.series:
            with contextlib.suppress(UserError):
                read_image(series.path)
            for annotation in found.annotations:
                with contextlib.suppress(UserError):
                    list(structure_masks(annotation, series))
    assert not recwarn.list  # which would quote values
    path.write_bytes(data)
    assert contents(tmp_path).series[0].grid.shape == SHAPE


def test_half_a_slice_is_refused_by_name(tmp_path):
    files = make_series(tmp_path)
    files[2].write_bytes(files[2].read_bytes()[:-40])
    with pytest.raises(UserError, match=f"its series cannot be read: {files[2].name}: .*less than expected"):
        read_image(files[0])
