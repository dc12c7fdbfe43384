import base64
import html
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from segment.report.folder import notable_scans, read_run
from segment.report.page import write_page

EVIL = "<img src=x onerror=alert(1)>&\"'"


class Elements(HTMLParser):
    """All elements with their attributes, and the text of the page."""

    def __init__(self, page):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data + " "


@pytest.fixture
def page_of():
    def write(run):
        write_page(run)
        return (run / "report.html").read_text()

    return write


def test_page_shows_scores_scans_pictures_and_origin(make_run, page_of):
    run = make_run("my_run", notice="For research only.")
    page = page_of(run)
    elements = Elements(page)
    content, text = read_run(run), " ".join(elements.text.split())
    assert "my_run" in text
    assert "For research only." in text
    for group in (content.summary["foreground"], *content.summary["labels"].values()):
        for metric in ("dice", "iou"):
            low, high = group[metric]["ci95"]
            assert f"{group[metric]['mean']:.4f}" in text
            assert f"{low:.4f} – {high:.4f}" in text
    assert "3 scans · split val, fold 0 · window overlap 0.5 · test-time augmentation off" in text
    scans = re.search(r"All scans(.*)How it was made", text)[1]
    assert re.findall(r"scan_\d", scans) == ["scan_2", "scan_0", "scan_1"]
    assert "optimizer: lr: 0.01 nesterov: true" in text
    assert '"torch": "2.13.0"' in text
    assert "sha256" not in text
    pictures = [attrs["src"] for tag, attrs in elements.found if tag == "img"]
    for source, scan in zip(pictures, notable_scans(content), strict=True):
        blob = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(blob))), scan.picture)


def test_page_needs_nothing_else(make_run, page_of):
    page = page_of(make_run())
    elements = Elements(page)
    assert not {tag for tag, _ in elements.found} & {"script", "link", "iframe", "object"}
    for tag, attrs in elements.found:
        for key in ("src", "href"):
            assert attrs.get(key, "data:").startswith("data:"), (tag, attrs)
    assert not re.search(r"url\(|@import|https?://", page)
    assert "prefers-color-scheme: dark" in page


def test_text_from_files_is_escaped(make_run, page_of):
    run = make_run(notice=EVIL)
    for name in ("scans.csv", "summary.json", "config.yaml", "provenance.json"):
        text = (run / name).read_text()
        inner = {"scans.csv": '"' + EVIL.replace('"', '""') + '"', "config.yaml": json.dumps(EVIL)}
        if name == "scans.csv":
            text = text.replace("scan_2,", inner[name] + ",").replace(",Anterior,", f",{inner[name]},")
        elif name == "config.yaml":
            text = text.replace("Task04", inner[name])
        else:
            text = text.replace("Anterior", json.dumps(EVIL)[1:-1]).replace("2.13.0", json.dumps(EVIL)[1:-1])
        (run / name).write_text(text)
    page = page_of(run)
    assert "<img src=x" not in page
    assert page.count(html.escape("<img src=x")) >= 5
    assert not [attrs for tag, attrs in Elements(page).found if tag == "img" and not attrs["src"].startswith("data:")]


def test_statuses_and_scans_without_scores_are_shown(make_run, page_of):
    run = make_run(shifts=(0, 1))
    scans = (run / "scans.csv").read_text().splitlines()
    scans += ["empty,val,0,1,Anterior,,,0,0,both_empty", "empty,val,0,2,Posterior,,,0,0,both_empty"]
    scans += ["gone,val,0,1,Anterior,0,0,9,0,missed", "gone,val,0,2,Posterior,,,0,0,both_empty"]
    (run / "scans.csv").write_text("\n".join(scans))
    text = " ".join(Elements(page_of(run)).text.split())
    assert "gone 0.0000 missed 0.0000 both empty –" in text
    assert text.index("gone 0.0000") < text.index("scan_1 0.8") < text.index("empty – both empty – both empty –")


def test_page_without_pictures_notice_and_provenance(make_run, page_of):
    run = make_run()
    (run / "provenance.json").unlink()
    elements = Elements(page_of(run))
    assert "Provenance" not in elements.text
    assert "Worst and median" not in elements.text
    assert not [attrs for _, attrs in elements.found if attrs.get("class") == "notice"]
