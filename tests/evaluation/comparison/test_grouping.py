"""Runs of one configuration form one method, also where different versions of the code wrote them."""

import json

import pytest
from finished_runs import scores_like_dice, write_run

from segment.evaluation.comparison.methods import read_methods

CODE = {"code": {"commit": "new"}, "versions": {"segment": "0.2.0"}, "choices": {"loss": "dice_ce"}, "overrides": []}
OLD_CODE = CODE | {"code": {"commit": "old"}}


@pytest.mark.parametrize(
    ("code", "more", "methods"),
    [
        # (provenance of the newer seed, its keys that the older lacks, number of methods)
        (CODE, {}, 1),
        (CODE, {"loss": {"later": 0.5, "unset": None}}, 1),  # a new key that nobody set
        (CODE | {"overrides": ["loss.later=0.5"]}, {"loss": {"later": 0.5}}, 2),
        (CODE | {"overrides": ["+loss.later=0.5"]}, {"loss": {"later": 0.5}}, 2),
        (CODE | {"choices": {"loss": "dice"}}, {"loss": {"later": 0.5}}, 2),
        (CODE, {"loss": {"later": 0.5}, "optimizer": {"lr": 0.1}}, 2),  # a value that both have
        (OLD_CODE, {"loss": {"later": 0.5}}, 2),  # one version: the key is missing on purpose
        ({}, {"loss": {"later": 0.5}}, 2),  # not known which version
        # Keys whose former value is known.
        (CODE, {"plan": {"from": "all"}, "sampler": {"exact": False}}, 1),
        (CODE, {"plan": {"from": "train"}}, 2),
    ],
)
def test_seeds_of_two_versions_are_one_method_unless_a_differing_key_was_set(tmp_path, code, more, methods):
    for seed, (record, config) in enumerate([(OLD_CODE, {}), (code, more)]):
        run = write_run(tmp_path / f"a{seed}", scores_like_dice(6, 2, seed), config, seed=seed)
        there = json.loads((run / "provenance.json").read_text())
        (run / "provenance.json").write_text(json.dumps(there | record))
    write_run(tmp_path / "b", scores_like_dice(6, 2, 9), {"network": {"width": 8}})
    found = read_methods([str(tmp_path / name) for name in ("a0", "a1", "b")], by="configuration")
    assert len(found.methods) == methods + 1
