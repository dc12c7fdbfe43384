import contextlib

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segment.data.labels import Labels
from segment.errors import UserError
from segment.inference.decision import decide
from segment.inference.model import Model, predictor_of
from segment.inference.predictor import Predictor
from segment.inference.windows import SlidingWindows
from segment.io.geometry import Grid
from segment.preprocessing.plan import Plan
from segment.preprocessing.prepare import Placement

CODES = ["RAS", "LPS", "PIR", "ASL", "SRP", "IPL"]
LABELS = Labels({"background": 0, "a": 1, "b": 2})
SQUARE = Placement(Grid((8, 8), np.eye(4)), ((0, 8), (0, 8)))
SPACING = {"R": 1.0, "L": 1.0, "A": 1.5, "P": 1.5, "S": 3.0, "I": 3.0}


class Threshold(nn.Module):
    """Class 1 where the sum of the channels exceeds 100; upper half of the window: class 2 instead."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(100.0))
        self.autocast: list[bool] = []
        self.modes: list[bool] = []

    def forward(self, image: Tensor) -> Tensor:
        self.autocast.append(torch.is_autocast_enabled("cpu"))
        self.modes.append(self.training)
        over = image.sum(dim=1, keepdim=True) - self.level
        shape = [-1 if axis == 2 else 1 for axis in range(image.ndim)]
        upper = (torch.arange(image.shape[2]) >= image.shape[2] // 2).float().view(shape)
        return torch.cat((-over, over * (1 - upper), over * upper), dim=1)


class Share(nn.Module):
    """Two regions, the second within the first, by a linear rise with the intensity."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.tensor([50.0, 150.0]).view(1, 2, 1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.levels) / 50


def plan_of(spacing=(3.0, 1.5, 1.0), patch=(16, 32, 32), channels=1) -> Plan:
    return Plan(spacing, patch, 1, ("none",) * channels)


def write(path, codes: str, array: np.ndarray) -> np.ndarray:
    """Write (z, y, x), stored along ``codes``; returns RAS positions (3, z, y, x) in mm relative to the middle."""
    matrix = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(nib.orientations.axcodes2ornt(codes)):
        matrix[int(world), axis] = sign * SPACING[codes[axis]]
    nib.save(nib.Nifti1Image(array.T, nib.affines.from_matvec(matrix, [10.0, 20.0, -30.0])), path)
    index = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in array.shape], indexing="ij"))[::-1]
    return np.einsum("ij,j...->i...", matrix, index)


def blob(shape: tuple[int, ...]) -> np.ndarray:
    """Values 1 and 200; the border between them is not symmetric along any axis."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    return np.where((z - 0.1) ** 2 + (y + 0.2) ** 2 + (x - 0.3) ** 2 < 0.5, 200, 1).astype(np.int16)


@pytest.mark.parametrize("codes", CODES)
def test_mask_is_on_the_grid_of_the_file(tmp_path, codes):
    array = blob((10, 14, 12))
    world = write(tmp_path / "scan.nii.gz", codes, array)
    predictor = Predictor(Threshold(), plan_of(), SlidingWindows(), LABELS)
    predicted = predictor.predict_files([tmp_path / "scan.nii.gz"])
    assert predicted.dtype == np.uint8
    # The network sees every scan with its feet first, whatever the order and direction of the stored axes.
    expected = np.where(array > 100, np.where(world[2] > 0, 2, 1), 0)
    assert {1, 2} <= set(expected.flat)
    np.testing.assert_array_equal(predicted, expected)


@pytest.mark.parametrize("codes", CODES)
def test_mask_is_on_the_grid_of_the_file_after_resampling(tmp_path, codes):
    array = blob((20, 24, 22))
    write(tmp_path / "scan.nii.gz", codes, array)
    predictor = Predictor(Threshold(), plan_of((2.0, 1.2, 1.4), (8, 16, 16)), SlidingWindows(), LABELS)
    predicted = predictor.predict_files([tmp_path / "scan.nii.gz"])
    assert predicted.shape == array.shape
    found, truth = predicted > 0, array > 100
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.93
    for axis in range(3):  # no shift along any axis
        places = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for mask in (found, truth)]
        assert abs(places[0].mean() - places[1].mean()) < 0.6


@pytest.mark.parametrize(("codes", "transpose"), [("RAS", ()), ("PIR", (1, 2, 0)), ("LPS", (2, 0, 1))])
def test_probabilities_are_kept_on_the_grid_of_the_file_in_shares(tmp_path, codes, transpose):
    array = blob((20, 24, 22))
    array[:4], array[:, :, :3] = 0, 0  # cropped
    write(tmp_path / "scan.nii.gz", codes, array)
    plan = Plan((2.0, 1.2, 1.4), (8, 16, 16), 1, ("none",), transpose)
    predictor = Predictor(Threshold(), plan, SlidingWindows(), LABELS)
    prepared = predictor.read([tmp_path / "scan.nii.gz"])
    assert prepared[0].shape[1:] != array.shape
    kept = np.zeros((3, *array.shape), np.float32)
    mask = predictor.mask(*prepared, kept=kept)
    np.testing.assert_array_equal(kept.argmax(axis=0), mask)
    np.testing.assert_allclose(kept.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(kept, predictor.on_source(predictor.probabilities(*prepared), prepared[1]))
    added = np.zeros_like(kept)
    for share in (0.25, 0.75):
        predictor.add(*prepared, added, share)
    np.testing.assert_allclose(added, kept, atol=1e-6)


def test_channels_come_from_one_file_each_in_order(tmp_path):
    array = blob((10, 14, 12))
    for name, factor in (("a", 1), ("b", -1)):
        write(tmp_path / f"{name}.nii.gz", "RAS", factor * array)

    class FirstChannel(Threshold):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image[:, :1])

    predictor = Predictor(FirstChannel(), plan_of(channels=2), SlidingWindows(), LABELS)
    files = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    assert (predictor.predict_files(files) > 0).sum() == (array > 100).sum()
    assert (predictor.predict_files(files[::-1]) > 0).sum() == 0


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (plan_of(channels=2), "3D image with 1 channel.*3D images with 2"),
        (plan_of((1.0, 1.0), (8, 8)), "3D image with 1 channel.*2D images with 1"),
    ],
)
def test_image_with_other_channels_or_axes_is_refused(tmp_path, plan, words):
    write(tmp_path / "scan.nii.gz", "RAS", blob((4, 5, 6)))
    with pytest.raises(UserError, match=rf"scan\.nii\.gz: .*{words}"):
        Predictor(Threshold(), plan, SlidingWindows(), LABELS).predict_files([tmp_path / "scan.nii.gz"])


def test_a_scan_that_would_grow_without_bound_is_refused(tmp_path):
    # A header that claims metres for millimetres, or a plan that was tampered with.
    write(tmp_path / "scan.nii.gz", "RAS", blob((4, 5, 6)))
    predictor = Predictor(Threshold(), plan_of((1e-4, 1e-4, 1e-4)), SlidingWindows(), LABELS)
    with pytest.raises(UserError, match=r"scan\.nii\.gz"):
        predictor.predict_files([tmp_path / "scan.nii.gz"])


@pytest.mark.parametrize("training", [True, False])
def test_network_predicts_in_evaluation_mode_and_its_mode_is_restored(training):
    network = Threshold().train(training)
    predictor = Predictor(network, plan_of((1.0, 1.0), (8, 8)), SlidingWindows(), LABELS)
    predictor.predict_prepared(torch.zeros(1, 8, 8), SQUARE)
    assert network.modes == [False]
    assert network.training == training
    network.forward = lambda image: 1 / 0
    with pytest.raises(ZeroDivisionError):
        predictor.predict_prepared(torch.zeros(1, 8, 8), SQUARE)
    assert network.training == training


def test_the_network_runs_in_the_context_of_the_precision():
    entered = []

    @contextlib.contextmanager
    def context():
        entered.append(True)
        yield

    predictor = Predictor(Threshold(), plan_of((1.0, 1.0), (8, 8)), SlidingWindows(), LABELS, context)
    predictor.predict_prepared(torch.zeros(1, 8, 8), SQUARE)
    assert entered


@pytest.mark.parametrize(("precision", "halved"), [("bf16-mixed", True), ("32-true", False)])
def test_a_loaded_model_predicts_in_the_precision_asked_for(precision, halved):
    network = Threshold()
    model = Model(network, plan_of((1.0, 1.0), (8, 8)), LABELS, ("ct",), {}, "demo")
    predictor = predictor_of(model, SlidingWindows(), torch.device("cpu"), precision)
    image = torch.zeros(1, 8, 8)
    image[0, 2:6, 3:5] = 200
    predicted, probabilities = predictor.predict_prepared(image, SQUARE)
    assert network.autocast == [halved]
    assert probabilities.shape == (len(LABELS), 8, 8)
    assert predicted.tolist() == np.where(image[0] > 0, np.array([[1]] * 4 + [[2]] * 4), 0).tolist()


def test_regions_above_one_half_write_their_class_later_ones_over_earlier_ones():
    labels = Labels({"background": 0, "whole": [1, 2, 4], "core": [1, 4], "enhancing": [4]})
    shares = torch.tensor([[0.4, 0.6, 0.9, 0.9, 0.2], [0.3, 0.5, 0.8, 0.7, 0.1], [0.1, 0.2, 0.3, 0.6, 0.9]])
    np.testing.assert_array_equal(labels.decode(decide(shares, labels).numpy()), [0, 2, 1, 4, 4])
    np.testing.assert_array_equal(decide(shares, LABELS).numpy(), [0, 0, 0, 0, 2])


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("labels", [LABELS, Labels({"background": 0, "whole": [1, 2], "core": 2})])
def test_probabilities_are_on_the_grid_of_the_mask(tmp_path, codes, labels):
    array = np.pad(blob((10, 14, 12)), 3)  # what is 0 all round is cut off before the network sees it
    write(tmp_path / "scan.nii.gz", codes, array)
    network = Threshold() if not labels.regions else Share()
    model = Model(network, plan_of((2.0, 1.2, 1.4), (8, 16, 16)), labels, ("ct",), precision="32-true")
    prediction = model.predict(tmp_path / "scan.nii.gz", probabilities=True)
    assert prediction.mask.shape == array.T.shape
    np.testing.assert_array_equal(model.predict(tmp_path / "scan.nii.gz").mask, prediction.mask)  # plane by plane
    chances = prediction.probabilities
    outside = array.T == 0
    if labels.regions:
        assert list(chances) == ["whole", "core"]
        np.testing.assert_array_equal(prediction.mask, np.where(chances["core"] > 0.5, 2, chances["whole"] > 0.5))
        assert all((part[outside] == 0).all() for part in chances.values())
        assert (chances["whole"][~outside] > 0).all()
    else:
        assert (chances["background"][outside] == 1).all()
        np.testing.assert_allclose(sum(chances.values()), 1, atol=1e-5)
        np.testing.assert_array_equal(prediction.mask, np.stack(list(chances.values())).argmax(axis=0))
        assert {0, 1, 2} == set(prediction.mask.flat)


def test_a_flat_image_in_memory_is_predicted(tmp_path):
    array = blob((1, 20, 24))[0]
    nib.save(nib.Nifti1Image(array.T, np.eye(4)), tmp_path / "flat.nii")
    model = Model(Threshold(), plan_of((1.0, 1.0), (16, 16)), LABELS, ("grey",), precision="32-true")
    expected = model.predict(tmp_path / "flat.nii").mask
    assert expected.shape == (24, 20)
    np.testing.assert_array_equal(model.predict(array.T, np.eye(4)).mask, expected)
    np.testing.assert_array_equal(expected > 0, array.T > 100)
