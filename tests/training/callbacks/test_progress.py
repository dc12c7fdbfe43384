from types import SimpleNamespace

import pytest

from segment.training.callbacks import progress
from segment.training.callbacks.progress import TrainingProgress


@pytest.mark.parametrize(
    ("steps", "said"), [(10_009, "about 5.6 h for 9999 steps of 2 s, and validation\n"), (100, "")]
)
def test_after_ten_steps_a_log_says_how_long_the_others_take(monkeypatch, capsys, steps, said):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    trainer = SimpleNamespace(global_step=0, estimated_stepping_batches=steps)
    bar = TrainingProgress()
    bar.on_train_start(trainer, None)
    clock.now = 60  # of the first step, in which kernels are chosen
    for step in range(1, 30):
        for _ in range(2):  # batches that are accumulated
            trainer.global_step = step
            bar.on_train_batch_end(trainer, None, None, None, 0)
        clock.now += 2
    assert capsys.readouterr().err == said
