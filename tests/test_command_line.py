"""Arguments of the command line: paths are taken literally, everything else is parsed by Hydra."""

import os
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString

from segment.command_line import PATHS, assign, command, for_hydra, override, quoted, typed, unquoted
from segment.config.folders import BUILT_IN

AWKWARD = (
    "größe.nii.gz", "scan (1).nii", "it's", 'the "best"', "a#b", "[a]", "[a,b]", "x^2", "a,b", "a = b", "t=1", "$x",
    "{a}", "%", "back\\slash", "end\\", "\\'", "'half", '"', "runs/x-trainer.max_steps=150,2", "a\tb",
    "line\nbreak", "a:b", "1", "1e3", "true", "~x", "日本", "choice", "-m",
)  # fmt: skip


def read(argument: str):
    """What Hydra makes of a value: plain Python."""
    value = OverridesParser.create().parse_override(argument).value()
    items = value if isinstance(value, list) else [value]
    plain = [item.text if isinstance(item, QuotedString) else item for item in items]
    return plain if isinstance(value, list) else plain[0]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Paths that exist are another matter."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("text", AWKWARD)
def test_path_values_may_contain_any_characters(text):
    assert read(override(f"output={text}")) == text
    assert unquoted(quoted(text)) == text
    # Of what Hydra was given, what a user would type.
    assert override(typed(f"output={quoted(text)}")) == f"output={quoted(text)}"
    assert read(override(assign("model", text))) == text
    assert read(override(assign("runs", [text, "b"]))) == [text, "b"]
    assert shlex.split(command("predict", assign("model", text)))[2:] == [assign("model", text)]


@pytest.mark.parametrize(
    "argument",
    [
        "network=unet", "optimizer.lr=0.1", "network.encoder.features=[4,8]", "-m", "--cfg", "job", "--help", "~output",
        "~output=a b", "+experiments/hippocampus=two_cores", "hydra.sweep.dir=a b", "augment=a,b", "output", "=", "",
        "output=", "output=null", "plan=null", "write=true", "write=False", "plan={patch_size: [8,8]}",
        "output='a b'", 'output="it\'s"', r"output='it\'s'", "runs=['a','b,c']",
    ],
)  # fmt: skip
def test_everything_else_is_left_to_hydra(argument):
    assert for_hydra([argument]) == [argument]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("+output=a b", "a b"),
        ("++data.root=a b", "a b"),
        ("runs=a", "a"),
        ("runs=runs/*", "runs/*"),
        ("runs=a,b", ["a", "b"]),
        ("runs=[a, b=1]", ["a", "b=1"]),
        ("runs=[it's]", ["it's"]),
        ("runs=[]", []),
        ("runs=${x}", "${x}"),
        ("runs=[[a],~/b]", ["[a]", "HOME/b"]),
        ("runs=['a,b',\"c\"]", ["a,b", "c"]),
        ("data.root=~/x", "HOME/x"),
        ("input=~", "HOME"),
        ("input=x~/y", "x~/y"),
        ("write=experiments (mine)", "experiments (mine)"),
        ("output=${oc.env:A,'it''s'}/a b", "${oc.env:A,'it''s'}/a b"),
        ("data.image=volume-{case}.nii", "volume-{case}.nii"),
        ("data.image=[{case}-a.nii,{case}-b.nii]", ["{case}-a.nii", "{case}-b.nii"]),
    ],
)
def test_signs_lists_home_and_interpolations(argument, value):
    items = [item.replace("HOME", os.environ["HOME"]) for item in ([value] if isinstance(value, str) else value)]
    assert read(override(argument)) == (items[0] if isinstance(value, str) else items)


def test_a_path_that_exists_is_one_path(tmp_path):
    for name in ("[a,b]", "a,b", "'x'", "c, d"):
        (tmp_path / name).mkdir()
    for name in ("[a,b]", "a,b", "'x'"):
        assert read(override(f"runs={name}")) == name
        assert for_hydra(["-m", f"data.root={name}"])[1] == f"data.root={quoted(name)}"
    assert read(override("runs=[a,b,c, d,e,f]")) == ["a,b", "c, d", "e", "f"]


@pytest.mark.parametrize(
    ("argument", "made"),
    [
        ("data.root=a b, c#", "data.root='a b','c#'"),
        ("data.root='a,b',c", "data.root='a,b','c'"),
        ("output=${x:1,2}/a,b", "output='${x:1,2}/a','b'"),
        ("weights=null,a=b", "weights=null,'a=b'"),
        ("weights=choice(a,b)", "weights=choice(a,b)"),
        ("weights=glob(*)", "weights=glob(*)"),
        ("runs=[a,b],[c,d=1]", "runs=['a','b'],['c','d=1']"),
        ("seed=0,1", "seed=0,1"),
    ],
)
def test_in_a_sweep_a_comma_separates_choices(argument, made):
    for flag in ("-m", "--multirun", "hydra.mode=MULTIRUN"):
        assert for_hydra([argument, flag])[0] == made


def test_every_key_is_one_of_a_verb():
    files = [*(BUILT_IN / "conf").glob("*.yaml"), BUILT_IN / "conf" / "data" / "auto.yaml"]
    lines = {line.strip().partition(":")[0] for file in files for line in file.read_text().splitlines()}
    assert {key.rpartition(".")[2] for key in PATHS} <= lines
