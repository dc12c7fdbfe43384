"""A fine model predicts the box around what a coarse one finds, on the scan's own grid."""

import json
import logging

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segment.commands import predict
from segment.config.compose import compose_command
from segment.data.labels import Labels
from segment.errors import UserError
from segment.inference.predictor import Predictor
from segment.inference.region import Region
from segment.inference.windows import SlidingWindows
from segment.io.geometry import Grid, to_canonical
from segment.io.images import Image
from segment.preprocessing.plan import Plan
from segment.preprocessing.prepare import region_of

LABELS = Labels({"background": 0, "organ": 1})
TURNED = np.array([[0, -2.0, 0, 3], [1, 0, 0, 4], [0, 0, 1.5, 5], [0, 0, 0, 1.0]])  # axes swapped, one flipped
PLAN = Plan((1.5, 1.0, 2.0), (4, 5, 6), 1, ("zscore",), (0, 1, 2))


class Bright(nn.Module):
    """Finds bright voxels, one by one, and counts those that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))
        self.seen = 0

    def forward(self, windows: Tensor) -> Tensor:
        self.seen += windows.numel()
        return torch.cat([torch.zeros_like(windows), windows * 5 - 10], dim=1)


def scan() -> tuple[Image, np.ndarray]:
    """An image with two bright objects, and a coarse mask of the first."""
    array = np.random.default_rng(0).normal(0, 0.1, (1, 14, 22, 18)).astype(np.float32)
    array[0, 3:6, 4:9, 5:8] += 9
    array[0, 10:12, 17:20, 13:16] += 9
    coarse = np.zeros(array.shape[1:], np.uint8)
    coarse[4, 5:8, 6] = 2
    return Image(array, Grid(array.shape[1:], TURNED)), coarse


def predicted(region: Region | None) -> tuple[np.ndarray, int]:
    image, _ = scan()
    network = Bright()
    predictor = Predictor(network, PLAN, SlidingWindows(overlap=0), LABELS, region=region.box if region else None)
    return predictor.predict_image(image, "scan"), network.seen


def test_only_the_box_is_predicted_and_what_lies_outside_is_background():
    _, coarse = scan()
    whole, all_voxels = predicted(None)
    found, voxels = predicted(Region(lambda image, name: coarse, 3))
    assert voxels < all_voxels / 3
    assert whole[11, 18, 14] == 1
    np.testing.assert_array_equal(found[:8, :13, :12], whole[:8, :13, :12])  # normalised as the whole scan
    assert found[4, 6, 6] == 1
    assert not found[8:].any()
    everything, _ = predicted(Region(lambda image, name: coarse, 1000))
    np.testing.assert_array_equal(everything, whole)


def test_a_scan_in_which_nothing_is_found_is_predicted_whole_and_it_is_said(caplog):
    _, coarse = scan()
    with caplog.at_level(logging.WARNING):
        found, _ = predicted(Region(lambda image, name: np.zeros_like(coarse), 3))
    np.testing.assert_array_equal(found, predicted(None)[0])
    assert "scan: the coarse model (roi=) finds nothing, so the whole scan is predicted" in caplog.text


@settings(max_examples=60)
@given(st.data())
def test_the_box_holds_the_margin_and_a_patch_where_the_scan_does(data):
    grid = scan()[0].grid
    mask = np.zeros(grid.shape, np.uint8)
    mask[tuple(data.draw(st.integers(0, size - 1)) for size in grid.shape)] = 3
    margin = data.draw(st.sampled_from([0, 2.5, 7]))
    plain = Plan((1.5, 1.0, 2.0), (4, 5, 6), 1, ("zscore",), ())  # without a transpose: z, y, x after orientation
    box = region_of(mask, grid, plain, margin)
    assert box is not None
    (voxel,) = np.argwhere(to_canonical(mask[None], grid)[0])
    sizes, spacing = to_canonical(mask[None], grid)[0].shape, (1.5, 1.0, 2.0)
    for (start, stop), at, size, mm, extent in zip(box, voxel, sizes, spacing, plain.patch_size, strict=True):
        assert start <= max(0, at - margin / mm)
        assert stop >= min(size, at + 1 + margin / mm)
        assert stop - start >= min(size, extent)
        assert 0 <= start < stop <= size


def test_predict_takes_a_coarse_model(two_stages, tmp_path):
    source = two_stages / "data" / "imagesTr" / "case_a00_0000.nii.gz"
    masks = {}
    for name, more in {"plain": [], "all": [f"roi={two_stages / 'low'}", "roi_margin=999"]}.items():
        given = [f"model={two_stages / 'high'}", f"input={source}", f"output={tmp_path / name}", *more]
        predict.run(*compose_command("predict", given))
        masks[name] = np.asarray(nib.load(tmp_path / name / "case_a00.nii.gz").dataobj)
    np.testing.assert_array_equal(masks["all"], masks["plain"])
    record = json.loads((tmp_path / "all" / "predictions.json").read_text())["roi"]
    assert record["margin_mm"] == 999
    folders = [str(two_stages / f"low-fold{fold}" / "model") for fold in (0, 1)]
    assert [one["folder"] for one in record["model"]] == folders


@pytest.mark.parametrize(
    ("more", "words"), [("roi=nothing", "no model.json"), ("roi_margin=-1", "give a number from 0")]
)
def test_what_cannot_be_a_region_is_refused(two_stages, tmp_path, more, words):
    source = two_stages / "data" / "imagesTr" / "case_a00_0000.nii.gz"
    given = [f"model={two_stages / 'low'}", f"input={source}", f"output={tmp_path}", more]
    with pytest.raises(UserError, match=f"{more}.*: {words}"):
        predict.run(*compose_command("predict", given))
