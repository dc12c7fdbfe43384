"""A disk that would be full is told before it is."""

from types import SimpleNamespace

import pytest

from segment.data import open_dataset
from segment.errors import UserError
from segment.files import hash_files
from segment.preprocessing import forecast
from segment.preprocessing.forecast import MEASURED
from segment.preprocessing.plan import Plan
from segment.preprocessing.store import Store

SCANS = MEASURED + 4


def test_preparing_stops_where_the_others_will_not_fit_and_goes_on_with_more_space(make_dataset, tmp_path, monkeypatch):
    dataset = open_dataset(make_dataset(tmp_path / "scans", n=SCANS))
    plan = Plan((1.0, 1.0, 1.0), (8, 8, 8), 1, ("zscore",))
    store = Store(tmp_path / "cache" / "prepared", dataset, plan, hash_files(f for c in dataset.cases for f in c.files))
    free = SimpleNamespace(free=10_000)  # of which a scan takes about as many
    monkeypatch.setattr(forecast.shutil, "disk_usage", lambda folder: free)
    done: list[int] = []
    with pytest.raises(
        UserError, match=rf"cache={tmp_path / 'cache'}: .* measured on {MEASURED} of them, but only 0\.0"
    ):
        store.prepare(dataset.cases, done.append)
    assert max(done) == MEASURED - 1
    whole = [case for case in dataset.cases if (store.path(case) / "entry.txt").exists()]
    assert len(whole) >= MEASURED
    free.free = store.size(whole)  # enough for the others
    store.prepare(dataset.cases, done.append)
    assert max(done) == SCANS


def test_few_scans_are_prepared_until_the_disk_is_full(tmp_path):
    forecast.require_disk(tmp_path, 1 << 60, [(1, 1)] * (MEASURED - 1))
