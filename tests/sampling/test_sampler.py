import dataclasses
import math
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from segment.data import Case, open_dataset
from segment.data.labels import IGNORE, Labels
from segment.errors import UserError
from segment.files import hash_files
from segment.preprocessing.locations import ANNOTATED, find_locations
from segment.preprocessing.plan import Plan
from segment.preprocessing.store import Prepared, Store
from segment.sampling.sampler import Patches, SampleNumbers, Scans, collate, cut, probabilities

LABELS = Labels({"background": 0, "a": 1, "b": 2})


def shelf(references: list[np.ndarray], size: tuple[int, ...], labels: Labels = LABELS) -> SimpleNamespace:
    """Prepared scans in memory, in place of the store; a case is its index."""
    scans = []
    for i, reference in enumerate(references):
        locations = find_locations(reference, 3, str(i))
        image = np.arange(1, reference.size + 1, dtype=np.float32).reshape(1, *reference.shape) + 10_000 * i
        scans.append(Prepared(image, reference, locations, None))
    transpose = (0, 1, 2) if references[0].ndim == 3 else ()
    plan = Plan((1.0,) * len(size), size, 2, ("zscore",), transpose)
    return SimpleNamespace(load=lambda case: scans[int(case.id)], plan=plan, dataset=SimpleNamespace(labels=labels))


def numbered(count: int) -> list[Case]:
    return [Case(str(index), ()) for index in range(count)]


def marked(shape: tuple[int, ...], *voxels: tuple[tuple[int, ...], int]) -> np.ndarray:
    reference = np.zeros(shape, np.uint8)
    for place, label in voxels:
        reference[place] = label
    return reference


# Which samples an epoch takes


def test_epoch_continues_from_the_step_of_the_training():
    taken = [list(SampleNumbers(3, 2, lambda done=done: done)) for done in (0, 1, 2, 3, 7)]
    assert taken == [[0, 1, 2, 3, 4, 5], [2, 3, 4, 5], [4, 5], [6, 7, 8, 9, 10, 11], [14, 15, 16, 17]]
    assert len(SampleNumbers(3, 2, lambda: 0)) == 6


def test_completed_batches_are_queried_when_an_epoch_begins():
    done = [0]
    numbers = SampleNumbers(2, 1, lambda: done[0])
    assert list(numbers) == [0, 1]
    done[0] = 2
    assert list(numbers) == [2, 3]


@settings(max_examples=50, deadline=None)
@given(
    steps=st.integers(1, 6), batch=st.integers(1, 4), epochs=st.integers(1, 4), ranks=st.integers(1, 4), data=st.data()
)
def test_epochs_and_ranks_share_out_every_number_once_also_when_resumed(steps, batch, epochs, ranks, data):
    stop = data.draw(st.integers(0, steps * epochs - 1))

    def run(rank: int, first: int, last: int) -> list[int]:
        taken = []
        while first < last:
            epoch = list(SampleNumbers(steps, batch, lambda: first, rank, ranks))[: (last - first) * batch]  # noqa: B023
            taken += epoch
            first += len(epoch) // batch
        return taken

    whole = [run(rank, 0, steps * epochs) for rank in range(ranks)]
    assert sorted(chain(*whole)) == list(range(steps * epochs * batch * ranks))
    assert [run(rank, 0, stop) + run(rank, stop, steps * epochs) for rank in range(ranks)] == whole
    # The ranks' batches of one step are neighbours, so two ranks see what one with twice the batch sees.
    assert sorted(chain(*(share[:batch] for share in whole))) == list(range(batch * ranks))


# Which patch a sample is


def patches(references: list[np.ndarray], size: tuple[int, ...], foreground: float = 1 / 3, seed: int = 0) -> Patches:
    return Patches(shelf(references, size), numbered(len(references)), seed, foreground)


def corner_of(item: dict, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Where a patch inside scan 0 begins, from the consecutive numbers in its image."""
    return tuple(int(i) for i in np.unravel_index(int(item["image"].flatten()[0]) - 1, shape))


def test_a_sample_number_is_always_the_same_patch():
    references = [np.random.default_rng(i).integers(0, 3, (9, 11, 10)).astype(np.uint8) for i in range(3)]
    first, fresh, other = (patches(references, (5, 4, 6), seed=seed) for seed in (3, 3, 4))
    backwards = {number: fresh[number] for number in reversed(range(20))}
    for number in range(20):
        item = first[number]
        assert item["sample"] == number
        assert item["case"] == str(int(item["image"].flatten()[0]) // 10_000)
        assert torch.equal(item["image"], backwards[number]["image"])
        assert torch.equal(item["reference"], backwards[number]["reference"])
    assert any(not torch.equal(first[n]["image"], other[n]["image"]) for n in range(5))
    assert len({float(first[n]["image"].flatten()[0]) for n in range(20)}) > 15


@pytest.mark.parametrize("workers", [0, 2])
def test_patches_do_not_depend_on_the_workers(make_dataset, tmp_path, workers):
    dataset = open_dataset(make_dataset(tmp_path / "scans", n=3))
    plan = Plan((1.0,) * 3, (8, 8, 8), 2, ("zscore",))
    files = [file for case in dataset.cases for file in (*case.images, case.label)]
    store = Store(tmp_path / "store", dataset, plan, hash_files(files))
    store.prepare(dataset.cases)
    source = Patches(store, dataset.cases, seed=1)
    numbers = SampleNumbers(4, 2, lambda: 1)
    batches = list(DataLoader(source, batch_size=2, sampler=numbers, num_workers=workers))
    assert [batch["sample"].tolist() for batch in batches] == [[2, 3], [4, 5], [6, 7]]
    for batch in batches:
        assert batch["image"].shape == (2, 1, 8, 8, 8)
        assert batch["image"].dtype == torch.float32
        assert batch["reference"].shape == (2, 1, 8, 8, 8)
        assert batch["reference"].dtype == torch.uint8
        for i, number in enumerate(batch["sample"].tolist()):
            assert torch.equal(batch["image"][i], source[number]["image"])
            assert torch.equal(batch["reference"][i], source[number]["reference"])
    # A patch is a copy: what is done to it does not reach the store.
    assert source[0]["image"].add_(1).sum() != source[0]["image"].sum()


def wider(sample: int) -> tuple[int, ...]:
    return (8, 5) if sample % 2 else (4, 9)


def test_larger_box_is_centred_on_the_patch_and_padded_with_zeros():
    reference = np.random.default_rng(0).integers(1, 3, (9, 11)).astype(np.uint8)
    plain = patches([reference], (4, 5))
    larger = Patches(plain.store, plain.cases, 0, extent=wider)
    around = np.pad(plain.store.load(plain.cases[0]).image[0], 4)
    for number in range(20):
        patch, box = plain[number], larger[number]
        assert box["image"].shape == box["reference"].shape == (1, *wider(number))
        corner = [(b - p) // 2 for b, p in zip(wider(number), (4, 5), strict=True)]
        middle = (0, *(slice(c, c + n) for c, n in zip(corner, (4, 5), strict=True)))
        for key in ("image", "reference"):
            assert torch.equal(box[key][middle], patch[key][0])
        first = [c - m + 4 for c, m in zip(corner_of(patch, reference.shape), corner, strict=True)]
        window = tuple(slice(f, f + n) for f, n in zip(first, wider(number), strict=True))
        np.testing.assert_array_equal(box["image"][0], around[window])
        assert torch.equal(box["reference"] > 0, box["image"] > 0)


def test_boxes_of_one_size_are_stacked_and_others_listed():
    source = patches([np.ones((9, 11), np.uint8)], (4, 5))
    source.extent = wider
    listed = collate([source[number] for number in (0, 1)])
    assert [tuple(part.shape) for part in listed["image"]] == [(1, 4, 9), (1, 8, 5)]
    assert [part.dtype for part in listed["reference"]] == [torch.uint8] * 2
    assert listed["sample"].tolist() == [0, 1]
    assert listed["case"] == ["0", "0"]
    stacked = collate([source[number] for number in (0, 2)])
    assert stacked["image"].shape == stacked["reference"].shape == (2, 1, 4, 9)


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_pass_lists_of_boxes_unchanged(workers):
    source = patches([np.ones((9, 11), np.uint8)], (4, 5))
    source.extent = wider
    loader = DataLoader(source, 2, sampler=range(4), num_workers=workers, collate_fn=collate)
    for batch, numbers in zip(loader, ((0, 1), (2, 3)), strict=True):
        for part, number in zip(batch["image"], numbers, strict=True):
            assert torch.equal(part, source[number]["image"])


def test_image_and_reference_are_cut_at_the_same_place():
    reference = np.random.default_rng(0).integers(0, 3, (9, 11)).astype(np.uint8)
    source = patches([reference], (4, 5))
    for number in range(30):
        item = source[number]
        corner = corner_of(item, reference.shape)
        box = tuple(slice(c, c + n) for c, n in zip(corner, (4, 5), strict=True))
        np.testing.assert_array_equal(item["reference"][0], reference[box])
        np.testing.assert_array_equal(item["image"][0], source.store.load(numbered(1)[0]).image[0][box])


@pytest.mark.parametrize(("foreground", "size"), [(1.0, (5, 4, 5)), (0.5, (5, 4, 5)), (0.0, (5, 4, 5))])
def test_requested_share_of_patches_is_centred_on_foreground(foreground, size):
    shape = (30, 30, 30)
    reference = marked(shape, ((15, 15, 15), 1), ((10, 20, 12), 2))
    source = patches([reference], size, foreground)
    centre = (0, *[n // 2 for n in size])
    labels = np.array([int(source[number]["reference"][centre]) for number in range(1000)])
    bound = 4 * math.sqrt(max(foreground * (1 - foreground), 1e-9) / 1000)
    assert (labels > 0).mean() == pytest.approx(foreground, abs=bound + 2e-3)
    if foreground:
        # The classes have the same chance, however large they are.
        assert (labels == 1).sum() / (labels > 0).sum() == pytest.approx(
            0.5, abs=4 * math.sqrt(0.25 / (labels > 0).sum())
        )


@pytest.mark.parametrize(("batch", "forced"), [(1, 0), (2, 1), (3, 1), (9, 3)])
def test_nnunets_batches_hold_the_same_number_of_patches_about_foreground(batch, forced):
    # nnU-Net: sample i of a batch is not forced while i < round(batch * (1 - 0.33)).
    store = shelf([marked((30, 30, 30), ((15, 15, 15), 1))], (5, 4, 5))
    store.plan = dataclasses.replace(store.plan, batch_size=batch)
    source = Patches(store, numbered(1), 0, 0.33, exact=True)
    about = [int(source[number]["reference"][0, 2, 2, 2]) > 0 for number in range(20 * batch)]
    assert np.array(about).reshape(20, batch)[:, batch - forced :].all()
    assert np.array(about).reshape(20, batch)[:, : batch - forced].mean() < 0.2


def test_classes_and_their_voxels_are_drawn_uniformly():
    reference = marked((20, 20), ((10, 10), 2))
    reference[4:8, 4:8] = 1
    source = patches([reference], (3, 3), 1.0)
    corners = [corner_of(source[number], reference.shape) for number in range(1600)]
    counts = {corner: corners.count(corner) for corner in set(corners)}
    assert counts.pop((9, 9)) == pytest.approx(800, abs=4 * math.sqrt(400))
    assert set(counts) == {(y - 1, x - 1) for y in range(4, 8) for x in range(4, 8)}
    assert list(counts.values()) == pytest.approx([50] * 16, abs=4 * math.sqrt(50))


def test_a_scan_without_foreground_gives_patches_from_anywhere():
    source = patches([marked((9, 9))], (3, 3), 1.0)
    assert len({corner_of(source[number], (9, 9)) for number in range(200)}) > 30


def test_corners_are_uniform_up_to_both_ends():
    source = patches([marked((6, 9))], (3, 6), 0.0)
    corners = [corner_of(source[number], (6, 9)) for number in range(1600)]
    counts = {corner: corners.count(corner) for corner in set(corners)}
    assert set(counts) == {(y, x) for y in range(4) for x in range(4)}
    assert list(counts.values()) == pytest.approx([100] * 16, abs=4 * math.sqrt(100))


def test_scans_are_drawn_uniformly():
    source = patches([marked((6, 6)), marked((40, 40)), marked((6, 6))], (4, 4))
    seen = [int(source[number]["image"].min()) // 10_000 for number in range(1200)]
    assert np.bincount(seen).tolist() == pytest.approx([400] * 3, abs=4 * math.sqrt(400 * 2 / 3))


@pytest.mark.parametrize("foreground", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(3, 9), (4, 4), (1, 6)])
def test_a_scan_smaller_than_the_patch_lies_in_its_middle_on_zeros(shape, foreground):
    reference = marked(shape, ((0, 0), 1))
    source = patches([reference], (6, 6), foreground)
    for number in range(5):
        item = source[number]
        assert item["image"].shape == item["reference"].shape == (1, 6, 6)
        for axis, size in enumerate(shape):
            filled = np.flatnonzero(item["image"][0].amax(dim=1 - axis).numpy())
            expected = (6 - size) // 2 if size < 6 else 0
            assert filled.tolist() == list(range(expected, expected + min(size, 6)))
        assert int((item["image"] > 0).sum()) == np.prod(np.minimum(shape, 6))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_cut_is_padding_then_slicing(data):
    dims = data.draw(st.integers(2, 3))
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * dims))
    size = np.array(data.draw(st.tuples(*[st.integers(1, 8)] * dims)))
    # A box that touches the volume, as all corners of patches do.
    corner = np.array([data.draw(st.integers(1 - int(n), s - 1)) for n, s in zip(size, shape, strict=True)])
    volume = np.arange(1, 2 * np.prod(shape) + 1, dtype=np.int16).reshape(2, *shape)
    padded = np.pad(volume, [(0, 0), *[(8, 8)] * dims])
    expected = padded[(slice(None), *[slice(c + 8, c + 8 + n) for c, n in zip(corner, size, strict=True)])]
    box = cut(volume, corner, size)
    np.testing.assert_array_equal(box, expected)
    assert box.dtype == volume.dtype
    assert not np.shares_memory(box, volume)


def test_scans_are_whole_and_in_order():
    store = shelf([marked((4, 5)), marked((6, 3))], (3, 3))
    cases = numbered(2)
    scans = Scans(store, cases[::-1])
    assert len(scans) == 2
    assert [tuple(scans[i]["image"].shape) for i in range(2)] == [(1, 6, 3), (1, 4, 5)]
    assert [scans[i]["index"] for i in range(2)] == [0, 1]
    np.testing.assert_array_equal(scans[0]["image"], store.load(cases[1]).image)


# What the patches are centred on


def centres(source: Patches, samples: int = 300) -> list[int]:
    """Class of the voxel in the middle of each patch of three voxels per axis."""
    return [int(source[number]["reference"][(0, *[1] * len(source.patch_size))]) for number in range(samples)]


def test_structures_are_drawn_uniformly_whatever_their_size():
    reference = np.zeros((20, 20, 20), np.uint8)
    reference[2:18, 2:18, 2:18] = 1
    reference[9, 9, 9] = 2
    found = centres(patches([reference], (3, 3, 3), foreground=1.0))
    assert set(found) == {1, 2}
    assert 0.4 < found.count(2) / len(found) < 0.6


def test_regions_are_drawn_as_structures_and_absent_ones_are_skipped():
    labels = Labels({"background": 0, "whole": [1, 2], "core": 2})
    both = np.zeros((12, 12), np.uint8)
    both[2:6, 2:6], both[8, 8] = 1, 2
    shown = centres(Patches(shelf([both], (3, 3), labels), numbered(1), 0, foreground=1.0))
    # The core's own half, and half of the whole's.
    assert 0.67 < shown.count(2) / len(shown) < 0.83
    alone = np.where(both == 2, 0, both)
    assert set(centres(Patches(shelf([alone], (3, 3), labels), numbered(1), 0, foreground=1.0))) == {1}


def test_random_patches_are_placed_in_annotated_areas():
    reference = np.full((30, 20, 20), IGNORE, np.uint8)
    reference[7] = 0
    reference[7, 5:9, 5:9] = 1
    assert len(find_locations(reference, 3, "x")[ANNOTATED]) == 400
    found = centres(patches([reference], (3, 3, 3), foreground=0.3))
    assert set(found) == {0, 1}
    assert 0.25 < found.count(1) / len(found) < 0.42
    assert ANNOTATED not in find_locations(np.where(reference == IGNORE, 0, reference), 3, "x")


def test_sources_are_weighted_and_their_scans_share_evenly():
    np.testing.assert_allclose(probabilities(["a", "a", "b"], {"a": 1, "b": 3, "c": 9}), [1 / 8, 1 / 8, 3 / 4])
    store = shelf([np.zeros((4, 4), np.uint8)] * 3, (3, 3))
    cases = [Case(str(index), (), source="ab"[index > 1]) for index in range(3)]
    source = Patches(store, cases, 0, weights={"a": 1, "b": 3})
    taken = [int(source[number]["image"].flatten()[0]) // 10_000 for number in range(400)]
    assert 0.69 < taken.count(2) / 400 < 0.81
    assert 0.08 < taken.count(0) / 400 < 0.17


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"site_a": 1}, r"'site_b'.*Did you mean"),
        ({"site_a": 0, "site_b": 0}, "at least one of them positive"),
        ({"site_a": -1, "site_b": 2}, "at least one of them positive"),
    ],
)
def test_weights_that_are_invalid_are_refused(weights, said):
    with pytest.raises(UserError, match=rf"sampler\.weights=.*{said}"):
        probabilities(["site_a", "site_b"], weights)


def test_slices_are_cut_out_of_3d_scans():
    reference = marked((5, 9, 9), ((3, 4, 4), 2))
    source = Patches(shelf([reference], (3, 5)), numbered(1), 0, foreground=1.0)
    item = source[0]
    assert (item["image"].shape, item["reference"].shape) == ((1, 3, 5), (1, 3, 5))
    np.testing.assert_array_equal(item["reference"][0], reference[3, 3:6, 2:7])
    wide = Patches(shelf([reference], (3, 5)), numbered(1), 0, foreground=1.0, extent=lambda sample: (7, 9))
    np.testing.assert_array_equal(wide[0]["reference"][0], reference[3, 1:8])
