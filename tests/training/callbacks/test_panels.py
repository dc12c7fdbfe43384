import io
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segment.data.case import Case
from segment.data.labels import Labels
from segment.inference.predictor import ScanOutput
from segment.training.callbacks.panels import ValidationPanels
from segment.visual.pictures import panel

LABELS = Labels({"background": 0, "ball": 7, "ignore": 9})


@pytest.fixture
def cases(tmp_path) -> list[Case]:
    """Two scans whose fullest slice is the third from below; they lie feet first in their files."""
    made = []
    for name in ("a", "b"):
        array = np.random.default_rng(ord(name)).normal(100, 10, (6, 5, 8)).astype(np.float32)
        mask = np.zeros((6, 5, 8), np.uint8)
        mask[1:4, 1:4, 4:6] = 7
        mask[1:5, 1:4, 5] = 7
        mask[0, 0, 5] = 9
        files = tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_label.nii.gz"
        for file, values in zip(files, (array, mask), strict=True):
            nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, -2.0, 1.0])), file)
        made.append(Case(name, files[:1], files[1]))
    return made


def trainer_of(folder, cases, **more):
    loggers = [TensorBoardLogger(folder, name="", version="board"), CSVLogger(folder)]
    given = {"sanity_checking": False, "is_global_zero": True, "estimated_stepping_batches": 1000}
    return SimpleNamespace(loggers=loggers, datamodule=SimpleNamespace(val=cases), **given | more)


def validate(callback, trainer, steps, predicted=7):
    module = SimpleNamespace(labels=LABELS)
    for trainer.global_step in steps:
        callback.on_validation_epoch_start(trainer, module)
        for index in range(len(trainer.datamodule.val)):
            prediction = np.zeros((8, 5, 6), np.uint8)
            prediction[5, 2, 1:4] = predicted == 7
            callback.on_validation_batch_end(
                trainer, module, ScanOutput(prediction, torch.zeros(0)), {"index": index}, index
            )
    trainer.loggers[0].experiment.flush()


def pictures(folder) -> dict[str, list]:
    events = EventAccumulator(str(folder / "board"), {"images": 0})
    events.Reload()
    return {tag: events.Images(tag) for tag in events.Tags()["images"]}


def test_each_validation_draws_the_same_slice_of_the_first_scan(tmp_path, cases):
    trainer = trainer_of(tmp_path, cases)
    validate(ValidationPanels(panel), trainer, [0, 500, 1000])
    found = pictures(tmp_path)
    assert list(found) == ["panels/training/a"]
    assert [event.step for event in found["panels/training/a"]] == [0, 500, 1000]
    image = np.asarray(nib.load(cases[0].images[0]).dataobj).T[None, ::-1][:, 2:3]
    reference = np.asarray(nib.load(cases[0].label).dataobj).T[::-1][2:3] == 7
    prediction = np.zeros_like(reference)
    prediction[0, 2, 1:4] = True
    expected = panel(image, reference.astype(np.uint8), prediction.astype(np.uint8), 2, (2.0, 1.0, 1.0))
    drawn = Image.open(io.BytesIO(found["panels/training/a"][-1].encoded_image_string))
    np.testing.assert_array_equal(np.asarray(drawn), expected)


@pytest.mark.parametrize("stop", [None, 330])
def test_few_evenly_spaced_pictures_even_after_resuming(tmp_path, cases, stop):
    steps = list(range(10, 1001, 10))
    trainer, callback = trainer_of(tmp_path, cases), ValidationPanels(panel, scans=2, most=5)
    validate(callback, trainer, [step for step in steps if not stop or step <= stop])
    if stop:
        state, callback = callback.state_dict(), ValidationPanels(panel, scans=2, most=5)
        callback.load_state_dict(state)
        validate(callback, trainer, [step for step in steps if step > stop])
    found = pictures(tmp_path)
    assert {tag: [event.step for event in events] for tag, events in found.items()} == {
        f"panels/training/{name}": [10, 250, 500, 750, 1000] for name in "ab"
    }


def test_one_picture_can_be_requested(tmp_path, cases):
    validate(ValidationPanels(panel, most=1), trainer_of(tmp_path, cases), [0, 500, 1000])
    assert len(pictures(tmp_path)["panels/training/a"]) == 1


@pytest.mark.parametrize("more", [{"sanity_checking": True}, {"is_global_zero": False}])
def test_sanity_check_and_other_processes_draw_nothing(tmp_path, cases, more):
    validate(ValidationPanels(panel), trainer_of(tmp_path, cases, **more), [1, 2])
    assert pictures(tmp_path) == {}


def test_endless_training_draws_at_every_validation(tmp_path, cases):
    validate(ValidationPanels(panel), trainer_of(tmp_path, cases, estimated_stepping_batches=float("inf")), [1, 2, 3])
    assert len(pictures(tmp_path)["panels/training/a"]) == 3


def test_training_continues_if_the_scan_files_are_missing(tmp_path, cases, caplog):
    cases[0].images[0].unlink()
    validate(ValidationPanels(panel, scans=2), trainer_of(tmp_path, cases), [1, 500])
    assert list(pictures(tmp_path)) == ["panels/training/b"]
    assert caplog.text.count("No pictures of a") == 1
