import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from segment.errors import UserError
from segment.parallel import MANY, Room, cores, on_all_cores, overlapped

many_cores = pytest.mark.skipif(cores() < 2 or sys.platform != "linux", reason="processes need two cores")


def refuse_the_third(item):
    if item == 3:
        raise UserError("the third")
    return item


@pytest.mark.parametrize("n", [0, 1, MANY - 1, MANY, 50])
def test_results_come_in_the_order_of_the_items(n):
    def square(item):
        time.sleep(0.002 * (item % 3))
        return item**2

    assert list(on_all_cores(square, range(n))) == [item**2 for item in range(n)]


@pytest.mark.parametrize("n", [5, 30])
def test_first_error_is_raised_unchanged(n):
    with pytest.raises(UserError, match=r"^the third$"):
        list(on_all_cores(refuse_the_third, range(n)))


@many_cores
def test_many_items_are_distributed_over_processes():
    found = set(on_all_cores(lambda item: time.sleep(0.01) or os.getpid(), range(MANY)))
    assert len(found) == cores()
    assert os.getpid() not in found


@many_cores
def test_killed_process_is_reported():
    def die(item):
        if item == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UserError, match="memory"):
        list(on_all_cores(die, range(MANY)))


@many_cores
def test_processes_end_with_their_parent(tmp_path):
    code = f"""
    import os, pathlib, time
    from segment.parallel import MANY, on_all_cores

    def stay(item):
        pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()
        time.sleep(60)

    list(on_all_cores(stay, range(MANY)))
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(list(tmp_path.iterdir())) == cores())
    finally:
        parent.kill()
        parent.wait()
    children = [Path("/proc", file.name) for file in tmp_path.iterdir()]
    wait_for(lambda: not any(alive(child) for child in children))


def alive(process: Path) -> bool:
    try:
        return (process / "stat").read_text().split(")")[-1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("n", [6, MANY])
def test_room_is_shared_by_threads_and_processes(n):
    room, held, most = Room(10), multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)

    def hold(item):
        with room.taken(6):
            with held:
                held.value += 1
                most.value = max(most.value, held.value)
            time.sleep(0.005)
            with held:
                held.value -= 1

    list(on_all_cores(hold, range(n)))
    assert most.value == 1


def test_room_blocks_the_next_request_and_admits_an_oversized_one_alone():
    room, order = Room(10), []

    def enter(voxels):
        with room.taken(voxels):
            order.append(voxels)

    with room.taken(6):
        enter(4)
        waiting = [threading.Thread(target=enter, args=(voxels,), daemon=True) for voxels in (5, 100)]
        for thread in waiting:
            thread.start()
        time.sleep(0.05)
        assert order == [4]
    for thread in waiting:
        thread.join(10)
    assert sorted(order) == [4, 5, 100]


def test_the_next_item_is_read_and_the_last_is_written_while_one_is_processed():
    threads: dict[str, set[int]] = {"read": set(), "work": set(), "write": set()}
    began = [threading.Event() for _ in range(5)]
    written: list[tuple[int, int]] = []

    def read(item):
        threads["read"].add(threading.get_ident())
        began[item].set()
        return item * 10

    def work(item, value):
        threads["work"].add(threading.get_ident())
        if item < 4:
            assert began[item + 1].wait(5)
        return value + 1

    def write(item, result):
        threads["write"].add(threading.get_ident())
        written.append((item, result))

    assert list(overlapped(read, work, write, range(5))) == [0, 1, 2, 3, 4]
    assert written == [(item, 10 * item + 1) for item in range(5)]
    assert len(set.union(*threads.values())) == 3
    assert list(overlapped(read, work, write, [])) == []


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_what_came_before_an_error_is_written(stage):
    written: list[int] = []
    stages = [lambda item: item, lambda item, value: value, lambda item, result: written.append(item)]
    failing = stages[stage]
    stages[stage] = lambda item, *rest: refuse_the_third(item) and failing(item, *rest)
    done: list[int] = []
    with pytest.raises(UserError, match=r"^the third$"):
        done.extend(item for item in overlapped(*stages, [1, 2, 3, 4]))
    assert written == [1, 2]
