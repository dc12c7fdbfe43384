"""Notes on prediction settings that differ between methods."""

from pathlib import Path

import pandas as pd
import pytest

from segment.evaluation.comparison.methods import Method
from segment.evaluation.comparison.notes import different_settings
from segment.runs.folder import RunFolder


def method(name: str, *runs: tuple[dict, dict]) -> Method:
    """A method of runs with these protocols and configurations."""
    folders = tuple(RunFolder(Path(name), pd.DataFrame(), {"protocol": told}, config, {}) for told, config in runs)
    return Method(name, folders, pd.DataFrame(), (), pd.Series(dtype=int).to_numpy(), 1, (), {})


def trained(precision: str) -> dict:
    return {"trainer": {"precision": precision}}


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (({"test_time_augmentation": "mirror all"}, {}), ({"test_time_augmentation": "none"}, {}),
         ["test-time augmentation mirror all against none"]),
        (({"overlap": 0.5}, {}), ({"overlap": 0.75}, {}), ["window overlap 0.5 against 0.75"]),
        (({"overlap": 0.5, "test_time_augmentation": False}, {}), ({"test_time_augmentation": "none"}, {}), []),
        (({"weights": "last"}, {}), ({"weights": "best"}, {}), ["weights last against best"]),
        (({"split": "val", "fold": 0, "batch_size": 4}, {}), ({"split": "test", "fold": 1, "batch_size": 1}, {}), []),
        (({"precision": "bf16"}, {}), ({}, trained("32-true")), ["precision bf16 against fp32"]),
        (({"precision": "bf16"}, trained("32-true")), ({}, trained("bf16-mixed")), []),
        (({"precision": "32-true"}, {}), ({"precision": "fp32"}, {}), []),
        (({"precision": "fp32"}, {}), ({}, {}), []),
        (({"precision": "fp32"}, {}), ({}, trained("auto")), []),
        (({}, {"trainer": "odd"}), ({}, trained("16-mixed")), []),
        (({"postprocessing": "a: holes filled"}, {}), ({}, {"fold": 0}),
         ["post-processing a: holes filled against none"]),
        (({"postprocessing": "none of 3 steps kept"}, {"fold": 0}), ({}, {"fold": 0}), []),
        (({"decision": "dice"}, {"fold": 0}), ({}, {"fold": 0}), ["decision dice against argmax"]),
        (({"decision": "dice"}, {"fold": 0}), ({}, {}), []),
    ],
)  # fmt: skip
def test_differing_prediction_settings_are_noted(one, other, said):
    assert different_settings([method("A", one), method("B", other)]) == said
    assert different_settings([method("A", one, one), method("B", other)]) == said


def test_each_setting_lists_the_methods_that_use_it():
    told = [("A", "mirror all"), ("B", "none"), ("C", "none"), ("D", None)]
    methods = [method(name, ({"test_time_augmentation": value}, {})) for name, value in told]
    assert different_settings(methods) == ["test-time augmentation mirror all (A) against none (B, C)"]
    more = [method(str(place), ({"test_time_augmentation": "none"}, {})) for place in range(9)]
    assert different_settings([*methods, *more])[0].endswith("against none (11 methods)")


def test_settings_that_vary_equally_within_methods_are_not_noted():
    both = (({"precision": "bf16"}, {}), ({"precision": "fp32"}, {}))
    assert different_settings([method("A", *both), method("B", *both[::-1])]) == []
    assert different_settings([method("A", *both), method("B", both[0])]) == ["precision bf16 and fp32 against bf16"]
