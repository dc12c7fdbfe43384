import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from segment.metrics.standard import LEAD
from segment.report.plots import curves, distributions
from segment.visual.pictures import colours

EVIL = "海 $x^2$ <script>alert(1)</script> \x1b[0m \ud800"


def elements(svg):
    """The elements of a plot; it must be well-formed once the prefix of links, which HTML knows, is dropped."""
    return list(ElementTree.fromstring(str(svg).replace("xlink:", "")).iter())


def scores(scans, **labels):
    drawn = np.random.default_rng(0).uniform(0.7, 0.95, (scans, len(labels)))
    return pd.DataFrame(drawn, columns=list(labels.values()))


@pytest.fixture
def table():
    return scores(20, a="Anterior", b=EVIL)


def test_each_scan_is_a_point_in_the_colour_of_its_label(table):
    table.iloc[3, 0] = np.nan
    svg = distributions(table, LEAD, "spread")
    for colour, points in zip(colours(3)[1:], (19, 20), strict=True):
        style = "fill: #{:02x}{:02x}{:02x}".format(*colour)
        assert sum(style in element.get("style", "") for element in elements(svg) if element.tag == "use") == points


def test_many_scans_are_drawn_as_boxes_without_points():
    few, many = (len(distributions(scores(scans, a="A"), LEAD, "spread")) for scans in (20, 2001))
    assert many < 3 * few


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("draw", [distributions, curves])
def test_names_are_shown_literally_and_not_interpreted(table, draw):
    if draw is distributions:
        svg = distributions(table, LEAD, "a")
    else:
        svg = curves({EVIL: table[EVIL], "foreground": table[EVIL]}, "loss", "a")
    texts = [element.text for element in elements(svg) if element.tag == "text"]
    assert any(text.startswith("海 $x^2$ <script>") for text in texts)
    assert {element.tag for element in elements(svg)} <= {
        "svg",
        "defs",
        "style",
        "g",
        "path",
        "text",
        "use",
        "clipPath",
        "rect",
    }


def test_plots_use_page_colours_and_unique_ids(table):
    first = distributions(table, LEAD, "first")
    second = curves({"foreground": table["Anterior"]}, "Dice", "second")
    assert "currentColor" in first
    assert "#010203" not in first
    assert not re.search(r"#0{6}|#f{6}", first + second)
    ids = [element.get("id") for svg in (first, second) for element in elements(svg) if element.get("id")]
    assert len(ids) == len(set(ids))
    for svg in (first, second):
        own = {element.get("id") for element in elements(svg)}
        links = {link[1:] for element in elements(svg) if (link := element.get("href"))}
        assert links | set(re.findall(r"url\(#([^)]*)\)", str(svg))) <= own


def test_plots_are_deterministic(table):
    assert distributions(table, LEAD, "a") == distributions(table, LEAD, "a")


def test_plotting_does_not_change_global_settings(table):
    import matplotlib

    before = dict(matplotlib.rcParams)
    curves({"a": table["Anterior"]}, "loss", "a", smooth=True)
    assert dict(matplotlib.rcParams) == before
