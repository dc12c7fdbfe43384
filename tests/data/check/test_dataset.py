"""``segment check`` finds and names every kind of defect and changes nothing on disk."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import broken_descriptions  # noqa: F401 - enters its breakages
import nibabel as nib
import numpy as np
import pytest
from breakage import BREAKAGES, IMAGE, LABEL, change, load, save
from broken_scans import label_truncated
from omegaconf import OmegaConf

from segment import cli
from segment.commands import check as verb
from segment.config.compose import compose
from segment.data import open_dataset
from segment.data.check import judge, surveys
from segment.data.check.dataset import check_dataset
from segment.data.problems import KINDS
from segment.data.synthetic.demo import demo_dataset


def contents(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def composed():
    """The verb's configuration: composing it takes longer than checking a miniature data set."""
    return compose("check", ["data=auto", "data.root=x", "format=json"])


@pytest.fixture
def check(tmp_path, composed, capsys):
    """``check(root, *overrides) -> (exit code, report)`` of the verb's function; the data set must stay as it is."""

    def run(root, *overrides):
        before = contents(root)
        given = OmegaConf.from_dotlist([f"data.root={root}", f"cache={tmp_path / 'cache'}", *overrides])
        code = 0
        try:
            verb.run(OmegaConf.merge(composed, given))
        except SystemExit as stop:
            code = stop.code
        assert contents(root) == before
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """``command(root, *overrides) -> (exit code, stdout)`` of the whole command line in this process."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(root, *overrides, data="auto"):
        before = contents(root)
        given = [f"data={data}", f"data.root={root}", f"cache={tmp_path / 'cache'}", *overrides]
        monkeypatch.setattr(sys, "argv", ["segment", "check", *given])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        assert contents(root) == before
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def miniature(make_dataset, tmp_path):
    """``miniature(layout, channels) -> root`` of four small scans."""

    def make(layout="msd", channels=1):
        return make_dataset(tmp_path / "in", layout, n=4, shape=(6, 8, 7), channels=channels)

    return make


@pytest.mark.parametrize("layout", ["msd", "nnunet", "folders", "table"])
@pytest.mark.parametrize(("shape", "channels"), [((6, 8, 7), 2), ((16, 16), 1)])
def test_valid_data_set_has_no_problems(make_dataset, tmp_path, check, layout, shape, channels):
    root = make_dataset(tmp_path / "in", layout, n=4, shape=shape, channels=channels)
    code, report = check(root, "strict=true")
    assert code == 0
    assert report == {"dataset": "in", "scans": 4, "errors": 0, "warnings": 0, "problems": []}


@pytest.mark.parametrize("broken", BREAKAGES, ids=lambda broken: broken.name)
def test_each_defect_is_found_and_named(miniature, check, broken):
    root = miniature(broken.layout, broken.channels)
    overrides = broken.do(root) or []
    code, report = check(root, *overrides)
    severity = "warning" if broken.warning else "error"
    of_kind = [problem for problem in report["problems"] if problem["kind"] == broken.kind]
    found = [
        problem
        for problem in of_kind
        if problem["file"].endswith(broken.file or str(root))
        and all(word in f"{problem['what']} {problem['fix']}" for word in broken.words)
        and problem["severity"] == severity
        and problem["fix"]
    ]
    assert len(found) == 1, report["problems"]
    assert code == (0 if report["errors"] == 0 else 2)
    assert code == 2 or broken.warning
    if broken.warning:
        assert report["errors"] == 0, report["problems"]


def test_every_kind_of_problem_is_tested():
    assert len({broken.name for broken in BREAKAGES}) == len(BREAKAGES) >= 40
    assert {broken.kind for broken in BREAKAGES} == set(KINDS) - {"privacy"}  # which is asked for: tests/privacy


def test_all_problems_are_reported_at_once(miniature, check):
    root = miniature()
    label_truncated(root)
    change(root / IMAGE.replace("b01", "c02"), lambda a: np.full_like(a, 3))
    (root / IMAGE.replace("b01", "d03")).unlink()
    content = json.loads((root / "dataset.json").read_text())
    content["labels"]["3"] = "ball_1"
    content["training"][0]["image"] = "/etc/passwd"
    (root / "dataset.json").write_text(json.dumps(content))
    code, report = check(root)
    kinds = [problem["kind"] for problem in report["problems"] if problem["severity"] == "error"]
    assert (code, sorted(kinds)) == (2, ["constant", "description", "labels", "missing", "unreadable"])


def test_the_text_groups_by_kind_and_ends_with_the_verdict(miniature, command):
    root = miniature()
    for case in ("a00", "b01"):
        change(root / LABEL.replace("b01", case), lambda a: np.where(a == 2, 7, a).astype(np.uint8))
    code, said = command(root)
    assert code == 2
    lines = said.splitlines()
    assert lines[0] == f"ERROR  {KINDS['undeclared']} (2)"
    assert [line.split(":")[0].strip() for line in lines[1:3]] == [
        "labelsTr/case_a00.nii.gz",
        "labelsTr/case_b01.nii.gz",
    ]
    assert lines[3].strip().startswith("-> Correct the mask")
    assert lines[-1] == f"{root}: 4 scans read, 2 errors, 0 warnings: not valid."


def test_strict_refuses_warnings_too(miniature, command):
    root = miniature()
    change(root / LABEL, np.zeros_like)
    assert command(root)[0] == 0
    code, said = command(root, "strict=true")
    assert code == 2
    assert said.endswith("0 errors, 1 warning: valid.\n")


def test_missing_root_is_one_paragraph(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["segment", "check", "data=hippocampus", f"data.root={tmp_path / 'gone'}"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr()
    assert (stop.value.code, said.out) == (2, "")
    assert re.fullmatch(r"segment: .*gone: does not exist.*segment fetch data=hippocampus.*\n", said.err)


def test_missing_root_key_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["segment", "check", "data=auto"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr()
    assert (stop.value.code, said.out) == (2, "")
    assert said.err.startswith("segment: data.root")


def test_second_check_uses_the_cache_and_finds_the_same(miniature, tmp_path, monkeypatch):
    root = miniature()
    label_truncated(root)
    real, read = surveys.examine, []
    monkeypatch.setattr(surveys, "examine", lambda case, *rest: read.append(case.id) or real(case, *rest))

    def again():
        read.clear()
        return check_dataset(lambda report: open_dataset(root, report=report), root, tmp_path / "facts")

    first = again()
    assert len(read) == 4
    assert again() == first
    assert (read, len(first.surveys)) == ([], 4)
    array, affine = load(root / IMAGE)
    array[0, 0, 0] += 1
    save(root / IMAGE, array, affine)
    changed = again()
    assert read == ["case_b01"]
    assert changed.surveys["case_b01"].digest != first.surveys["case_b01"].digest
    assert changed.hashes[str(root / IMAGE)] != first.hashes[str(root / IMAGE)]


def test_hashes_that_are_known_are_not_computed_again(miniature, tmp_path, monkeypatch):
    root = miniature()
    first = check_dataset(lambda report: open_dataset(root, report=report), root)
    asked = []
    monkeypatch.setattr("segment.data.check.dataset.remembered_hashes", lambda paths, memory: asked.extend(paths) or {})
    again = check_dataset(lambda report: open_dataset(root, report=report), root, hashes=first.hashes)
    assert asked == []
    assert again.hashes == first.hashes


def test_missing_masks_and_constant_scans_are_reported_once(miniature, check):
    root = miniature()
    (root / LABEL).unlink()
    for case in ("a00", "c02"):
        change(root / IMAGE.replace("b01", case), lambda a: np.full_like(a, 3))
    problems = check(root)[1]["problems"]
    assert [problem["kind"] for problem in problems] == ["missing", "constant", "constant"]


@pytest.mark.parametrize(
    "codes", ["".join(code) for code in itertools.product("RL", "AP", "SI")] + ["PIR", "SRA", "ARS", "RSA", "IPL"]
)
def test_handedness_is_the_sign_of_the_determinant(codes):
    turn = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(codes), (1, 1, 1))[:3, :3]
    assert judge.handedness(codes) == ("right-handed" if np.linalg.det(turn) > 0 else "left-handed")


def test_identical_test_scans_are_a_warning(miniature, check):
    root = miniature()
    (root / "imagesTs").mkdir()
    for name in ("new", "newer"):
        save(root / "imagesTs" / f"{name}.nii.gz", np.arange(64, dtype=np.uint8).reshape(4, 4, 4), np.eye(4))
    content = json.loads((root / "dataset.json").read_text())
    content["test"] = ["imagesTs/new.nii.gz", "imagesTs/newer.nii.gz"]
    (root / "dataset.json").write_text(json.dumps(content))
    code, report = check(root)
    assert (code, report["scans"]) == (0, 6)
    assert [(problem["kind"], problem["severity"]) for problem in report["problems"]] == [("identical", "warning")]


@pytest.mark.parametrize("name", ["Task04_Hippocampus", "isbi2012_em"])
def test_real_data_are_valid(shared_data, command, name):
    code, said = command(shared_data(name), data={"Task04_Hippocampus": "hippocampus"}.get(name, name))
    assert code == 0
    assert " 0 errors, " in said


def test_demo_data_set_is_valid(command, tmp_path):
    root = tmp_path / "demo"
    demo_dataset(root, scans=3)
    code, said = command(root, "data.scans=3", data="demo")
    assert (code, said.splitlines()[-1]) == (0, f"{root}: 3 scans read, 0 errors, 2 warnings: valid.")


def test_command_prints_only_json_and_exits_with_2(miniature, tmp_path):
    root = miniature()
    label_truncated(root)
    given = ["data=auto", f"data.root={root}", f"cache={tmp_path / 'cache'}", "format=json"]
    called = [sys.executable, "-m", "segment.cli", "check", *given]
    done = subprocess.run(called, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (2, "")
    assert json.loads(done.stdout)["errors"] == 1
