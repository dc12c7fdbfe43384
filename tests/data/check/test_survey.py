"""Facts from a single read of a case, cached by content."""

import json

import nibabel as nib
import numpy as np
import pytest

from segment.data import Case, Dataset, open_dataset
from segment.data.check import surveys
from segment.data.check.survey import QUANTILES, Survey, examine
from segment.data.check.surveys import survey_cases
from segment.data.labels import Labels
from segment.data.problems import raise_errors
from segment.errors import UserError
from segment.files import hash_files
from segment.io.formats import registry
from segment.io.geometry import to_canonical
from segment.io.images import read_image
from segment.validation import read_as


def survey_case(case, dataset) -> Survey:
    found = examine(case, dataset)
    for problem in found.problems:
        raise_errors(problem)
    return found.survey


def save(path, array, affine=None):
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0]) if affine is None else affine), path)
    return path


def dataset_of(*cases, ignore=None, channels=("a", "b")):
    labels = {"background": 0, "one": 1, "two": 2} | ({} if ignore is None else {"ignore": ignore})
    return Dataset("x", cases[0].images[0].parent, cases, Labels(labels), channels)


@pytest.fixture
def two_channels(tmp_path):
    """A scan of axes PIL and two channels: each holds a box of its own; 3 is to be ignored."""
    rng = np.random.default_rng(0)
    affine = nib.affines.from_matvec([[0, 0, -3.0], [-1.0, 0, 0], [0, 2.0, 0]], [5, 6, 7])
    first, second = np.zeros((2, 12, 10, 8), np.float32)
    first[2:5, 3:6, 4:7] = rng.uniform(1, 2, (3, 3, 3))
    second[4:9, 5, 1] = -1
    label = np.zeros((12, 10, 8), np.uint8)
    label[2:5, 3:6, 4:7] = 1
    label[2, 3, 4] = 2
    label[4, 5, 6] = 3
    files = [save(tmp_path / f"{name}.nii.gz", array, affine) for name, array in (("a", first), ("b", second))]
    return Case("c", tuple(files), save(tmp_path / "l.nii.gz", label, affine)), first, second, label


def test_box_shape_and_spacing_are_those_of_the_canonical_array(two_channels):
    case = two_channels[0]
    survey = survey_case(case, dataset_of(case, ignore=3))
    image = nib.load(case.images[0])
    canonical = to_canonical(read_image(case.images).array, read_image(case.images).grid)
    where = np.argwhere((canonical != 0).any(axis=0))
    assert survey.box == tuple(zip(where.min(0).tolist(), (where.max(0) + 1).tolist(), strict=True))
    assert survey.shape == canonical.shape[1:] == (10, 12, 8)
    assert survey.spacing == pytest.approx((2, 1, 3))
    assert survey.orientation == "".join(nib.aff2axcodes(image.affine)) == "PSL"
    assert survey.counts == {0: 12 * 10 * 8 - 27, 1: 25, 2: 1, 3: 1}


def test_intensities_are_those_of_the_foreground_without_the_ignored(two_channels):
    case, first, second, label = two_channels
    survey = survey_case(case, dataset_of(case, ignore=3))
    for found, channel in zip(survey.intensities, (first, second), strict=True):
        values = channel[(label == 1) | (label == 2)].astype(np.float64)
        assert (found.mean, found.sd) == pytest.approx((values.mean(), values.std()))
        np.testing.assert_allclose(found.quantiles, np.quantile(values, np.linspace(0, 1, QUANTILES)), rtol=1e-6)


def test_a_background_of_another_value_and_no_ignored_voxels(tmp_path):
    image = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    label = np.where(image < 30, 7, 1).astype(np.uint8)
    case = Case("c", (save(tmp_path / "i.nii", image),), save(tmp_path / "l.nii", label))
    dataset = Dataset("x", tmp_path, (case,), Labels({"background": 7, "one": 1}), ("a",))
    assert survey_case(case, dataset).intensities[0].mean == image[image >= 30].mean()


def test_without_a_label_or_foreground_there_are_no_intensities_and_zeros_have_the_whole_box(tmp_path):
    case = Case("c", (save(tmp_path / "i.nii", np.arange(60, dtype=np.int16).reshape(3, 4, 5)),))
    assert survey_case(case, dataset_of(case, channels=("a",))).intensities == ()
    zero = Case("z", (save(tmp_path / "z.nii", np.zeros((3, 4, 5), np.int16)),))
    found = survey_cases([zero], dataset_of(zero, channels=("a",)))["z"]
    assert found.survey.box == ((0, 5), (0, 4), (0, 3))
    assert found.survey.constant
    with pytest.raises(UserError, match=r"z\.nii: .* the value 0 everywhere"):
        survey_case(zero, dataset_of(zero, channels=("a",)))


def test_a_survey_is_read_back_from_json(two_channels):
    case = two_channels[0]
    survey = survey_case(case, dataset_of(case, ignore=3))
    content = json.loads(json.dumps(survey.as_dict()))
    assert read_as(Survey, content, "cached") == survey
    content["intensities"][0]["quantiles"].pop()
    with pytest.raises(UserError, match=r"intensities\[0\]\.quantiles: has 1000 entries"):
        read_as(Survey, content, "cached")


def test_surveys_are_cached_by_content_and_labels(make_dataset, tmp_path, monkeypatch):
    root = make_dataset(tmp_path / "in", n=3, shape=(4, 6, 5))
    dataset, folder, read = open_dataset(root), tmp_path / "facts", []
    real = surveys.examine
    monkeypatch.setattr(surveys, "examine", lambda case, *rest: read.append(case.id) or real(case, *rest))

    def again(dataset=dataset):
        read.clear()
        return survey_cases(dataset.cases, dataset, folder, hash_files(f for c in dataset.cases for f in c.files))

    first = again()
    assert sorted(read) == ["case_a00", "case_b01", "case_c02"]
    assert again() == first
    assert read == []
    path = next(folder.iterdir())
    path.write_text(path.read_text()[:100])
    assert again() == first
    assert len(read) == 1
    image = nib.load(dataset.cases[1].images[0])
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine), dataset.cases[1].images[0])
    assert again()["case_b01"].survey.intensities[0].mean > first["case_b01"].survey.intensities[0].mean
    assert read == ["case_b01"]
    again(open_dataset(root, labels={"background": 0, "ball_1": 1}))
    assert len(read) == 3
    again()
    assert read == []
    monkeypatch.setitem(registry._versions, ".nii.gz", "another reader")
    again()
    assert len(read) == 3


def test_cached_problems_name_the_present_files(make_dataset, tmp_path):
    found = []
    for name in ("one", "two"):
        root = make_dataset(tmp_path / name, n=1, shape=(4, 6, 5))
        dataset = open_dataset(root, labels={"background": 0, "ball_1": 1})
        hashes = hash_files(dataset.cases[0].files)
        found.append(survey_cases(dataset.cases, dataset, tmp_path / "facts", hashes)["case_a00"].problems[0])
        assert found[-1].file == str(dataset.cases[0].label)
    assert len(list((tmp_path / "facts").iterdir())) == 1
    assert found[0].what == found[1].what
