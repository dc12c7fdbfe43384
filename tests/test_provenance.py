import calendar
import json
import os
import re
import time

import pytest

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
    assert {"python", "torch", "monai", "numpy", "pytorch-lightning", "nibabel"} <= set(record["versions"])
    assert re.match(r"\d+\.\d", record["versions"]["oneDNN"])
    assert set(record["hardware"]) == {"processor", "cores", "memory_gb", "capability", "onednn_isa", "accelerators"}
    assert record["hardware"]["onednn_isa"] == onednn_isa()
    assert 1 <= record["hardware"]["cores"] <= os.cpu_count()
    assert record["hardware"]["processor"]
    assert 50 < record["peak_memory_mb"] < record["hardware"]["memory_gb"] * 1100
    assert set(record["code"]) in ({"commit", "uncommitted_changes"}, set())
