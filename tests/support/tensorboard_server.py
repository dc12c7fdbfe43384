"""The real TensorBoard on a folder of runs, asked over its HTTP interface."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# No proxy: the server is on this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Board:
    """A running TensorBoard; `url` is its address."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: Any) -> Any:
        """JSON answer of a GET, e.g. ``get("scalars/scalars", run="a", tag="loss")`` of a plugin."""
        return json.loads(self.bytes(path, **query))

    def image(self, run: str, tag: str) -> bytes:
        """The file of the last picture under a tag."""
        query = self.get("images/images", run=run, tag=tag)[-1]["query"]
        return self.bytes("images/individualImage", **dict(urllib.parse.parse_qsl(query)))

    def bytes(self, path: str, **query: Any) -> bytes:
        """Answer of a GET as it is."""
        url = f"{self.url}/data/plugin/{path}?{urllib.parse.urlencode(query)}"
        with _OPENER.open(url, timeout=20) as answer:
            return answer.read()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """JSON answer of a POST with a JSON body."""
        request = urllib.request.Request(
            f"{self.url}/data/plugin/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with _OPENER.open(request, timeout=20) as answer:
            return json.loads(answer.read())

    def sessions(self) -> list[dict[str, Any]]:
        """The lines of the table of hyper-parameters: run (``name``), ``hparams`` and ``metrics`` (tag to value)."""
        columns = self.post("hparams/experiment", {"experimentName": "", "includeMetrics": True})
        request = {
            "experimentName": "",
            "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
            "colParams": [
                *({"hparam": info["name"], "includeInResult": True} for info in columns["hparamInfos"]),
                *({"metric": info["name"]} for info in columns["metricInfos"]),
            ],
            "startIndex": 0,
            "sliceSize": 1000,
        }
        groups = self.post("hparams/session_groups", request)["sessionGroups"]
        return [
            {
                "name": session["name"],
                "hparams": group["hparams"],
                "metrics": {value["name"]["tag"]: value["value"] for value in session.get("metricValues", [])},
            }
            for group in groups
            for session in group["sessions"]
        ]


@contextlib.contextmanager
def serve(logdir: Path, timeout: float = 60) -> Iterator[Board]:
    """Start TensorBoard on a free port, wait until it has read the runs, and stop it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1"]
    log = logdir.parent / f"tensorboard-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=output, stderr=subprocess.STDOUT)
        try:
            board = Board(f"http://127.0.0.1:{port}")
            deadline = time.monotonic() + timeout
            while not _runs(board):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"TensorBoard shows no run: {log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.2)
            yield board
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _runs(board: Board) -> list[str]:
    """Names of the runs that the server has found so far."""
    try:
        with _OPENER.open(f"{board.url}/data/runs", timeout=5) as answer:
            return json.loads(answer.read())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return []
