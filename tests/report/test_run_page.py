import base64
import gzip
import hashlib
import html
import io
import json
import re
from email.message import Message
from html.parser import HTMLParser
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from finished_runs import diverge, write_losses
from PIL import Image

from segment.report import run_page, viewer
from segment.report.notable import notable_cases
from segment.report.run_page import write_page
from segment.runs.folder import read_run
from segment.runs.voxels import read_voxels
from segment.visual.pictures import planes

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
    scans = re.search(r"All scans Filter(.*)Configuration and provenance", text)[1]
    assert re.findall(r"scan_\d", scans) == ["scan_2", "scan_0", "scan_1"]
    assert "optimizer: lr: 0.01 nesterov: true" in text
    assert '"torch": "2.13.0"' in text
    assert "sha256" not in text
    pictures = [attrs["src"] for tag, attrs in elements.found if tag == "img"]
    expected = []
    for notable in notable_cases(content, worst=3):
        scan = read_voxels(content, notable.case)
        expected += planes(scan.image, scan.reference, scan.prediction, scan.n_classes, scan.grid.spacing).values()
    for source, picture in zip(pictures, expected, strict=True):
        blob = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(blob))), picture)
    assert "worst : scan_2, foreground Dice 0.4000" in text
    assert "median : scan_0, foreground Dice 0.8000" in text


def test_contents_link_to_every_section(make_run, page_of):
    page = page_of(make_run())
    links = re.findall(r'<a href="#([\w-]+)">', re.search(r'<nav class="contents".*?</nav>', page)[0])
    assert links == re.findall(r'<h2 id="([\w-]+)"', page)
    assert {"pictures", "agreement", "all-scans"} <= {*links}


def test_no_orientation_letters_for_files_without_orientation(make_run, page_of):
    run = make_run(shifts=(1,))
    known = page_of(run)
    (source,) = run.parents[1].glob("sources/scan_0.nii.gz")
    image = nib.load(source)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    for file in (source, source.with_name("scan_0_label.nii.gz"), run / "predictions" / source.name):
        old = nib.load(file)
        nib.save(nib.Nifti1Image(np.asarray(old.dataobj), None, image.header if file == source else None), file)
    page = page_of(run)
    assert "do not say which side is left" in page
    assert "do not say which side is left" not in known
    first = re.search(r'<figcaption>image</figcaption><img src="([^"]+)', page)[1]
    assert first != re.search(r'<figcaption>image</figcaption><img src="([^"]+)', known)[1]


def test_page_is_self_contained_and_runs_only_its_own_scripts(make_run, page_of):
    page = page_of(make_run())
    elements = Elements(page)
    assert not {tag for tag, _ in elements.found} & {"link", "iframe", "object", "base", "form"}
    for tag, attrs in elements.found:
        for key in ("src", "href", "xlink:href"):
            assert attrs.get(key, "data:").startswith(("data:", "#")), (tag, attrs)
        assert not [key for key in attrs if key.startswith("on")]
    assert not re.search(r"url\((?!#)|@import|https?://", page)
    assert "prefers-color-scheme: dark" in page
    policy = next(attrs["content"] for tag, attrs in elements.found if attrs.get("http-equiv"))
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    packed = re.search(r'<script type="application/gzip" id="niivue">(.*?)</script>', page)[1]
    for text in (*scripts, gzip.decompress(base64.b64decode(packed)).decode()):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert len(scripts) == 2
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-inline" not in re.search(r"script-src ([^;]*)", policy)[1]
    ids = [attrs["id"] for _, attrs in elements.found if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_page_says_that_the_viewers_package_is_missing(make_run, page_of, monkeypatch):
    monkeypatch.setattr(viewer, "_PACKAGE", "no_such_package")
    elements = Elements(page_of(make_run()))
    assert "This page has no viewer: the package ipyniivue" in elements.text
    assert not [attrs for _, attrs in elements.found if attrs.get("id") == "viewer" or "data-scan" in attrs]
    assert [tag for tag, _ in elements.found if tag == "img"]


def test_unrecognised_viewer_bundle_is_refused(tmp_path, monkeypatch):
    """A bundle that does not name the viewer class, or exports nothing, is another program."""
    code = viewer.viewer_code()
    assert code is not None
    text = 'var a;console.log("Creating new Niivue instance");a=new Foo({});export{a as default};'
    package = SimpleNamespace(
        locate_file=lambda name: tmp_path / "widget.js",
        metadata=Message(),
        version="1",
        read_text=lambda name: "some licence",
    )
    package.metadata["License-File"] = "LICENSE"
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: package)
    for content, taken in ((text, True), (text.replace("Creating", "Making"), False), (text.split("export")[0], False)):
        (tmp_path / "widget.js").write_text(content)
        assert (viewer.viewer_code() is not None) == taken
    (tmp_path / "widget.js").unlink()
    assert viewer.viewer_code() is None


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
    assert (
        "gone 0.0000 0.0000 missed 0.0000 both empty –" in text
    )  # foreground Dice, foreground IoU, Dice of each label
    assert text.index("gone 0.0000") < text.index("scan_1 0.8") < text.index("empty – – both empty – both empty –")


def test_page_of_many_scans_lists_the_worst(make_run, monkeypatch):
    run = make_run()
    write_page(run)
    text = (run / "report.html").read_text()
    scans = len(read_run(run).scans["case"].unique())
    monkeypatch.setattr(run_page, "_MOST_CELLS", 1)
    monkeypatch.setattr(run_page, "_FEWEST_ROWS", 1)
    write_page(run)
    short = (run / "report.html").read_text()
    assert f"The 1 worst of {scans} scans are listed." in short
    assert "worst of" not in text
    assert short.count("<tr") == text.count("<tr") - (scans - 1)


def test_page_works_without_pictures_notice_and_provenance(make_run, page_of):
    run = make_run()
    (run / "provenance.json").unlink()
    elements = Elements(page_of(run))
    assert "Provenance" not in elements.text
    assert "Not shown" in elements.text
    assert not [tag for tag, _ in elements.found if tag == "img" or tag == "canvas"]
    assert not [attrs for _, attrs in elements.found if attrs.get("class") == "notice"]


def test_moved_scans_are_listed_but_not_drawn(make_run, page_of):
    run = make_run()
    (run / "predictions" / "scan_2.nii.gz").unlink()
    elements = Elements(page_of(run))
    assert "moved or deleted: worst scan scan_2." in elements.text
    assert len([tag for tag, _ in elements.found if tag == "img"]) == 5
    assert [attrs["data-scan"] for tag, attrs in elements.found if "data-scan" in attrs] == ["0"]


def test_flat_images_have_pictures_but_no_viewer(make_run, page_of):
    run = make_run()
    provenance = json.loads((run / "provenance.json").read_text())
    for index, sources in enumerate(provenance["cases"].values()):
        for file in (*sources["images"], sources["label"]):
            volume = np.asarray(nib.load(file).dataobj)
            Image.fromarray(volume[:, :, 4].astype(np.uint8)).save(file.replace(".nii.gz", ".png"))
        prediction = run / "predictions" / f"scan_{index}.nii.gz"
        Image.fromarray(np.asarray(nib.load(prediction).dataobj)[:, :, 4]).save(
            run / "predictions" / f"scan_{index}.png"
        )
        prediction.unlink()
    text = json.dumps(provenance).replace(".nii.gz", ".png")
    (run / "provenance.json").write_text(text)
    elements = Elements(page_of(run))
    assert len([tag for tag, _ in elements.found if tag == "img"]) == 10
    assert "Images keep the orientation of their files" in " ".join(elements.text.split())
    assert not [attrs for _, attrs in elements.found if attrs.get("id") in ("viewer", "niivue")]
    assert "This page has no viewer" not in elements.text


def test_page_states_date_code_and_hardware_of_a_run(make_run, page_of):
    run = make_run()
    provenance = json.loads((run / "provenance.json").read_text())
    provenance |= {
        "started": "2026-11-23T13:22:04Z",
        "seed": 7,
        "code": {"commit": "0123456789abcdef", "uncommitted_changes": True},
        "hardware": {"processor": "A processor", "cores": 2, "accelerators": ["A card"]},
    }
    (run / "provenance.json").write_text(json.dumps(provenance))
    line = "2026-11-23T13:22:04Z · commit 0123456789 with uncommitted changes · seed 7 · A processor · 2 cores · A card"
    assert line in " ".join(Elements(page_of(run)).text.split())


def test_page_title_is_the_name_of_the_run_or_of_its_folder(make_run, page_of):
    run = make_run("fold0")
    assert "<h1>fold0</h1>" in page_of(run)
    with (run / "config.yaml").open("a") as file:
        file.write("name: study-<b>-fold0\n")
    assert "<h1>study-&lt;b&gt;-fold0</h1>" in page_of(run)


def test_page_is_deterministic(make_run, page_of):
    run = make_run()
    assert page_of(run) == page_of(run)


def test_page_starts_with_a_warning_if_training_diverged(make_run, page_of):
    run = make_run()
    write_losses(run, {0: 2.0, 8: 1.0})
    assert 'role="alert"' not in page_of(run)
    diverge(run, 8)
    page = page_of(run)
    warning = "This training diverged: the loss is not finite from step 8. Its scores say nothing about the method."
    assert f'<p class="notice warning" role="alert">{warning}</p>' in page
    assert page.index(warning) < page.index("foreground Dice")
    (run / "diverged.json").write_text(json.dumps({"step": 9, "reason": f"the gradient is inf {EVIL}"}))
    page = page_of(run)
    assert EVIL not in page
    assert "This training diverged: the gradient is inf &lt;img" in page


def test_page_of_all_folds_names_diverged_folds(make_run, page_of):
    run, fold = make_run("foldall"), make_run("fold1")
    record = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps(record | {"runs": [{"fold": 1, "folder": "../fold1"}]}))
    assert 'role="alert"' not in page_of(run)
    diverge(fold, 3)
    assert "The training of fold1 diverged: the loss is not finite from step 3." in page_of(run)
