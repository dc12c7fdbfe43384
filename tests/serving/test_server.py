"""The command itself: a process that listens, and workers that are processes."""

import os
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from forked import Forked, fork_segment
from served_models import OLD, SCAN

from segment.commands import serve
from segment.config.compose import compose
from segment.errors import UserError


@pytest.fixture
def server(tmp_path):
    """Starts ``segment serve`` with more words, and waits until it is ready: the process and its address."""
    started: list[Forked] = []

    def start(*words: str) -> tuple[Forked, str]:
        program = fork_segment(
            "serve", f"model={OLD / 'seed0'}", "port=0", *words, folder=tmp_path, output=tmp_path / "out"
        )
        started.append(program)
        deadline = time.monotonic() + 120
        while True:
            assert program.poll() is None, program.errors
            assert time.monotonic() < deadline, program.errors
            found = re.search(r"http://\S+:\d+", program.printed)
            if found and ready(found[0]):
                return program, found[0]
            time.sleep(0.1)

    yield start
    for program in started:
        if program.poll() is None:
            program.kill()


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False


def post(url: str, content: bytes) -> httpx.Response:
    return httpx.post(f"{url}/predict", content=content, trust_env=False, timeout=120)


def test_curl_and_httpx_get_masks_and_sigterm_finishes_what_was_begun(server, tmp_path):
    (tmp_path / "uploads").mkdir()
    program, url = server(f"folder={tmp_path / 'uploads'}")
    expected = post(url, SCAN.read_bytes())
    assert expected.status_code == 200
    if curl := shutil.which("curl"):
        sent = [curl, "-sf", "--noproxy", "*", "-F", f"file=@{SCAN}", f"{url}/predict"]
        assert subprocess.run(sent, capture_output=True, timeout=60).stdout == expected.content
    with ThreadPoolExecutor(8) as pool:
        begun = [pool.submit(post, url, SCAN.read_bytes()) for _ in range(8)]
        while "segment_jobs_total" not in (text := httpx.get(f"{url}/metrics", trust_env=False).text) or not re.search(
            r"segment_running [1-9]", text
        ):
            time.sleep(0.01)
        os.kill(program.pid, signal.SIGTERM)
        answers = [one.result() for one in begun]
    assert {(one.status_code, one.content) for one in answers if one.status_code != 503} == {(200, expected.content)}
    assert program.wait() == 143
    assert "Traceback" not in program.errors
    assert not list((tmp_path / "uploads").iterdir())


@pytest.mark.slow
def test_a_killed_worker_loses_no_scan(server):
    program, url = server()
    expected = post(url, SCAN.read_bytes()).content
    with ThreadPoolExecutor(16) as pool:
        sent = [pool.submit(post, url, SCAN.read_bytes()) for _ in range(60)]
        time.sleep(1)
        (worker,) = [one for one in psutil.Process(program.pid).children() if "spawn_main" in " ".join(one.cmdline())]
        worker.kill()
        answers = [one.result() for one in sent]
    # A scan is answered or refused with a reason, never answered wrongly.
    assert {one.status_code for one in answers} <= {200, 429, 503}
    assert {one.content for one in answers if one.status_code == 200} == {expected}
    assert sum(one.status_code == 200 for one in answers) >= 50
    assert post(url, SCAN.read_bytes()).content == expected


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("port=70000", "port=70000: give a whole number from 0 to 65535"),
        ("queue=0", "queue=0: give a whole number"),
        ("engine=fast", "there is no such engine"),
        ("auth=missing", "auth=missing: cannot be read"),
        ("folder=missing", "folder=missing: there is no such folder"),
        ("model=missing", "no model.json there"),
        ("host=300.0.0.1", "cannot be listened on"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(override, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(said)):
        serve.run(compose("serve", [f"model={OLD / 'seed0'}", override]))
