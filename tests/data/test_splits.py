import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import KFold

from segment.data import Case, Dataset, open_dataset
from segment.data.labels import Labels
from segment.data.splits import folds, inner_fold, pick_fold, write_folds
from segment.errors import UserError


def dataset(ids, groups=None):
    cases = tuple(Case(name, (Path(name),), Path(name), group) for name, group in zip(ids, groups or [None] * len(ids)))  # noqa: B905
    return Dataset("d", Path(), cases, Labels({"background": 0, "a": 1}), ("image",))


def nnunet_folds(identifiers):
    """nnU-Net 2's generate_crossval_split, as published."""
    names = np.sort(list(identifiers))
    splitter = KFold(n_splits=5, shuffle=True, random_state=12345)
    return [{"train": list(names[a]), "val": list(names[b])} for a, b in splitter.split(names)]


def test_the_default_folds_are_nnunets():
    ids = [f"case_{number}" for number in (*range(3, 40, 2), 100, 2)]
    assert folds(dataset(ids)) == nnunet_folds(ids)
    assert folds(dataset(ids[::-1])) == nnunet_folds(ids)
    # Known by hand, so that a change of scikit-learn's shuffle is seen too.
    assert [fold["val"] for fold in folds(dataset(list("abcdefghij")))] == [
        list(v) for v in ("ah", "dj", "eg", "bi", "cf")
    ]


def test_the_folds_of_the_real_hippocampus_are_nnunets(shared_data):
    real = open_dataset(shared_data("Task04_Hippocampus"))
    assert folds(real) == nnunet_folds([case.id for case in real.cases])


def test_every_case_is_in_one_validation_fold():
    ids = [f"c{number:03d}" for number in range(23)]
    made = folds(dataset(ids), n=4, seed=7)
    assert sorted(name for fold in made for name in fold["val"]) == ids
    assert all(sorted(fold["train"] + fold["val"]) == ids for fold in made)
    assert made != folds(dataset(ids), n=4, seed=8)


def test_groups_stay_together_and_lone_groups_change_nothing():
    ids = [f"c{number:03d}" for number in range(30)]
    groups = [f"p{number % 7}" for number in range(28)] + [None, None]
    for fold in folds(dataset(ids, groups)):
        owner = dict(zip(ids, groups, strict=True))
        assert not {owner[name] for name in fold["train"]} & {owner[name] for name in fold["val"]} - {None}
        assert sorted(fold["train"] + fold["val"]) == ids
    assert folds(dataset(ids, ids[::-1])) == folds(dataset(ids))


@pytest.mark.parametrize(("cases", "wanted"), [(2, 2), (4, 4), (5, 5), (6, 5)])
def test_few_cases_make_few_folds(cases, wanted):
    assert len(folds(dataset(list("abcdefgh"[:cases])))) == wanted


def test_inner_folds_split_the_training_scans_of_a_fold_and_keep_groups_together():
    ids = [f"c{number:02d}" for number in range(30)]
    groups = {name: f"p{number % 10}" for number, name in enumerate(ids)}
    made = dataset(ids, list(groups.values()))
    for fold in folds(made):
        inner = inner_fold(made, fold, 5)
        assert sorted(inner["train"] + inner["val"]) == fold["train"]
        assert {groups[name] for name in inner["train"]}.isdisjoint({groups[name] for name in inner["val"]})
    with pytest.raises(UserError, match="at least two"):
        inner_fold(made, {"train": ids[:1], "val": ids[1:]}, 5)


@pytest.mark.parametrize(("ids", "groups"), [([], []), (["a"], [None]), (["a", "b"], ["p", "p"])])
def test_one_case_or_group_cannot_be_split(ids, groups):
    with pytest.raises(UserError, match="need at least two"):
        folds(dataset(ids, groups))
    with pytest.raises(UserError, match="at least 2"):
        folds(dataset(["a", "b"]), n=1)


@pytest.mark.parametrize("fold", [5, -1, "0", True])
def test_missing_fold_is_refused(fold):
    made = folds(dataset(list("abcdef")))
    assert pick_fold(made, 4) == made[4]
    with pytest.raises(UserError, match=f"fold={fold} does not exist: there are 5 folds, 0 to 4"):
        pick_fold(made, fold)


def test_splits_file_is_read_back(tmp_path):
    data = dataset(list("abcdef"))
    write_folds(tmp_path / "splits_final.json", folds(data))
    assert folds(data, n=2, file=tmp_path / "splits_final.json") == folds(data)
    assert [path.name for path in tmp_path.iterdir()] == ["splits_final.json"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a list of folds"),
        ([{"train": ["alpha"]}], "fold 0: 'val'"),
        ([{"train": ["alpha"], "val": []}], "fold 0: 'val'"),
        ([{"train": ["alpha"], "val": ["beta"]}, {"train": ["alpa"], "val": ["beta"]}], "fold 1.*'alpa'.*mean 'alpha'"),
        ([{"train": ["alpha", "beta"], "val": ["beta"]}], "'beta' is duplicated"),
        ([{"train": ["alpha"], "val": ["gamma"]}], "group 'p' is in both"),
    ],
)
def test_mistakes_in_a_splits_file_are_named(tmp_path, content, said):
    path = tmp_path / "s.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=rf"s\.json.*{said}"):
        folds(dataset(["alpha", "beta", "gamma"], ["p", None, "p"]), file=path)
    with pytest.raises(UserError, match="gone does not exist"):
        folds(dataset(["alpha", "beta"]), file=tmp_path / "gone")
