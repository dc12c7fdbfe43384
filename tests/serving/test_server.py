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
from served_models import OLD, SCAN

from segment.commands import serve
from segment.config.compose import compose
from segment.errors import UserError


def post(url: str, content: bytes) -> httpx.Response:
    return httpx.post(f"{url}/predict", content=content, trust_env=False, timeout=120)


def post_or_too_late(url: str, content: bytes) -> httpx.Response:
    """The answer; 503 where the server listens no more."""
    try:
        return post(url, content)
    except httpx.ConnectError:
        return httpx.Response(503)


def test_a_folder_as_sagemaker_s_is_served_and_sigterm_finishes_what_was_begun(server, tmp_path):
    (tmp_path / "uploads").mkdir()
    model = tmp_path / "opt/ml/model"  # as SageMaker unpacks a model's archive
    shutil.copytree(OLD / "seed0" / "model", model)
    program, url = server(f"folder={tmp_path / 'uploads'}", model=model)
    assert httpx.get(f"{url}/ping", trust_env=False, timeout=2).status_code == 200
    expected = httpx.post(f"{url}/invocations", content=SCAN.read_bytes(), trust_env=False, timeout=120)
    assert expected.status_code == 200
    if curl := shutil.which("curl"):
        sent = [curl, "-sf", "--noproxy", "*", "-F", f"file=@{SCAN}", f"{url}/predict"]
        assert subprocess.run(sent, capture_output=True, timeout=60).stdout == expected.content
    with ThreadPoolExecutor(8) as pool:
        begun = [pool.submit(post_or_too_late, url, SCAN.read_bytes()) for _ in range(8)]
        while "segment_jobs_total" not in (text := httpx.get(f"{url}/metrics", trust_env=False).text) or not re.search(
            r"segment_running [1-9]", text
        ):
            time.sleep(0.01)
        os.kill(program.pid, signal.SIGTERM)
        answers = [one.result() for one in begun]
    assert {(one.status_code, one.content) for one in answers if one.status_code != 503} == {(200, expected.content)}
    assert program.wait() == 143
    assert program.errors.splitlines()[-1] == "segment: stopped by SIGTERM."
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


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_jobs_are_predicted_by_the_next_server(number, server, tmp_path):
    given = (f"folder={tmp_path / 'jobs'}", "stop_timeout=0.01")
    (tmp_path / "jobs").mkdir()
    program, url = server(*given)
    expected = post(url, SCAN.read_bytes()).content
    with httpx.Client(trust_env=False) as client:
        ids = [client.post(f"{url}/jobs", content=SCAN.read_bytes()).json()["id"] for _ in range(12)]
    os.kill(program.pid, number)
    program.wait()
    program, url = server(*given)
    with httpx.Client(base_url=url, trust_env=False) as client:
        while any(client.get(f"/jobs/{id}").json()["state"] in ("queued", "running") for id in ids):
            time.sleep(0.1)
        assert {client.get(f"/jobs/{id}/mask").content for id in ids} == {expected}
        with pytest.raises(UserError, match="another server is using it"):
            serve.run(compose("serve", [f"model={OLD / 'seed0'}", "port=0", *given]))
        for id in ids:
            client.delete(f"/jobs/{id}")
    os.kill(program.pid, signal.SIGTERM)
    program.wait()
    assert not list((tmp_path / "jobs").iterdir())


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
