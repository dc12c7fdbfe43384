"""Draws the pictures of the documentation from finished runs, in headless Chromium.

    python docs/pictures/draw.py RUN COMPARISON [--browser chromium]

RUN is a run folder, COMPARISON an output folder of `segment compare`. Needs the extra ``test`` and Chromium.
TensorBoard shows the folder that the run is in.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).parent
PAGE = {"width": 960, "height": 1065}
COLOURS = 128  # a third of the bytes of a picture in all colours


def main(arguments: list[str] | None = None) -> None:
    """Draw report.png, comparison.png and tensorboard.png beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("google-chrome"))
    given = parser.parse_args(arguments)
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=given.browser, args=["--no-sandbox", "--enable-webgl"])
        page = browser.new_page(viewport=PAGE)  # type: ignore[arg-type]
        for name, source in (("report", given.run), ("comparison", given.comparison)):
            page.goto((source / "report.html").absolute().as_uri())
            _save(page, name)
        _tensorboard(browser.new_page(viewport={"width": 1400, "height": 900}), given.run.absolute().parent)
        browser.close()


def _tensorboard(page: Page, runs: Path) -> None:
    """Draw TensorBoard's first page of the runs in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(runs), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - our own
    try:
        for _ in range(60):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            page.wait_for_timeout(500)
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_timeout(15_000)  # until its curves are drawn
        _save(page, "tensorboard")
    finally:
        server.terminate()
        server.wait()


def _save(page: Page, name: str) -> None:
    """Save what a page shows, in few colours."""
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    main()
