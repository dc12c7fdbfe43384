from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

from segment.data.case import Case, Dataset
from segment.data.labels import Labels
from segment.errors import UserError
from segment.inference.predictor import ScanOutput
from segment.metrics.hausdorff import HausdorffDistance
from segment.metrics.metric import DIAGONAL, Metric
from segment.metrics.standard import STANDARD
from segment.training.callbacks.scan_metrics import ScanMetrics

LABELS = {"background": 0, "head": 10, "tail": 20}


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Two scans of one row of eight voxels: head in both, tail in the first only."""
    rows = {"a": [10, 10, 10, 10, 20, 20, 0, 0], "b": [10, 10, 0, 0, 0, 0, 0, 0]}
    cases = []
    for name, row in rows.items():
        file = tmp_path / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(np.array(row, np.uint8).reshape(8, 1, 1), np.eye(4)), file)
        cases.append(Case(name, (file,), file))
    return Dataset("two", tmp_path, tuple(cases), Labels(LABELS), ("ct",))


def scan(*row: int) -> np.ndarray:
    return np.array(row, np.uint8).reshape(1, 1, 8)


def validate(dataset: Dataset, predictions: list[np.ndarray], sanity_checking: bool = False, metrics=STANDARD):
    """Run an epoch of the callback without a Trainer; returns what was logged for the module and for the loggers."""
    module_log, logger_log = [], []
    logger = SimpleNamespace(log_metrics=lambda scores, step: logger_log.append((scores, step)))
    trainer = SimpleNamespace(world_size=1, sanity_checking=sanity_checking, loggers=[logger, logger], global_step=40)
    module = SimpleNamespace(log_dict=lambda scores, **options: module_log.append(scores))
    callback = ScanMetrics(dataset, dataset.cases, metrics)
    for epoch in ([np.zeros_like(prediction) for prediction in predictions], predictions):  # the second begins anew
        module_log.clear()
        logger_log.clear()
        callback.on_validation_epoch_start(trainer, module)
        for index, prediction in enumerate(epoch):
            callback.on_validation_batch_end(
                trainer, module, ScanOutput(prediction, torch.zeros(0)), {"index": index}, index
            )
        callback.on_validation_epoch_end(trainer, module)
    return module_log, logger_log


def test_scores_are_logged_by_scan_label_and_foreground(dataset):
    predictions = [scan(1, 1, 0, 0, 2, 2, 0, 0), scan(1, 1, 0, 0, 0, 0, 0, 0)]
    module_log, logger_log = validate(dataset, predictions)
    head = (2 / 3 + 1) / 2  # tail is in neither mask of the second scan, which is left out of its mean
    assert module_log == [
        {
            "val/foreground_dice": pytest.approx((head + 1) / 2),
            "val/foreground_iou": pytest.approx(((1 / 2 + 1) / 2 + 1) / 2),
        }
    ]
    assert len(logger_log) == 2  # every logger
    scores, step = logger_log[0]
    assert step == 40
    assert scores == module_log[0] | {
        "val/head_dice": pytest.approx(head),
        "val/head_iou": pytest.approx(3 / 4),
        "val/tail_dice": 1,
        "val/tail_iou": 1,
        "scan/a/head_dice": pytest.approx(2 / 3),
        "scan/a/head_iou": pytest.approx(1 / 2),
        "scan/a/tail_dice": 1,
        "scan/a/tail_iou": 1,
        "scan/b/head_dice": 1,
        "scan/b/head_iou": 1,
    }


def test_missed_and_invented_structures_score_zero(dataset):
    module_log, logger_log = validate(dataset, [scan(1, 1, 1, 1, 0, 0, 0, 0), scan(1, 1, 2, 0, 0, 0, 0, 0)])
    assert logger_log[0][0]["scan/a/tail_dice"] == 0
    assert logger_log[0][0]["scan/b/tail_dice"] == 0
    assert module_log[0]["val/foreground_dice"] == pytest.approx(0.5)


def test_sanity_check_is_not_logged(dataset):
    module_log, logger_log = validate(dataset, [scan(*[0] * 8)], sanity_checking=True)
    assert module_log[0]["val/foreground_dice"] == 0
    assert logger_log == []


def test_rank_without_scans_logs_nothing(dataset):
    assert validate(dataset, []) == ([], [])


def test_foreground_score_is_finite_for_scans_without_structures(dataset):
    # Whoever watches this figure to keep the best checkpoint must not compare with NaN.
    empty = Dataset("two", dataset.root, dataset.cases, Labels(LABELS | {"third": 30}), ("ct",))
    module_log, logger_log = validate(empty, [scan(1, 1, 1, 1, 2, 2, 0, 0)])
    assert module_log[0]["val/foreground_dice"] == 1
    assert not any("third" in key for key in logger_log[0][0])
    nib.save(nib.Nifti1Image(np.zeros((8, 1, 1), np.uint8), np.eye(4)), dataset.cases[0].label)
    module_log, _ = validate(dataset, [scan(*[0] * 8)])
    assert module_log[0]["val/foreground_dice"] == 0


class Length(Metric):
    name, title, unit = "length", "Length", "mm"
    higher_is_better, perfect, penalty, needs_spacing = False, 0.0, DIAGONAL, True

    def compute(self, prediction, reference, spacing):
        return 0.0 if prediction.sum() == reference.sum() else float("nan")


def test_unscored_distance_counts_as_worst(dataset):
    for case in dataset.cases:
        nib.save(nib.Nifti1Image(np.zeros((8, 1, 1), np.uint8), np.diag([3.0, 4, 0.1, 1])), case.label)
    module_log, logger_log = validate(dataset, [scan(*[0] * 8)] * 2, metrics=(Length(),))
    assert module_log == [{"val/foreground_length": pytest.approx(np.linalg.norm([24, 4, 0.1]))}]
    assert logger_log == [(module_log[0], 40)] * 2
    module_log, logger_log = validate(dataset, [scan(1, *[0] * 7)] * 2, metrics=(Length(),))
    assert logger_log[0][0]["val/head_length"] == pytest.approx(np.linalg.norm([24, 4, 0.1]))


def test_metric_without_a_number_is_reported_with_the_scan(dataset):
    with pytest.raises(UserError, match="b: the metric length returns nan"):
        validate(dataset, [scan(1, 1, 1, 1, 2, 2, 0, 0), scan(1, *[0] * 7)], metrics=(Length(),))


def test_costly_metrics_are_left_to_the_final_scoring_unless_something_follows_them(dataset):
    callback = ScanMetrics(dataset, dataset.cases, (*STANDARD, HausdorffDistance(), HausdorffDistance(100)))

    def scored(callbacks=(), schedule=None) -> list[str]:
        followers = [SimpleNamespace(monitor=name) for name in callbacks]
        configs = [SimpleNamespace(monitor=schedule)]
        trainer = SimpleNamespace(callbacks=[callback, *followers], lr_scheduler_configs=configs)
        callback.on_fit_start(trainer, None)
        return [metric.name for metric in callback.metrics]

    assert scored() == ["dice", "iou"]
    assert scored(["val/foreground_dice", "val/foreground_hd95_mm"]) == ["dice", "iou", "hd95_mm"]
    assert scored(schedule="val/foreground_hd100_mm") == ["dice", "iou", "hd100_mm"]
