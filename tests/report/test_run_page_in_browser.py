"""The page in a real browser: its controls, colours and viewer, and that it makes no requests."""

import io
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from torch.utils.tensorboard import SummaryWriter

from segment.report.run_page import write_page
from segment.visual.pictures import colours

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Root may not use Chromium's sandbox, and a machine without a graphics card draws WebGL in software.
OPTIONS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]

expect.set_options(timeout=30_000)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")


@pytest.fixture(scope="module")
def address(shared_run):
    with SummaryWriter(shared_run / "tensorboard") as writer:
        for step in range(5):
            writer.add_scalar("train/loss", 1 / (step + 1), step)
            writer.add_scalar("val/Anterior_dice", step / 5, step)
    write_page(shared_run)
    return (shared_run / "report.html").as_uri()


@pytest.fixture(scope="module")
def playwright():
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright):
    with playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS) as started:
        yield started


@contextmanager
def opened(browser, address, **options):
    """The page in its own window; afterwards it must have made no requests and logged no errors."""
    context = browser.new_context(**{"viewport": {"width": 720, "height": 640}, **options})
    page = context.new_page()
    heard = []
    page.on("console", lambda message: heard.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url) if not request.url.startswith("data:") else None)
    page.goto(address)
    try:
        yield page
        assert heard == [address]
    finally:
        context.close()


@pytest.fixture
def page(browser, address):
    with opened(browser, address) as page:
        yield page


def shown(page, column=0):
    """Texts of a column of the table of scans, of the visible rows."""
    return page.locator(f"#scans tbody tr:visible td:nth-child({column + 1})").all_inner_texts()


def stage(page, choices="0 both slices 0.5"):
    """What the viewer draws once it shows a choice of scan, masks, view and opacity, as RGB."""
    page.wait_for_selector(f'#viewer[data-shown="{choices}"]', timeout=60_000)
    return np.asarray(Image.open(io.BytesIO(page.locator(".stage").screenshot())).convert("RGB")).astype(int)


def near(picture, colour):
    """Number of pixels whose hue is that of a label, however pale."""
    unit = colour / np.linalg.norm(colour)
    length = np.maximum(np.linalg.norm(picture, axis=-1), 1)
    return int(((picture @ unit) / length > 0.99)[length > 40].sum())


def test_table_sorts_by_click_and_by_keyboard(page):
    assert shown(page) == ["scan_2", "scan_3", "scan_0", "scan_1", "scan_4"]
    name, dice = page.locator("#scans th").first, page.locator("#scans th").nth(1)
    expect(dice).to_have_attribute("aria-sort", "ascending")
    dice.get_by_role("button").click()
    expect(dice).to_have_attribute("aria-sort", "descending")
    assert shown(page, 1) == sorted(shown(page, 1), reverse=True)
    name.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert shown(page) == [f"scan_{number}" for number in range(5)]
    page.keyboard.press("Enter")
    assert shown(page) == [f"scan_{number}" for number in range(5)][::-1]
    expect(name).to_have_attribute("aria-sort", "descending")
    assert dice.get_attribute("aria-sort") is None


def test_filter_keeps_rows_that_contain_every_word(page):
    page.get_by_role("searchbox").fill("SCAN_3")
    assert shown(page) == ["scan_3"]
    expect(page.locator(".filter output")).to_have_text("1 of 5")
    page.get_by_role("searchbox").fill("scan_3 nothing")
    assert shown(page) == []
    page.get_by_role("searchbox").fill("")
    assert len(shown(page)) == 5


def test_slices_scroll_by_wheel_and_by_keys_and_the_volume_turns(page):
    page.locator("#viewer").scroll_into_view_if_needed()
    both = stage(page)
    assert near(both, colours(3)[1]) > 500
    assert near(both, colours(3)[2]) > 500
    where = page.locator(".where")
    first = where.inner_text()
    assert "mm" in first
    box = page.locator(".stage").bounding_box()
    top = page.evaluate("scrollY")
    page.mouse.move(box["x"] + box["width"] / 8, box["y"] + box["height"] / 2)  # a slice
    page.mouse.wheel(0, 100)
    expect(where).not_to_have_text(first)
    assert page.evaluate("scrollY") == top
    for key, axis in (("ArrowUp", 2), ("ArrowRight", 0), ("PageUp", 1)):
        before = where.inner_text()
        page.locator(".stage").press(key)
        expect(where).not_to_have_text(before)
        pairs = zip(before.split(","), where.inner_text().split(","), strict=True)
        assert [index for index, (old, new) in enumerate(pairs) if old != new] == [axis]
    page.get_by_role("button", name="Volume").click()
    expect(page.get_by_role("button", name="Volume")).to_have_attribute("aria-pressed", "true")
    volume = stage(page, "0 both volume 0.5")
    assert near(volume, colours(3)[1]) > 500
    assert (volume.sum(axis=-1) > 60).mean() > 0.02
    for _ in range(4):
        page.locator(".stage").press("ArrowRight")
    assert (np.abs(stage(page, "0 both volume 0.5") - volume).sum(axis=-1) > 60).mean() > 0.005
    page.get_by_label("Opacity").fill("0")
    assert near(stage(page, "0 both volume 0"), colours(3)[1]) < 100


def test_scans_can_be_selected_by_button_and_in_the_table(page):
    worst = page.get_by_role("button", name="worst: scan_2", exact=True)
    worst.focus()
    page.keyboard.press("Enter")
    first = stage(page)
    page.locator("#scans").get_by_role("button", name="scan_0").click()
    second = stage(page, "2 both slices 0.5")
    expect(page.get_by_role("button", name="median: scan_0")).to_have_attribute("aria-pressed", "true")
    expect(worst).to_have_attribute("aria-pressed", "false")
    assert (np.abs(second - first).sum(axis=-1) > 60).sum() > 500
    expect(page.locator(".stage")).to_be_focused()
    expect(page.locator(".stage")).to_be_in_viewport()


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_page_follows_the_colour_scheme_and_fits_a_phone(browser, address, scheme, dark):
    with opened(browser, address, color_scheme=scheme, viewport={"width": 390, "height": 800}) as page:
        ground, text, plot = (
            page.evaluate(f"getComputedStyle(document.querySelector('{part}')).{what}")
            for part, what in (("body", "backgroundColor"), ("body", "color"), (".plot text", "fill"))
        )
        assert (sum(map(int, ground[4:-1].split(","))) < 300) == dark
        assert plot == text
        assert page.locator(".plot").count() == 5
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_print_version_is_light_and_has_no_controls(browser, address):
    with opened(browser, address, color_scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        expect(page.locator("#viewer")).to_be_hidden()
        expect(page.locator(".filter")).to_be_hidden()
        assert page.locator(".planes img:visible").count() == 15


def test_pictures_remain_without_webgl_or_scripts(playwright, browser, address):
    options = ["--no-sandbox", "--disable-3d-apis"]
    with (
        playwright.chromium.launch(executable_path=CHROMIUM, args=options) as plain,
        opened(plain, address) as page,
    ):
        expect(page.locator("#viewer .note")).to_contain_text("needs WebGL 2")
        expect(page.locator(".stage")).to_be_hidden()
        assert page.locator(".planes img:visible").count() == 15
    with opened(browser, address, java_script_enabled=False) as page:
        expect(page.locator("#viewer .note")).to_contain_text("needs JavaScript")
        expect(page.locator(".controls")).to_be_hidden()
        expect(page.locator(".filter")).to_be_hidden()
        assert len(shown(page)) == 5
