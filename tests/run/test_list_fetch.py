"""The verbs list and fetch."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from segment.errors import UserError
from segment.run import fetch

CONF = Path(__file__).parents[2] / "conf"


def listed(what: str, capsys, monkeypatch) -> list[dict]:
    import sys

    from segment import cli

    monkeypatch.setattr(sys, "argv", ["segment", "list", what, "format=json"])
    cli.main()
    return json.loads(capsys.readouterr().out)


def test_networks_are_listed_with_their_parameters(capsys, monkeypatch):
    rows = {row["name"]: row for row in listed("networks", capsys, monkeypatch)}
    assert rows.keys() == {file.stem for file in CONF.glob("network/*.yaml")}
    # By arithmetic for stages 16-32-64-128, two convolutions each: see tests/networks/test_unet.py for the formula.
    assert rows["unet_small"]["parameters 3D"] > rows["unet_small"]["parameters 2D"] > 100_000
    assert all(row["about"] for row in rows.values())


@pytest.mark.parametrize("what", ["data", "studies"])
def test_data_and_studies_are_listed_with_what_they_are(what, capsys, monkeypatch):
    rows = listed(what, capsys, monkeypatch)
    assert rows
    assert all(row["about"] for row in rows)


def test_fetch_downloads_what_the_data_set_names(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(fetch, "download", lambda **given: asked.update(given) or tmp_path)
    source = {"url": "http://127.0.0.1/a.tar", "md5": "0", "licence": "free"}
    fetch.run(OmegaConf.create({"data": {"name": "a", "root": str(tmp_path), "source": source}}))
    assert asked == {"destination": str(tmp_path), "url": "http://127.0.0.1/a.tar", "md5": "0"}
    with pytest.raises(UserError, match="no address"):
        fetch.run(OmegaConf.create({"data": {"name": "a", "root": str(tmp_path)}}))
