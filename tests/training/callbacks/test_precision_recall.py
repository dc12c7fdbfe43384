from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from segment.data.labels import Labels
from segment.inference.predictor import ScanOutput
from segment.metrics.precision_recall import precision_recall, threshold_counts
from segment.training.callbacks.precision_recall import PrecisionRecallCurves

PLAIN = Labels({"background": 0, "left": 1, "right": 2, "ignore": 3})
REGIONS = Labels({"background": 0, "whole": [1, 2], "core": 2})


def scans(labels: Labels, number: int) -> list[tuple[torch.Tensor, np.ndarray]]:
    random = np.random.default_rng(number)
    shape = (4, 5, 6)
    references = [random.choice([0, 1, 2, 255], shape).astype(np.uint8) for _ in range(2)]
    return [(torch.from_numpy(random.random((labels.outputs, *shape))).float(), each) for each in references]


class Processes:
    """Simulates two processes: `reduce` adds the counts of the other one."""

    def __init__(self, other: torch.Tensor | int) -> None:
        self.other = other

    def reduce(self, tensor, reduce_op):
        assert reduce_op == "sum"
        return tensor + self.other


def validate(callback, folder, labels, pairs, step, other=0, sanity_checking=False):
    store = SimpleNamespace(load=lambda case: SimpleNamespace(reference=pairs[case][1]))
    loggers = [TensorBoardLogger(folder, name="", version="board"), CSVLogger(folder)]
    trainer = SimpleNamespace(
        strategy=Processes(other),
        sanity_checking=sanity_checking,
        loggers=loggers,
        global_step=step,
        datamodule=SimpleNamespace(store=store, val=range(len(pairs))),
    )
    module = SimpleNamespace(labels=labels, device=torch.device("cpu"))
    callback.on_validation_epoch_start(trainer, module)
    for index, (probabilities, _) in enumerate(pairs):
        outputs = ScanOutput(np.zeros(0), probabilities)
        callback.on_validation_batch_end(trainer, module, outputs, {"index": index}, index)
    callback.on_validation_epoch_end(trainer, module)
    loggers[0].experiment.flush()


def curves(folder) -> dict[str, dict[int, np.ndarray]]:
    events = EventAccumulator(str(folder / "board"), {"tensors": 0})
    events.Reload()
    return {
        tag: {event.step: make_ndarray(event.tensor_proto) for event in events.Tensors(tag)}
        for tag in events.Tags()["tensors"]
    }


@pytest.mark.parametrize("labels", [PLAIN, REGIONS], ids=["labels", "regions"])
def test_each_validation_writes_a_curve_over_the_scans_of_all_processes(tmp_path, labels):
    callback, expected = PrecisionRecallCurves(), {}
    for step in (10, 20):
        mine, others = scans(labels, step), scans(labels, step + 1)
        counts = [
            sum(
                threshold_counts(p, torch.from_numpy(r), labels.structures, bool(labels.regions), 255) for p, r in pairs
            )
            for pairs in (mine, others)
        ]
        validate(callback, tmp_path, labels, mine, step, other=counts[1])
        expected[step] = precision_recall(sum(counts).numpy())
    found = curves(tmp_path)
    assert list(found) == [f"precision_recall/{name}" for name in labels.structures]
    for index, name in enumerate(labels.structures):
        for step in (10, 20):
            np.testing.assert_allclose(found[f"precision_recall/{name}"][step], expected[step][index], rtol=1e-6)


def test_no_curve_for_a_sanity_check_or_without_scans(tmp_path):
    validate(PrecisionRecallCurves(), tmp_path, PLAIN, scans(PLAIN, 0), 0, sanity_checking=True)
    validate(PrecisionRecallCurves(), tmp_path, PLAIN, [], 0)
    assert curves(tmp_path) == {}
