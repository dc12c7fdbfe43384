"""The verb fetch."""

import pytest
from omegaconf import OmegaConf

from segment.commands import fetch
from segment.errors import UserError


def test_fetch_downloads_what_the_data_set_names(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(fetch, "download", lambda **given: asked.update(given) or tmp_path)
    source = {"url": "http://127.0.0.1/a.tar", "md5": "0", "licence": "free"}
    fetch.run(OmegaConf.create({"data": {"name": "a", "root": str(tmp_path), "source": source}}))
    assert asked == {"destination": str(tmp_path), "url": "http://127.0.0.1/a.tar", "md5": "0"}
    with pytest.raises(UserError, match="no download URL"):
        fetch.run(OmegaConf.create({"data": {"name": "a", "root": str(tmp_path)}}))
