"""The page of a comparison: its content, its limits, and its controls in a real browser."""

import re
import shutil

import numpy as np
import pytest
from finished_runs import scores_like_dice, write_run
from playwright.sync_api import expect, sync_playwright

from segment.evaluation.comparison.compare import compare
from segment.evaluation.comparison.methods import read_methods
from segment.report import comparison_page
from segment.report.comparison_page import write_comparison_page
from segment.visual.overlays import INVENTED, MISSED
from segment.visual.pictures import contour_row

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")


def write(folder, runs, metric="dice", names=None):
    comparison = compare(read_methods(runs, metric, "run", names), resamples=300)
    write_comparison_page(folder / "report.html", comparison, 300, 12345)
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three methods of 12 scans; one structure of scan_000 is empty, and all but `careful` invent it."""
    folder = tmp_path_factory.mktemp("study")
    for place, (name, effect) in enumerate({"careful": 0.03, "middle": 0.01, "weak": 0.0}.items()):
        scores, invented = scores_like_dice(12, 2, place, effect), np.zeros((12, 2), bool)
        if name == "careful":
            scores[0, 1] = np.nan
        else:
            invented[0, 1] = True
        config = {"optimizer": {"lr": 10.0**-place}}
        write_run(folder / name, scores, config, invented=invented, cost={"energy_kwh": 0.5})
    write(folder, [str(folder / name) for name in ("weak", "careful", "middle")], names=["weak", "careful", "middle"])
    return folder


def test_page_and_tables_agree(study):
    page = (study / "report.html").read_text()
    comparison = compare(read_methods(f"{study}/*", by="run", names=["careful", "middle", "weak"]), resamples=300)
    assert f'<p class="conclusion">{comparison.conclusion}</p>' in page
    assert page.index(comparison.conclusion) < page.index(comparison.protocol) < page.index("<table")
    mean = comparison.estimates["careful"]["foreground"].mean
    assert f'<td class="n best" data-value="{mean}">{mean:.4f}' in page
    assert page.count('<tr><td class="case">') == 3 * 3
    pair = comparison.pair("careful", "weak")
    assert f'data-value="{pair.difference}">{pair.difference:+.4f}</td>' in page
    assert '<td class="wrap">0.01</td>' in page  # the learning rate
    assert "Dice per kWh" in page
    assert page.count('<svg class="plot"') == 3 + 1
    # The masks were never there.
    assert re.search(r"moved or deleted: scan_000(, scan_\d+){4}\.", page)
    assert "<img" not in page
    assert page.count("sha256-") == 2  # the scripts that may run


def test_scans_that_changed_most_are_shown_with_contours(make_run, tmp_path):
    first, second = make_run("first", 0.01, (0, 0, 0)), make_run("second", 0.1, (1, 0, 3))
    page = write(tmp_path, [str(first), str(second)], names=["first", "second"])
    assert re.findall(r"<h3>(\w+): \+", page) == ["scan_2", "scan_0"]  # the third scan does not differ
    assert page.count('src="data:image/png') == 2 * 6
    assert "moved or deleted" not in page
    (second / "predictions" / "scan_2.nii.gz").unlink()
    page = write(tmp_path, [str(first), str(second)])
    assert re.findall(r"<h3>(\w+): \+", page) == ["scan_0"]
    assert "moved or deleted: scan_2." in page


def test_page_names_the_seed_whose_mask_is_shown(make_run, tmp_path):
    for lr, shifts in ((0.01, (0, 0)), (0.1, (2, 1))):
        for seed in (3, 4):
            run = make_run(f"lr{lr}-seed{seed}", lr, shifts)
            text = (run / "config.yaml").read_text()
            (run / "config.yaml").write_text(text.replace("seed: 12345", f"seed: {seed}"))
    comparison = compare(read_methods(f"{tmp_path}/runs/*", by="configuration"), resamples=300)
    write_comparison_page(tmp_path / "report.html", comparison, 300, 12345)
    page = (tmp_path / "report.html").read_text()
    captions = re.findall(r'<figcaption class="case">([^<]+)', page)[:6]
    one, other = comparison.ranking.names
    assert captions == [
        "image", "reference", f"{one}, seed 3", f"errors of {one}, seed 3", f"{other}, seed 3",
        f"errors of {other}, seed 3",
    ]  # fmt: skip
    assert "Of several seeds, the masks of the one named are shown." in page


def test_contours_are_drawn_where_the_predictions_differ_most():
    image = np.zeros((1, 6, 64, 64), np.float32)
    image[0, 4] = np.arange(64)
    reference = np.zeros((6, 64, 64), np.uint8)
    reference[1:5, 20:30, 20:30] = 1
    reference[1, 10:40, 10:40] = 1
    other = reference.copy()
    other[4, 20:30, 30:36] = 1
    plain, lines, same, _, dashed, errors = contour_row(image, reference, [reference, other], 2, (3.0, 1.0, 1.0))
    assert plain.shape == lines.shape == dashed.shape == errors.shape
    assert max(plain.shape) == 300
    assert plain.std() > 10  # the slice with an image
    assert (lines == same).all()
    assert (dashed != lines).any()
    assert {*map(tuple, errors[(errors == INVENTED).all(axis=-1)])} == {INVENTED}
    assert not (errors == MISSED).all(axis=-1).any()
    with pytest.raises(ValueError, match="masks"):
        contour_row(image, reference, [other[:3]], 2, (3.0, 1.0, 1.0))


def test_text_from_files_is_escaped(tmp_path):
    hostile = "</script><img src=x onerror=alert(1)>&\x1b"
    names = (hostile, f"{hostile} two")
    for folder, shift in (("x", 0.0), ("y", 0.05)):
        config = {"a": f"{folder}{hostile}", f"k{hostile}": folder}
        cases = [f"{hostile}{number}" for number in range(8)]
        run = write_run(tmp_path / folder, scores_like_dice(8, 2, 0, shift), config, labels=names, cases=cases)
        record = '{"started": "<img src=x>", "code": {"commit": ["<img src=y>"]}, "versions": "<img src=z>"}'
        (run / "provenance.json").write_text(record)
    page = write(tmp_path, [str(tmp_path / "x"), str(tmp_path / "y")])
    assert "<img" not in page
    assert "\x1b" not in page
    assert page.count("</script>") == 3


def test_page_size_is_limited_for_any_comparison(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison_page, "_MOST_VALUES", 100)
    monkeypatch.setattr(comparison_page, "_MOST_PAIR_ROWS", 5)
    for place in range(7):
        config = {"optimizer": {f"key_{key}": place * len(str(key)) for key in range(120)}}
        labels = [f"label_{label}" for label in range(40)]
        write_run(tmp_path / f"run_{place}", scores_like_dice(6, 40, place), config, labels=labels)
    page = write(tmp_path, [str(tmp_path / f"run_{place}") for place in range(7)])
    assert "too many scans and labels" in page
    assert '<script type="application/json"' not in page
    assert "The first 5 of 861" in page
    assert "10 more labels" in page
    assert page.count('<td class="case" title="optimizer.key_') == 6
    assert "All 120 configuration keys that differ are in comparison.json." in page
    monkeypatch.setattr(comparison_page, "_MOST_VALUES", 3 * 6 * 40)
    page = write(tmp_path, [str(tmp_path / f"run_{place}") for place in range(7)])
    assert "Only the best 3 methods can be selected." in page


@pytest.fixture(scope="module")
def browser():
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as started,
    ):
        yield started


@pytest.fixture
def opened(browser, study):
    """Function (options) -> the page in a window; afterwards it must have made no requests and logged no errors."""
    address, heard, contexts = (study / "report.html").as_uri(), [], []

    def open_(**options):
        contexts.append(browser.new_context(**{"viewport": {"width": 1000, "height": 800}, **options}))
        page = contexts[-1].new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: heard.append(request.url))
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert heard == [address] * len(contexts)


@in_browser
def test_selected_pair_shows_all_its_scans(opened, study):
    page = opened()
    comparison = compare(read_methods(f"{study}/*", by="run", names=["careful", "middle", "weak"]), resamples=300)
    text, rows = page.locator("#pair-text"), page.locator("#changes tbody tr")
    pair = comparison.pair("careful", "middle")
    expect(text).to_contain_text(f"A − B: +{pair.difference:.4f} foreground Dice")
    expect(text).to_contain_text(f"better on {pair.won} scans, equal on {pair.tied}, worse on {pair.lost}")
    assert page.locator("#scatter .dot").count() == page.locator("#agreement .dot").count() == rows.count() == 12
    assert page.locator("#scatter .won").count() == pair.won
    expect(rows.first).to_contain_text("scan_000")  # what was invented costs most

    page.locator("#first").select_option("weak")
    turned = comparison.pair("weak", "middle")
    expect(text).to_contain_text(f"A − B: {turned.difference:.4f}".replace("-", "−"))
    page.locator("#second").select_option("weak")  # they change places
    expect(page.locator("#first")).to_have_value("1")
    page.locator("#second").select_option("careful")
    page.get_by_label("Structure").select_option("posterior")
    pair = comparison.pair("middle", "careful", "posterior")
    expect(text).to_contain_text(f"better on {pair.won} scans, equal on {pair.tied}, worse on {pair.lost}")
    expect(rows.first).to_have_text("scan_0000.00001.0000−1.0000")


@in_browser
def test_scans_can_be_sorted_filtered_and_highlighted_by_mouse_and_keyboard(opened):
    page = opened()
    header = page.locator("#changes th").nth(3)
    header.get_by_role("button").click()
    values = [float(value.replace("−", "-")) for value in page.locator("#changes td:nth-child(4)").all_inner_texts()]
    assert values == sorted(values)
    page.get_by_label("Structure").select_option("anterior")
    assert header.get_attribute("aria-sort") is None
    page.locator('.filter[data-for="changes"] input').fill("scan_007")
    expect(page.locator('.filter[data-for="changes"] output')).to_have_text("1 of 12")
    page.get_by_role("button", name="scan_007").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#pair .where")).to_contain_text("scan_007: A 0.")
    assert page.locator(".dot.chosen").count() == 2
    page.locator('.filter[data-for="changes"] input').fill("")
    page.locator("#scatter .dot").first.dispatch_event("click")
    expect(page.locator("#pair .where")).not_to_contain_text("scan_007")
    assert page.locator("tr.chosen").count() == 1
    page.locator('.filter[data-for="pairs"] input').fill("weak foreground")
    assert page.locator("#pairs tbody tr:visible").count() == 2
    page.locator("#methods th").nth(1).get_by_role("button").click()
    assert page.locator("#methods td.case").all_inner_texts() == ["careful", "middle", "weak"]


@in_browser
@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_page_follows_the_colour_scheme_and_fits_a_phone(opened, scheme, dark):
    page = opened(color_scheme=scheme, viewport={"width": 390, "height": 800})
    ground, text, *plots = (
        page.evaluate(f"getComputedStyle(document.querySelector('{part}')).{what}")
        for part, what in (
            ("body", "backgroundColor"),
            ("body", "color"),
            ("#scatter text", "fill"),
            (".plots .plot text", "fill"),
        )
    )
    assert (sum(map(int, ground[4:-1].split(","))) < 300) == dark
    assert plots == [text, text]
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@in_browser
def test_print_version_has_plots_and_page_without_scripts_has_tables(opened):
    page = opened(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    expect(page.locator("#scatter svg")).to_be_visible()
    expect(page.locator("#without-scripts")).to_be_hidden()
    assert page.locator(".filter:visible, .where:visible").count() == 0
    page = opened(java_script_enabled=False)
    expect(page.locator("#pair")).to_be_hidden()
    expect(page.locator("#without-scripts")).to_be_visible()
    assert page.locator("#pairs tbody tr:visible").count() == 9
