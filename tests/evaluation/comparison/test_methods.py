"""Runs read, grouped into methods, named, and refused where they cannot be paired."""

import json

import numpy as np
import pytest
import yaml
from finished_runs import LABELS, diverge, scan_names, scan_rows_of, scores_like_dice, stop_short, write_run

from segment.errors import UserError
from segment.evaluation.comparison.methods import read_methods
from segment.runs.scans import write_scans

NETWORKS = {"unet_small": {"network": {"_target_": "a.U", "width": 8}}, "mednext_s": {"network": {"_target_": "a.M"}}}


def runs_of(root, networks=("unet_small", "mednext_s"), folds=(0,), seeds=(0,), n=6):
    """A run of every network, fold and seed, named as `segment train` names them."""
    for place, network in enumerate(networks):
        for fold in folds:
            for seed in seeds:
                scores = scores_like_dice(n, 2, 100 * place + 10 * fold + seed)
                folder = root / f"balls-{network}-fold{fold}-seed{seed}"
                cases = scan_names(n, n * fold)
                others = [case for other in folds if other != fold for case in scan_names(n, n * other)]
                write_run(folder, scores, NETWORKS[network], cases=cases, fold=fold, seed=seed, train=others)
    return f"{root}/*"


def test_folds_are_concatenated_and_seeds_averaged(tmp_path):
    found = read_methods(runs_of(tmp_path, folds=(0, 1, 2), seeds=(0, 7)))
    one, other = found.methods
    assert [one.name, other.name] == ["mednext_s", "unet_small"]
    assert (len(one.runs), one.seeds, one.folds) == (6, 2, (0, 1, 2))
    assert one.scan_folds.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert one.scores.index.tolist() == other.scores.index.tolist() == [("val", case) for case in scan_names(18)]
    assert tuple(one.scores.columns) == LABELS
    expected = (scores_like_dice(6, 2, 110) + scores_like_dice(6, 2, 117)) / 2
    np.testing.assert_allclose(one.scores.to_numpy()[6:12], expected)
    np.testing.assert_allclose(one.repeats[1].to_numpy()[6:12], scores_like_dice(6, 2, 117))
    assert list(found.differences) == ["network._target_", "network.width"]
    assert found.differences["network.width"] == [None, "8"]


@pytest.mark.parametrize("by", ["run", None])
def test_one_configuration_alone_is_compared_run_by_run(tmp_path, by):
    found = read_methods(runs_of(tmp_path, ["unet_small"], seeds=(0, 1)), by=by)
    assert [method.name for method in found.methods] == ["seed=0", "seed=1"]
    assert found.differences == {"seed": ["0", "1"]}
    with pytest.raises(UserError, match="by=configuration: all 2 runs have the same configuration"):
        read_methods(f"{tmp_path}/*", by="configuration")


def test_only_settings_that_change_results_separate_methods(tmp_path):
    scores = scores_like_dice(6, 2, 0)
    same = {"data": {"root": "elsewhere", "seed": 0}, "cache": "c", "planned": {"patch_size": [8, 8]}}
    write_run(tmp_path / "a", scores, {"callbacks": {"best": {"dirpath": str(tmp_path / "a" / "checkpoints")}}})
    more = {"callbacks": {"best": {"dirpath": str(tmp_path / "b" / "checkpoints")}}}
    write_run(tmp_path / "b", scores, same | more, seed=1)
    write_run(tmp_path / "c", scores, more | {"trainer": {"precision": "bf16-mixed"}})
    found = read_methods([str(tmp_path / name) for name in "abc"])
    assert [[run.path.name for run in method.runs] for method in found.methods] == [["a", "b"], ["c"]]
    other_data = {"data": {"root": "data", "seed": 1}}  # a seed that is not the run's
    write_run(tmp_path / "d", scores, more | other_data, seed=0)
    found = read_methods([str(tmp_path / name) for name in "abd"])
    assert [[run.path.name for run in method.runs] for method in found.methods] == [["a", "b"], ["d"]]


def test_correctly_empty_seed_counts_as_perfect_where_another_has_a_false_positive(tmp_path):
    left, wrong = scores_like_dice(6, 2, 0), scores_like_dice(6, 2, 1)
    left[0, 0] = np.nan
    invented = np.zeros((6, 2), bool)
    invented[0, 0] = True
    write_run(tmp_path / "a", left, seed=0)
    write_run(tmp_path / "b", wrong, seed=1, invented=invented)
    write_run(tmp_path / "c", left, {"optimizer": {"lr": 1}})
    first = read_methods(f"{tmp_path}/*").methods[0]
    assert first.scores.iloc[0, 0] == 0.5
    assert np.isnan(read_methods(f"{tmp_path}/*").methods[1].scores.iloc[0, 0])


@pytest.mark.parametrize(
    ("configs", "names"),
    [
        ([{"optimizer": {"lr": 0.1}}, {"optimizer": {"lr": 0.2}}], ["lr=0.1", "lr=0.2"]),
        ([{"loss": {"_target_": "a.b.Dice"}}, {"loss": {"_target_": "a.b.Focal"}}], ["Dice", "Focal"]),
        ([{"network": {"a": "unet", "b": 1}}, {"network": {"a": "vnet", "b": 2}}], ["first", "second"]),
        ([{}, {}], ["first", "second"]),
    ],
)
def test_method_names_contain_the_differences(tmp_path, configs, names):
    for folder, config in zip(("first", "second"), configs, strict=True):
        write_run(tmp_path / folder, scores_like_dice(6, 2, 0), config)
    assert [method.name for method in read_methods(f"{tmp_path}/*").methods] == names


def test_given_names_and_duplicate_folder_names(tmp_path):
    for place, network in enumerate(("unet_small", "mednext_s")):
        write_run(
            tmp_path / str(place) / "run", scores_like_dice(6, 2, 0), NETWORKS[network], command=[f"network={network}"]
        )
    runs = [str(tmp_path / str(place) / "run") for place in range(2)]
    assert [method.name for method in read_methods(runs).methods] == ["unet_small", "mednext_s"]
    for run in runs:  # a sweep: every run has the command of all
        path = tmp_path / run.split("/")[-2] / "run" / "provenance.json"
        record = json.loads(path.read_text()) | {"command": ["segment", "train", "-m", "network=unet_small,mednext_s"]}
        path.write_text(json.dumps(record))
    names = [method.name for method in read_methods(runs).methods]
    assert len(set(names)) == 2
    assert [method.name for method in read_methods(runs, names=["our\nown", "x"]).methods] == ["our\ufffdown", "x"]
    for wrong in (["x"], ["x", "x"], ["x", ""]):
        with pytest.raises(UserError, match=r"names=.*2 different names"):
            read_methods(runs, names=wrong)


def test_names_use_the_fewest_distinguishing_choices(tmp_path):
    for place, (network, loss) in enumerate((("a", "x"), ("a", "y"), ("b", "x"))):
        run = write_run(tmp_path / f"run_{place}", scores_like_dice(6, 2, 0), {"n": [network], "l": [loss], "m": place})
        chosen = {"optimizer": f"of_{network}_{loss}", "network": network, "loss": loss}
        spoil(run, lambda record, chosen=chosen: record.update(choices=chosen, overrides=[]))
    runs = [str(tmp_path / f"run_{place}") for place in range(3)]
    assert [method.name for method in read_methods(runs).methods] == ["of_a_x", "of_a_y", "of_b_x"]
    assert [method.name for method in read_methods(runs[1:]).methods] == ["a", "b"]
    spoil(tmp_path / "run_0", lambda record: record["choices"].pop("optimizer"))
    assert [method.name for method in read_methods(runs).methods] == ["a x", "a y", "b x"]


def test_summary_run_is_omitted_only_if_its_folds_are_given(tmp_path):
    pattern = runs_of(tmp_path, folds=(0, 1, 2))
    for place, network in enumerate(NETWORKS):
        scores = np.concatenate([scores_like_dice(6, 2, 100 * place + 10 * fold) for fold in range(3)])
        write_run(tmp_path / f"balls-{network}-foldall", scores, NETWORKS[network] | {"fold": "all"})
    beside = read_methods(pattern).methods
    assert [[run.config["fold"] for run in method.runs] for method in beside] == [[0, 1, 2]] * 2
    alone = read_methods(f"{tmp_path}/*foldall").methods
    assert [[run.config["fold"] for run in method.runs] for method in alone] == [["all"]] * 2
    for one, other in zip(beside, alone, strict=True):
        np.testing.assert_array_equal(one.scores.to_numpy(), other.scores.to_numpy())


def test_edited_plan_file_separates_methods(tmp_path):
    for name, size, file in (("a", 8, None), ("b", 16, None), ("c", 8, "plan.yaml"), ("d", 16, "plan.yaml")):
        plans = {"plan": {"file": file}, "planned": {"patch_size": [size, size]}}
        write_run(tmp_path / name, scores_like_dice(6, 2, 0), plans, seed=size)
    decided, one, other = read_methods(f"{tmp_path}/*", by="configuration").methods
    assert [len(method.runs) for method in (decided, one, other)] == [2, 1, 1]


def test_scores_from_other_programs_are_separate_methods(tmp_path):
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        write_scans(tmp_path / name / "scans.csv", scan_rows_of(scores_like_dice(6, 2, 0), scan_names(6), fold=None))
    write_scans(tmp_path / "third.csv", scan_rows_of(scores_like_dice(6, 2, 0), scan_names(6), fold=None))
    found = read_methods([str(tmp_path / "ours" / "scans.csv"), str(tmp_path / "theirs"), str(tmp_path / "third.csv")])
    assert [method.name for method in found.methods] == ["ours", "theirs", "third"]
    assert (found.methods[0].folds, found.methods[0].scan_folds.tolist(), found.differences) == ((), [-1] * 6, {})


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (("unet-foldall-seed0", "vnet-foldall-seed0"), ["unet", "vnet"]),
        (("unet-fold0-seed0", "unet-fold0-seed1"), ["seed0", "seed1"]),
        (("fold0", "fold1"), ["fold0", "fold1"]),
    ],
)
def test_folder_names_are_shortened_without_fold_and_seed_if_still_distinct(tmp_path, folders, names):
    for name in folders:
        write_scans(tmp_path / name / "scans.csv", scan_rows_of(scores_like_dice(6, 2, 0), scan_names(6), fold=None))
    assert [method.name for method in read_methods(f"{tmp_path}/*").methods] == names


def test_cost_is_the_mean_of_values_that_all_runs_record(tmp_path):
    told = {"seconds_per_step": 1.0, "energy_kwh": 0.1, "energy_source": "measured", "peak_memory_mb": None}
    write_run(tmp_path / "a0", scores_like_dice(6, 2, 0), cost=told)
    write_run(tmp_path / "a1", scores_like_dice(6, 2, 1), seed=1, cost={"seconds_per_step": 3.0, "energy_kwh": 0.3})
    write_run(tmp_path / "b", scores_like_dice(6, 2, 1), {"optimizer": {"lr": 1}}, cost=told)
    one, other = read_methods(f"{tmp_path}/*").methods
    assert one.cost == {"seconds_per_step": 2.0, "energy_kwh": pytest.approx(0.2), "energy_source": "estimated"}
    assert other.cost == {"seconds_per_step": 1.0, "energy_kwh": 0.1, "energy_source": "measured"}


def test_different_scans_are_refused_unless_common_is_set(tmp_path):
    scores = scores_like_dice(8, 2, 0)
    write_run(tmp_path / "a", scores)
    write_run(tmp_path / "b", scores[:6], {"optimizer": {"lr": 1}}, cases=scan_names(6))
    with pytest.raises(UserError, match=r"b lacks 2 scans \(scan_006, scan_007\).*/a\. .*common=true.*the 6 that all"):
        read_methods(f"{tmp_path}/*")
    found = read_methods(f"{tmp_path}/*", common=True)
    assert [len(method.scores) for method in found.methods] == [6, 6]
    assert found.left_out == 2
    write_run(tmp_path / "c", scores, {"optimizer": {"lr": 2}}, cases=scan_names(8, 100))
    with pytest.raises(UserError, match="No scan was scored in all runs"):
        read_methods(f"{tmp_path}/*", common=True)
    write_run(tmp_path / "d", scores, {"optimizer": {"lr": 2}}, split="test")
    with pytest.raises(UserError, match=r"same scans, but as split test and split val.*split=NAME"):
        read_methods([str(tmp_path / "a"), str(tmp_path / "d")])


def test_a_missing_fold_of_one_seed_is_named(tmp_path):
    runs_of(tmp_path, ["unet_small"], folds=(0, 1), seeds=(0,))
    runs_of(tmp_path, ["mednext_s"], folds=(0,), seeds=(0,))
    with pytest.raises(
        UserError, match=r"balls-mednext_s-fold0-seed0 lacks 6 scans \(scan_006, scan_007, scan_008 and 3"
    ):
        read_methods(f"{tmp_path}/*", by="configuration")


def spoil(path, change):
    record = json.loads((path / "provenance.json").read_text())
    change(record)
    (path / "provenance.json").write_text(json.dumps(record))


@pytest.mark.parametrize("common", [False, True])
def test_training_scans_are_always_refused(tmp_path, common):
    for name, lr in (("a", 1), ("b", 2)):
        write_run(tmp_path / name, scores_like_dice(8, 2, lr), {"optimizer": {"lr": lr}})
    spoil(tmp_path / "b", lambda record: record["split"].update(train=["scan_003", "scan_099", 3]))
    with pytest.raises(UserError, match=r"/b was trained on 1 scan \(scan_003\)"):
        read_methods(f"{tmp_path}/*", common=common)


def test_scores_labelled_as_training_split_can_be_compared(tmp_path):
    for name, lr in (("a", 1), ("b", 2)):
        write_run(
            tmp_path / name, scores_like_dice(8, 2, lr), {"optimizer": {"lr": lr}}, train=scan_names(8), split="train"
        )
    assert len(read_methods(f"{tmp_path}/*").methods) == 2


@pytest.mark.parametrize("common", [False, True])
def test_different_references_are_detected_by_hash_and_by_voxel_count(tmp_path, common):
    write_run(tmp_path / "a", scores_like_dice(8, 2, 0))
    write_run(tmp_path / "b", scores_like_dice(8, 2, 1), {"optimizer": {"lr": 1}}, sha256="other")
    with pytest.raises(UserError, match=r"references of scan scan_000 differ between .*/a and .*/b: .*SHA-256"):
        read_methods(f"{tmp_path}/*", common=common)
    spoil(tmp_path / "b", lambda record: record.update(cases=["nothing", "of use"]))
    assert len(read_methods(f"{tmp_path}/*", common=common).methods) == 2
    scans = tmp_path / "b" / "scans.csv"
    scans.write_text(scans.read_text().replace(",103,90,ok", ",104,90,ok", 1))
    with pytest.raises(UserError, match=r"references of scan scan_003 differ between .*voxel counts"):
        read_methods(f"{tmp_path}/*", common=common)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("anterior", "other"), "label 2 is 'posterior' in the first and 'other' in the second"),
        (("anterior",), "label 2 is 'posterior' in the first and missing in the second"),
        (("anterior", "posterior", "more"), "label 3 is missing in the first and 'more' in the second"),
        (("posterior", "anterior"), "label 1 is 'anterior' in the first and 'posterior'"),
    ],
)
def test_different_labels_are_refused_and_named(tmp_path, labels, said):
    write_run(tmp_path / "a", scores_like_dice(6, 2, 0))
    write_run(tmp_path / "b", scores_like_dice(6, len(labels), 0), labels=labels)
    with pytest.raises(UserError, match=f"/a and .*/b do not have the same labels: {said}"):
        read_methods(f"{tmp_path}/*", common=True)


def test_duplicate_scan_in_one_method_is_refused(tmp_path):
    write_run(tmp_path / "a", scores_like_dice(6, 2, 0))
    write_run(tmp_path / "b", scores_like_dice(6, 2, 0), fold=1)
    write_run(tmp_path / "c", scores_like_dice(6, 2, 0), {"optimizer": {"lr": 1}})
    with pytest.raises(
        UserError, match=r"/a and .*/b belong to one method and seed, and both score scan scan_000.*by=run"
    ):
        read_methods(f"{tmp_path}/*")
    assert len(read_methods(f"{tmp_path}/*", by="run").methods) == 3


def test_missing_score_of_a_present_structure_is_refused(tmp_path):
    distance = np.arange(12.0).reshape(6, 2)
    for name in "ab":
        write_run(tmp_path / name, scores_like_dice(6, 2, 0), further={"hd95_mm": distance})
    assert read_methods(f"{tmp_path}/*", "hd95_mm").methods[0].scores.iloc[0].tolist() == [0, 1]
    with pytest.raises(UserError, match=r"metric=hd95: .*/a has no such column\. Did you mean 'hd95_mm'"):
        read_methods(f"{tmp_path}/*", "hd95")
    distance[3, 1] = np.nan
    write_run(tmp_path / "c", scores_like_dice(6, 2, 0), further={"hd95_mm": distance})
    with pytest.raises(UserError, match=r"/c has no score for posterior in scan scan_003"):
        read_methods(f"{tmp_path}/*", "hd95_mm")


def test_unreadable_runs_are_reported_clearly(tmp_path):
    run = write_run(tmp_path / "a", scores_like_dice(6, 2, 0))
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.yaml").write_text("seed: 0")
    empty = tmp_path / "empty"
    empty.mkdir()
    none = write_run(tmp_path / "none", np.zeros((0, 2)))
    for given, said in (
        ([run, run], "are the same"),
        ([run, run / "scans.csv"], "are the same"),
        ([run], "needs two runs"),
        ([], "needs two runs"),
        ([run, tmp_path / "gone"], "gone: no such folder or file"),
        ([run, tmp_path / "gone*"], r"gone\*: no run folder matches"),
        ([run, unfinished], r"only .*/a finished without diverging.*unfinished \(not finished\)\. Finish the"),
        ([run, empty], "empty is not a run folder"),
        ([run, none], "contains no scans"),
    ):
        with pytest.raises(UserError, match=said):
            read_methods([str(path) for path in given])
    with pytest.raises(UserError, match=r"by=seed: .*run, configuration, dataset, null"):
        read_methods([str(run), str(write_run(tmp_path / "b", scores_like_dice(6, 2, 0)))], by="seed")


def test_too_many_methods_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("segment.evaluation.comparison.methods.MOST_METHODS", 2)
    for place in range(3):
        write_run(tmp_path / f"run_{place}", scores_like_dice(6, 2, 0), {"optimizer": {"lr": place}})
    with pytest.raises(UserError, match="3 methods are more than 2"):
        read_methods(f"{tmp_path}/*")


def test_hostile_text_in_files_is_escaped(tmp_path):
    scores = scores_like_dice(6, 2, 0)
    run = write_run(tmp_path / "a", scores)
    other = write_run(tmp_path / "b", scores, {"optimizer": {"\x1b[31m": "\x1b[0m", "lr": 10**400}})
    spoil(
        other, lambda record: record.update(split=[1], command={"a": 1}, cases={"scan_000": {"label": [], "sha256": 3}})
    )
    found = read_methods([str(run), str(other)])
    assert not any("\x1b" in text for key, row in found.differences.items() for text in (key, *filter(None, row)))
    (other / "config.yaml").write_text("a: !!python/object/apply:os.system ['true']")
    with pytest.raises(UserError, match=r"b/config\.yaml is damaged"):
        read_methods([str(run), str(other)])
    (other / "config.yaml").write_text(yaml.safe_dump({"seed": {"a": [1]}, "name": ["x"], "fold": {}}))
    assert len(read_methods([str(run), str(other)]).methods) == 2


def test_valid_seeds_of_a_method_are_kept(tmp_path):
    pattern = runs_of(tmp_path, seeds=(0, 1, 2))
    diverge(tmp_path / "balls-mednext_s-fold0-seed1", 8)
    stop_short(tmp_path / "balls-mednext_s-fold0-seed2")
    found = read_methods(pattern)
    assert [[run.path.name[-5:] for run in method.runs] for method in found.methods] == [
        ["seed0"],
        ["seed0", "seed1", "seed2"],
    ]
    assert [state.reason for state in found.failed] == ["diverged at step 8", "not finished"]
    diverge(tmp_path / "balls-mednext_s-fold0-seed0", 4)
    with pytest.raises(UserError) as caught:  # rather than that the seeds of the other are compared
        read_methods(pattern)
    said = str(caught.value)
    assert "only " in said
    assert "unet_small-fold0-seed0 and 2 more with its configuration finished without diverging" in said
    for words in (
        "seed0 (diverged at step 4)",
        "seed1 (diverged at step 8)",
        "seed2 (not finished)",
        "Finish the",
        "lr",
    ):
        assert words in said


@pytest.mark.parametrize("by", ["run", None])
def test_seeds_of_one_method_are_compared_without_the_one_that_diverged(tmp_path, by):
    pattern = runs_of(tmp_path, ["unet_small"], seeds=(0, 1, 2))
    diverge(tmp_path / "balls-unet_small-fold0-seed1")
    found = read_methods(pattern, by=by)
    assert [method.name for method in found.methods] == ["seed=0", "seed=2"]
    with pytest.raises(UserError, match=r"by=configuration: all 3 runs"):
        read_methods(pattern, by="configuration")


def test_errors_about_scans_or_names_mention_omitted_runs(tmp_path):
    pattern = runs_of(tmp_path, folds=(0, 1))
    diverge(tmp_path / "balls-mednext_s-fold1-seed0")
    with pytest.raises(UserError, match=r"lacks 6 scans .*Left out: .*mednext_s-fold1-seed0 \(diverged at step 8\)\."):
        read_methods(pattern)
    assert len(read_methods(pattern, common=True).methods[0].scores) == 6
    with pytest.raises(UserError, match=r"give 2 different names.*Left out: .*mednext_s-fold1"):
        read_methods(pattern, names=["a", "b", "c"], common=True)


def test_if_no_run_is_valid_each_is_named_with_its_reason(tmp_path):
    one, other = (write_run(tmp_path / name, scores_like_dice(6, 2, 0)) for name in "ab")
    diverge(one), stop_short(other)
    with pytest.raises(UserError, match=r"none of the given runs .*a \(diverged at step 8\), .*b \(not finished\)"):
        read_methods([str(one / "scans.csv"), str(other)])
    (one.parent / "c").mkdir()
    with pytest.raises(UserError, match=r"/c is not a run folder"):
        read_methods([str(other), str(one.parent / "c")])
