"""Every metric beside independent programs, on random pairs of masks; where definitions differ, how is pinned."""

import warnings

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from mask_pairs import mask_pairs
from monai import metrics as monai
from scipy.ndimage import binary_erosion, distance_transform_edt
from surface_distance import metrics as deepmind

from segment.metrics.boundary import directed_distances
from segment.metrics.dice import Dice
from segment.metrics.hausdorff import HausdorffDistance
from segment.metrics.iou import IoU
from segment.metrics.precision import Precision
from segment.metrics.sensitivity import Sensitivity
from segment.metrics.specificity import Specificity
from segment.metrics.surface_dice import SurfaceDice
from segment.metrics.surface_distance import AverageSymmetricSurfaceDistance, MeanAverageSurfaceDistance
from segment.metrics.surface_elements import element_areas
from segment.metrics.volume_difference import RelativeVolumeDifference, VolumeDifference

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from medpy.metric import binary as medpy

HD95, HD100 = HausdorffDistance(95), HausdorffDistance(100)
ASSD, MASD = AverageSymmetricSurfaceDistance(), MeanAverageSurfaceDistance()


def of_deepmind(pair):
    distances = deepmind.compute_surface_distances(pair.reference, pair.prediction, pair.spacing)
    for percentile in (94.7, 61.3):  # at 95 %, rounding decides which of 20 elements of one area counts
        yield HausdorffDistance(percentile, "deepmind"), deepmind.compute_robust_hausdorff(distances, percentile)
    yield SurfaceDice(pair.tolerance), deepmind.compute_surface_dice_at_tolerance(distances, pair.tolerance)
    yield Dice(), deepmind.compute_dice_coefficient(pair.reference, pair.prediction)


def of_medpy(pair):
    masks, spacing = (pair.prediction, pair.reference), pair.spacing
    yield HD100, medpy.hd(*masks, spacing)
    yield HausdorffDistance(95, "medpy"), medpy.hd95(*masks, spacing)
    yield ASSD, medpy.assd(*masks, spacing)
    yield MASD, (medpy.asd(*masks, spacing) + medpy.asd(*masks[::-1], spacing)) / 2
    yield Dice(), medpy.dc(*masks)
    yield IoU(), medpy.jc(*masks)
    yield Sensitivity(), medpy.sensitivity(*masks)
    yield Precision(), medpy.precision(*masks)
    if not pair.reference.all():  # MedPy divides by zero, and returns 0
        yield Specificity(), medpy.specificity(*masks)


def of_monai(pair):
    masks = [torch.tensor(mask.copy())[None, None] for mask in (pair.prediction, pair.reference)]
    spacing = list(pair.spacing)
    yield HD95, monai.compute_hausdorff_distance(*masks, True, percentile=95, spacing=spacing)
    yield HD100, monai.compute_hausdorff_distance(*masks, True, spacing=spacing)
    yield ASSD, monai.compute_average_surface_distance(*masks, True, symmetric=True, spacing=spacing)
    nsd = monai.compute_surface_dice(*masks, [pair.tolerance], True, spacing=spacing, use_subvoxels=True)
    yield SurfaceDice(pair.tolerance), nsd
    counts = monai.get_confusion_matrix(*(mask.float() for mask in masks))
    named = {Sensitivity: "sensitivity", Precision: "precision", Specificity: "specificity"}
    for metric, name in named.items():
        if metric is not Specificity or not pair.reference.all():
            yield metric(), monai.compute_confusion_matrix_metric(name, counts)


def of_simpleitk(pair):
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (pair.prediction, pair.reference)]
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    yield Dice(), overlap.GetDiceCoefficient()
    yield IoU(), overlap.GetJaccardCoefficient()
    yield Sensitivity(), 1 - overlap.GetFalseNegativeError()
    yield Precision(), 1 - overlap.GetFalseDiscoveryRate()
    yield RelativeVolumeDifference(), abs(overlap.GetVolumeSimilarity())
    for image in images:
        image.SetSpacing(pair.spacing[::-1])
    shapes = [sitk.LabelShapeStatisticsImageFilter() for _ in images]
    for shape, image in zip(shapes, images, strict=True):
        shape.Execute(image)
    # In 2D its size is an area in mm2, of a slice that ours takes for 1 mm thick.
    yield VolumeDifference(), abs(shapes[0].GetPhysicalSize(1) - shapes[1].GetPhysicalSize(1)) / 1000


def of_scipy(pair):
    """Distance transforms of the whole volume, and boundaries by its erosion."""
    edges = [mask & ~binary_erosion(mask) for mask in (pair.prediction, pair.reference)]
    there, back = (
        distance_transform_edt(~second, sampling=pair.spacing)[first] for first, second in (edges, edges[::-1])
    )
    yield HD95, max(np.percentile(there, 95), np.percentile(back, 95))
    yield ASSD, np.concatenate([there, back]).mean()
    yield MASD, (there.mean() + back.mean()) / 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("peer", [of_deepmind, of_medpy, of_monai, of_simpleitk, of_scipy])
@pytest.mark.parametrize("count", [80, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])
def test_equals_an_independent_program(peer, count):
    compared = 0
    precision = 1e-4 if peer is of_monai else 1e-6  # MONAI interpolates percentiles in single precision
    for pair in mask_pairs(count):
        structure = pair.structure()
        for metric, theirs in peer(pair):
            ours = metric.of_counts(structure.counts) if hasattr(metric, "of_counts") else metric.of_pair(structure)
            assert ours == pytest.approx(float(theirs), rel=precision, abs=precision), (metric.name, pair)
            compared += 1
    assert compared >= 3 * count


@pytest.mark.parametrize("spacing", [(1, 1, 1), (3, 0.7, 1.1), (1, 1), (0.3, 2.5)])
def test_every_element_has_the_area_of_the_original(spacing):
    tables = deepmind.lookup_tables
    table = (
        tables.create_table_neighbour_code_to_surface_area
        if len(spacing) == 3
        else (tables.create_table_neighbour_code_to_contour_length)
    )
    np.testing.assert_allclose(element_areas(spacing), table(spacing), rtol=1e-12)


def test_the_definitions_of_one_distance_differ_and_how():
    """Three ways of HD95; SimpleITK's Hausdorff distance is that of all voxels, not of boundaries."""
    apart = {"medpy": 0.0, "deepmind": 0.0, "voxels": 0.0}
    for pair in mask_pairs(60):
        structure = pair.structure()
        for definition in ("medpy", "deepmind"):
            theirs = HausdorffDistance(95, definition).of_pair(structure)
            apart[definition] = max(apart[definition], abs(theirs - HD95.of_pair(structure)))
        images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (pair.prediction, pair.reference)]
        for image in images:
            image.SetSpacing(pair.spacing[::-1])
        hausdorff = sitk.HausdorffDistanceImageFilter()
        hausdorff.Execute(*images)
        masks = pair.prediction, pair.reference
        voxels = max(
            distance_transform_edt(~there, sampling=pair.spacing)[here].max() for here, there in (masks, masks[::-1])
        )
        assert hausdorff.GetHausdorffDistance() == pytest.approx(voxels, rel=1e-5)
        apart["voxels"] = max(apart["voxels"], abs(voxels - HD100.of_pair(structure)))
    assert apart["medpy"] > 1
    assert apart["deepmind"] > 0.5
    assert apart["voxels"] > 0.1


def test_far_and_near_points_and_dense_and_sparse_sets_have_the_distance_of_the_transform():
    random = np.random.default_rng(0)
    for share, spacing in [(0.3, (1, 1, 1)), (0.001, (5, 0.5, 0.5)), (0.02, (0.3, 3, 1)), (1e-9, (1, 1, 1))]:
        first, second = random.random((2, 24, 22, 26)) < share
        first[0, 0, 0] = second[-1, -1, -1] = True
        expected = (
            distance_transform_edt(~there, sampling=spacing)[here] for here, there in ((first, second), (second, first))
        )
        for ours, theirs in zip(directed_distances(first, second, spacing), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)
