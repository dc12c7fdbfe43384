"""Processes that share work and folders."""

import multiprocessing
import os
import time

from segment.locks import holding
from segment.parallel import with_others


def test_each_item_is_worked_on_once_by_several_processes(tmp_path):
    def work(item: int) -> str:
        result = tmp_path / f"result-{item}"
        if not result.exists():
            with (tmp_path / "log").open("a") as log:
                log.write(f"{item} {os.getpid()}\n")
            end = time.monotonic() + 20
            while len({row.split()[1] for row in (tmp_path / "log").read_text().splitlines()}) < 2:
                assert time.monotonic() < end, "no other process takes an item"
                time.sleep(0.01)
            result.write_text(f"{item}")
        return result.read_text()

    def everything() -> None:
        found = dict(with_others(work, range(12), lambda item: tmp_path / "locks" / f"{item}", processes=False))
        assert found == {item: f"{item}" for item in range(12)}

    context = multiprocessing.get_context("fork")
    started = [context.Process(target=everything) for _ in range(3)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0, 0]
    rows = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(int(item) for item, _ in rows) == list(range(12))
    assert len({process for _, process in rows}) > 1
    assert list((tmp_path / "locks").iterdir()) == []


def test_a_lock_ends_with_its_process(tmp_path):
    def killed() -> None:
        with holding(tmp_path / "lock"):
            os._exit(1)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert (tmp_path / "lock").exists()
    with holding(tmp_path / "lock", wait=False) as first, holding(tmp_path / "lock", wait=False) as second:
        assert (first, second) == (True, False)
