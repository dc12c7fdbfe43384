"""The server under load, beside `segment predict` on the same scans.

    python benchmarks/serving.py runs/NAME SCANS                  200 requests from 16 clients, then 1,000 in all
    python benchmarks/serving.py runs/NAME SCANS --requests 50 --long 0

SCANS is a folder. Every answer is compared, by its hash, with the mask that `segment predict` writes of the scan. The
peer's time is that of predicting the same number of scans by `predict_scans`, after the model is loaded and a scan is
predicted, which is when a server is measured too.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from _machine import describe

from segment.inference.inputs import find_scans
from segment.inference.model import load_model
from segment.inference.scans import predict_scans
from segment.training.memory import keep_freed_memory

CLIENTS = 16
QUEUE = 32


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("scans", type=Path)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--long", type=int, default=1000, help="requests in all, for the memory; 0: none more")
    given = parser.parse_args()
    describe(load_model(Path(given.model)).settings().precision)
    scans = sorted(file for file in given.scans.iterdir() if file.name.endswith((".nii.gz", ".nii", ".nrrd", ".mha")))
    with tempfile.TemporaryDirectory() as folder:
        seconds, expected = peer(Path(given.model), scans, given.requests, Path(folder))
    print(f"segment predict: {given.requests} scans in {seconds:.1f} s, {given.requests / seconds:.2f} a second")
    command = [sys.executable, "-m", "segment.cli", "serve", f"model={given.model}", "port=0", f"queue={QUEUE}"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = re.search(r"http://\S+:\d+", server.stdout.readline())[0]  # type: ignore[index]
        wait(url)
        load(url, scans[:1] * 4, expected)
        took, told = load(url, spread(scans, given.requests), expected)
        print(f"segment serve:   {given.requests} requests from {CLIENTS} clients in {took:.1f} s, ", end="")
        print(f"{given.requests / took:.2f} a second, {seconds / took:.2f} of segment predict; {told}")
        done = given.requests
        print_memory(url, done)
        for target in (given.requests + (given.long - given.requests) // 2, given.long) if given.long else ():
            _, told = load(url, spread(scans, target - done), expected)
            done = target
            print(f"{done} requests in all, the last {told}")
            print_memory(url, done)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def spread(scans: Sequence[Path], count: int) -> list[Path]:
    """So many scans, in turn."""
    return [scans[index % len(scans)] for index in range(count)]


def peer(model: Path, scans: Sequence[Path], count: int, folder: Path) -> tuple[float, dict[str, str]]:
    """Seconds that predicting takes, and the hash of each scan's mask."""
    keep_freed_memory()
    loaded = load_model(model)
    settings = loaded.settings()
    for index in range(count):
        source = scans[index % len(scans)]
        (folder / "scans").mkdir(exist_ok=True)
        shutil.copy(source, folder / "scans" / f"{index:06d}_{source.name}")
    found = list(find_scans(folder / "scans", len(loaded.channels)))
    predict_scans(loaded, found[:1], folder / "first", settings)
    began = time.perf_counter()
    done = predict_scans(loaded, found, folder / "masks", settings)
    seconds = time.perf_counter() - began
    assert not done.failed, done.failed
    masks = {name.split("_", 1)[1]: folder / "masks" / name for name, _ in found}
    return seconds, {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in masks.items()}


def wait(url: str) -> None:
    """Wait until the models are loaded."""
    while True:
        try:
            if httpx.get(f"{url}/readyz", trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)


def load(url: str, scans: Sequence[Path], expected: dict[str, str]) -> tuple[float, str]:
    """Send scans from many clients; seconds, and what came back."""
    with httpx.Client(base_url=url, trust_env=False, timeout=600) as client, ThreadPoolExecutor(CLIENTS) as pool:

        def send(scan: Path) -> tuple[str, float]:
            began = time.perf_counter()
            while True:
                answer = client.post("/predict", files={"file": (scan.name, scan.read_bytes())})
                if answer.status_code != 429:
                    break
                time.sleep(0.2)
            seconds = time.perf_counter() - began
            if answer.status_code != 200:
                return f"status {answer.status_code}", seconds
            right = hashlib.sha256(answer.content).hexdigest() == expected[scan.name]
            return "right" if right else "wrong", seconds

        began = time.perf_counter()
        answers = list(pool.map(send, scans))
        took = time.perf_counter() - began
    counted = ", ".join(f"{count} {what}" for what, count in Counter(what for what, _ in answers).items())
    middle, late = np.percentile([seconds for _, seconds in answers], (50, 99))
    return took, f"answers: {counted}; latency median {middle:.2f} s, 99th percentile {late:.2f} s"


def print_memory(url: str, requests: int) -> None:
    """Print the resident memory of the server and of its workers."""
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    found = re.findall(r'segment_memory_bytes\{process="(\w+)"\} (\S+)', text)
    told = ", ".join(f"{name} {float(value) / 1e6:,.0f} MB" for name, value in found)
    print(f"resident memory after {requests} requests: {told}", flush=True)


if __name__ == "__main__":
    main()
