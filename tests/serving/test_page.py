"""The server's page in a real browser, from the drop of a scan to the mask in the viewer."""

import io
import shutil
import threading

import numpy as np
import pytest
import uvicorn
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from served_models import OLD, SCAN, Thread

from segment.serving.app import Rules, create_app
from segment.serving.served import How
from segment.serving.server import bound
from segment.serving.service import Service
from segment.serving.worker import serve_link

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
TOKEN = "a-token-of-many-letters"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    models = {"first": str(OLD / "seed0")}

    def start():
        thread = Thread(lambda end: serve_link(end, models, How(), 1 << 24))
        return thread.ours, thread

    service = Service(start, models, parent=tmp_path_factory.mktemp("served"))
    listening = bound("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(service, Rules((TOKEN,))), log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join(30)


def test_a_scan_is_dropped_predicted_shown_and_downloaded_on_a_phone(address, tmp_path):
    expect.set_options(timeout=40_000)
    with sync_playwright() as started, started.chromium.launch(executable_path=CHROMIUM, args=OPTIONS) as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        heard, requests = [], []
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_label("Token").press("Tab")
        expect(page.get_by_label("Model").locator("option")).to_have_text(["first"])

        page.locator("#scan").set_input_files({"name": "scan.nii.gz", "mimeType": "", "buffer": b"\x1f\x8bno scan"})
        expect(page.get_by_role("status")).to_contain_text("scan.nii.gz cannot be read")
        expect(page.locator("#structures")).to_be_hidden()
        page.locator("#scan").set_input_files(SCAN)
        expect(page.locator("#volumes tbody tr")).to_have_count(2)
        expect(page.get_by_role("status")).to_contain_text("Predicted in")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download the mask").click()
        assert download.value.suggested_filename == "case_0-mask.nii.gz"
        assert download.value.path().read_bytes()[:2] == b"\x1f\x8b"
        page.get_by_label("Mask as").select_option("rtstruct")
        expect(page.get_by_role("status")).to_contain_text("is not of a DICOM series")
        page.get_by_label("Mask as").select_option("seg.nrrd")
        expect(page.get_by_role("link", name="Download the mask")).to_have_attribute("download", "case_0-mask.seg.nrrd")
        expect(page.get_by_role("status")).to_have_text("")
        page.locator("#stage[data-shown]").wait_for(timeout=60_000)
        picture = np.asarray(Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("RGB"), float)
        coloured = picture.max(axis=-1) - picture.min(axis=-1) > 40
        assert coloured.sum() > 200  # the mask, over a grey image
        assert (picture.sum(axis=-1) > 60).sum() > 2000
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert heard == []
        assert all(url.startswith((address, "blob:", "data:")) for url in requests)
