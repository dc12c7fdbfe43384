"""Every verb works where the output is no terminal and has ASCII letters and neither colours nor movement."""

import json
import shutil
from pathlib import Path

from many_commands import run_all

from segment.cli import VERBS

OLD = Path(__file__).parent / "fixtures" / "runs_of_november_2026"
TINY = (
    "network=unet_small network.encoder.features=[4,8] trainer.max_steps=2 sampler.steps_per_epoch=2 plan.batch_size=1 "
    "trainer.check_val_every_n_epoch=1 trainer.precision=32-true plan.patch_size=[8,8,8] inference=plain folds=2"
)
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "TERM": "dumb", "NO_COLOR": "1"}


def test_every_verb_works_without_a_terminal_and_in_ascii(tmp_path):
    shutil.copytree(OLD / "scans", tmp_path / "scans")
    described = tmp_path / "scans" / "dataset.json"
    content = json.loads(described.read_text())
    names = {"shell": "Gr\u00f6\u00dfe", "core": "\u6838"}
    content["labels"] = {value: names.get(name, name) for value, name in content["labels"].items()}
    described.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    data = ["data=auto", "data.root=scans", "cache=cache"]
    scores = ["output=scores"]
    commands = [
        ["train", *data, *TINY.split(), "output=run"],
        ["predict", "model=run", "input=scans/imagesTr/case_0.nii.gz", "output=masks"],
        ["convert", "input=masks", "output=converted", "format=nrrd"],
        ["export", "model=run", "format=onnx", "output=exported"],
        ["evaluate", "predictions=masks", "references=one", *scores],
        ["compare", f"runs=[{OLD / 'seed0'},{OLD / 'seed1'}]", "output=comparison"],
        ["suggest", "model=run", "data=auto", "data.root=scans/imagesTr", "data.layout=images", "n=1", "cache=cache"],
        ["check", *data],
        ["plan", *data],
        ["prepare", *data, "shard=1/2"],
        ["pretrain", *data, *TINY.split(), "method=mae", "output=made"],
        ["show", "augment", *data, "plan.patch_size=[8,8,8]", "scans=1", "draws=1"],
        ["monitor", "log=seen.jsonl", "reference=seen.jsonl"],
        ["promote", "model=run"],
        ["reproduce"],
        ["list"],
    ]
    left_out = {"fetch", "serve", "efficiency"}  # one needs a server, one is one, one needs several trainings
    assert {command[0] for command in commands} == {*VERBS} - left_out
    seen = {"time": "2026-11-01", "model": "m", "state": "done", "features": {"volume_Gr\u00f6\u00dfe": 1.0}}
    (tmp_path / "seen.jsonl").write_text(f"{json.dumps(seen)}\n" * 10)
    (tmp_path / "one").mkdir()
    shutil.copy(tmp_path / "scans" / "labelsTr" / "case_0.nii.gz", tmp_path / "one")
    shutil.copy(described, tmp_path / "one")
    told = run_all(commands, tmp_path, **ASCII)["results"]
    assert [(command[0], err) for command, (code, _, err) in zip(commands, told, strict=True) if code] == []
    printed = "".join(out + err for _, out, err in told)
    assert "\\xf6" in told[0][1]  # the label's name, as far as ASCII can show it
    assert "\x1b" not in printed
    assert printed.isascii()
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["labels"].keys() == {
        *names.values()
    }
