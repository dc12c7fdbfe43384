"""The Python examples in README.md run unchanged."""

import re
from pathlib import Path

from segment.config.folders import BUILT_IN

README = Path(__file__).parents[1] / "README.md"


def test_the_block_of_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGMENT_CACHE", str(tmp_path / "cache"))
    # One's own choices go before the built-in ones: here the same names, made small.
    for file, old, new in (
        ("data/demo.yaml", "scans: 24", "scans: 5"),
        ("trainer/cpu.yaml", "max_steps: 1000", "max_steps: 2"),
        ("sampler/patches.yaml", "steps_per_epoch: 50", "steps_per_epoch: 2"),
        ("inference/mirror.yaml", "mirror: all", "mirror: []"),
    ):
        text = (BUILT_IN / "conf" / file).read_text(encoding="utf-8")
        assert old in text
        (tmp_path / "conf" / file).parent.mkdir(parents=True)
        (tmp_path / "conf" / file).write_text(text.replace(old, new), encoding="utf-8")
    section = README.read_text(encoding="utf-8").split("## From Python\n")[1]
    block = re.match(r"\n((?:    .*\n)+)", section)
    assert block is not None
    made: dict = {}
    exec(re.sub("^    ", "", block[1], flags=re.M), made)
    assert made["run"].path != made["other"].path
    assert (tmp_path / "mask.nii.gz").exists()
    assert set(made["summary"].index.get_level_values("structure")) == set(made["run"].table.index.levels[0])
    assert {"rank", "mean", "low", "high", "n"} == set(made["methods"].columns)
    assert next(iter(made["batches"]))["image"].ndim == 5
