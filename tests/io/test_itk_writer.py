"""What ITK writes is whole, or an error."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from segment.io.geometry import Grid
from segment.io.volumes import write_volume


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("lost", [1, 200])
def test_file_that_itk_leaves_short_is_an_error_and_is_removed(tmp_path, monkeypatch, suffix, lost):
    write = sitk.WriteImage

    def write_short(image, path, compressed):
        write(image, path, compressed)
        with Path(path).open("r+b") as file:
            file.truncate(file.seek(0, 2) - lost)

    scan = np.random.default_rng(0).integers(0, 99, (1, 6, 7, 8), np.int16)
    write_volume(tmp_path / f"whole{suffix}", scan, Grid((6, 7, 8), np.eye(4)))
    monkeypatch.setattr(sitk, "WriteImage", write_short)
    with pytest.raises(OSError, match="was not written whole"):
        write_volume(tmp_path / f"short{suffix}", scan, Grid((6, 7, 8), np.eye(4)))
    assert [file.name for file in tmp_path.iterdir()] == [f"whole{suffix}"]
