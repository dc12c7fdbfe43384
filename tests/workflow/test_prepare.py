"""What precedes a training: checked, planned and prepared once, by as many processes as there are."""

import itertools
import re
import sys

import pytest

from segment import remembered
from segment.commands import prepare as prepare_verb
from segment.config.compose import compose_command
from segment.config.experiment import read_experiment
from segment.data.case import Case
from segment.errors import UserError
from segment.preprocessing import chunks, store
from segment.workflow.prepare import Work, prepare, subset


@pytest.mark.usefixtures("without_pages")
def test_a_cache_that_others_can_write_is_said(make_dataset, run_train, tmp_path, capsys):
    root = make_dataset(tmp_path / "scans", n=4)
    run_train(root, "own", "trainer.max_steps=2")
    assert "other users can write" not in capsys.readouterr().err
    (tmp_path / "cache" / "prepared").chmod(0o777)
    run_train(root, "shared", "trainer.max_steps=2")
    assert f"Note: other users can write to {tmp_path / 'cache'}," in capsys.readouterr().err


def test_a_second_start_reads_no_bytes_of_data(make_dataset, run_train, tmp_path, monkeypatch):
    root = make_dataset(tmp_path / "scans", n=4)
    monkeypatch.setattr(remembered, "SETTLED", -1)  # files count as unchanged for long
    opened: list[str] = []
    watching = [True]

    def watch(event: str, arguments: tuple) -> None:
        if watching and event == "open" and str(arguments[0]).endswith((".nii.gz", ".b2nd", ".npy")):
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)  # nothing removes it
    checksums = []
    monkeypatch.setattr(store, "checksum", lambda path: checksums.append(path) or chunks.checksum(path))

    def start() -> Work:
        words = ["data=auto", f"data.root={root}", f"cache={tmp_path / 'cache'}", f"output={tmp_path / 'run'}"]
        config, command = compose_command("train", words)
        return prepare(read_experiment(config, command))

    first = start()
    assert {name.rsplit("/", 1)[0] for name in opened} >= {str(root / "imagesTr"), str(root / "labelsTr")}
    assert checksums
    opened.clear()
    checksums.clear()
    second = start()
    watching.clear()
    assert (opened, checksums) == ([], [])
    assert second.hashes == first.hashes
    (damaged := next(second.store.folder.glob("*/image.b2nd"))).write_bytes(b"")
    assert start().store.load(second.train[0]).image[...].any()
    assert damaged.stat().st_size > 0


def test_shares_of_an_array_prepare_each_scan_once(make_dataset, tmp_path, monkeypatch, capsys):
    root = make_dataset(tmp_path / "scans", n=5)
    written = []
    real = store.Store._write
    monkeypatch.setattr(store.Store, "_write", lambda own, case, to: written.append(case.id) or real(own, case, to))
    given = ["data=auto", f"data.root={root}", f"cache={tmp_path / 'cache'}"]
    for share, count in (("1/2", 3), ("2/2", 2), ("2/2", 2)):
        prepare_verb.run(*compose_command("prepare", [*given, f"shard={share}"]))
        assert f"share {share}: {count} of 5 scans prepared in" in capsys.readouterr().out
    assert sorted(written) == [f"case_{letter}{n:02d}" for n, letter in enumerate("abcde")]
    for wrong in ("0/2", "3/2", "a"):
        with pytest.raises(UserError, match=f"shard={wrong}"):
            prepare_verb.run(*compose_command("prepare", [*given, f"shard={wrong}"]))


def test_a_store_in_float16_is_said_to_be_inexact(make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "scans", n=2)
    given = ["data=auto", f"data.root={root}", f"cache={tmp_path / 'cache'}"]
    for dtype in ("float32", "float16"):
        prepare_verb.run(*compose_command("prepare", [*given, f"cache_dtype={dtype}"]))
        said = re.search(r"Stored in float16: off by at most ([\d.e-]+), in units of norm", capsys.readouterr().out)
        assert (said is not None) == (dtype == "float16")
    assert said
    assert 0 < float(said[1]) < 0.01
    with pytest.raises(UserError, match=r"cache_dtype=float61: there is no such cache_dtype\. Did you mean"):
        prepare_verb.run(*compose_command("prepare", [*given, "cache_dtype=float61"]))


def test_smaller_sets_of_labelled_scans_are_parts_of_larger_ones():
    cases = [Case(f"scan{n}", ()) for n in range(9)]
    for seed in (0, 1):
        sets = [{case.id for case in subset(cases, count, seed)} for count in range(1, 10)]
        assert [len(one) for one in sets] == list(range(1, 10))
        assert all(small < large for small, large in itertools.pairwise(sets))
    assert subset(cases, 4, 0) != subset(cases, 4, 1)
    with pytest.raises(UserError, match="labelled=10: the fold has 9 training scans"):
        subset(cases, 10, 0)
