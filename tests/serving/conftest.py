"""A server started by the command."""

import re
import time

import httpx
import pytest
from forked import Forked, fork_segment
from served_models import OLD


@pytest.fixture
def server(tmp_path):
    """Starts ``segment serve`` with more words, and waits until it is ready: the process and its address."""
    started: list[Forked] = []

    def start(*words: str, model: object = OLD / "seed0") -> tuple[Forked, str]:
        given = (f"model={model}", "port=0", *words)
        program = fork_segment("serve", *given, folder=tmp_path, output=tmp_path / "out")
        started.append(program)
        deadline = time.monotonic() + 120
        while True:
            assert program.poll() is None, program.errors
            assert time.monotonic() < deadline, program.errors
            printed = program.printed if program.output.exists() else ""
            found = re.search(r"http://\S+:\d+", printed)
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
