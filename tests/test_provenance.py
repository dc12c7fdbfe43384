import calendar
import hashlib
import importlib
import json
import os
import re
import sys
import time
from pathlib import Path

import pytest
import torch

from segment import provenance
from segment.instruction_set import onednn_isa


def test_the_record_of_a_run(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/some/where/segment", "train", "data=demo"])
    record = provenance.collect(5, time.time() - 12, cases={"a": 1})
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["seed"] == 5
    assert record["cases"] == {"a": 1}
    assert record["command"] == ["segment", "train", "data=demo"]
    assert record["wall_seconds"] == pytest.approx(12, abs=5)
    started = calendar.timegm(time.strptime(record["started"], "%Y-%m-%dT%H:%M:%SZ"))
    assert started == pytest.approx(time.time() - 12, abs=10)
    assert {
        "python",
        "torch",
        "monai",
        "numpy",
        "pytorch-lightning",
        "nibabel",
        "scipy",
        "pandas",
        "scikit-learn",
    } <= set(record["versions"])
    assert re.match(r"\d+\.\d", record["versions"]["oneDNN"])
    assert set(record["hardware"]) == {"processor", "cores", "memory_gb", "capability", "onednn_isa", "accelerators"}
    assert record["hardware"]["onednn_isa"] == onednn_isa()
    assert 1 <= record["hardware"]["cores"] <= os.cpu_count()
    assert record["hardware"]["processor"]
    assert 50 < record["peak_memory_mb"] < record["hardware"]["memory_gb"] * 1100
    clean = {"commit", "uncommitted_changes"}
    assert set(record["code"]) in (clean, clean | {"diff_sha256"}, set())
    assert ("diff_sha256" in record["code"]) == record["code"].get("uncommitted_changes", False)
    assert record["computing"]["threads"] == torch.get_num_threads()
    assert record["computing"]["deterministic"] is torch.are_deterministic_algorithms_enabled()
    assert {"cuda", "cudnn", "tf32", "cudnn_benchmark"} <= set(record["computing"])


def test_modules_and_configurations_of_the_users_own_are_hashed(tmp_path, monkeypatch):
    (tmp_path / "conf" / "network").mkdir(parents=True)
    (tmp_path / "conf" / "network" / "mine.yaml").write_text("a: 1\n")
    (tmp_path / "my_network_of_a_test.py").write_text("WIDTH = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("my_network_of_a_test")
    found = provenance.user_files([Path("conf"), Path("nowhere")])
    assert found == {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in ("conf/network/mine.yaml", "my_network_of_a_test.py")
    }
    assert provenance.user_files([Path(provenance.__file__).parents[1] / "conf"]).keys() == {"my_network_of_a_test.py"}
    sys.modules.pop("my_network_of_a_test")


def test_an_installation_from_a_repository_names_its_commit(monkeypatch):
    class Installed:
        text = '{"url": "https://example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}'

        def read_text(self, name: str) -> str:
            assert name == "direct_url.json"
            return self.text

    monkeypatch.setattr(provenance.importlib.metadata, "distribution", lambda name: Installed())
    assert provenance._installed_commit() == {"commit": "abc", "uncommitted_changes": False}
    Installed.text = '{"url": "file:///x.whl", "archive_info": {"hashes": {"sha256": "def"}}}'
    assert provenance._installed_commit() == {"archive_sha256": "def"}
    Installed.text = None
    assert provenance._installed_commit() == {}
