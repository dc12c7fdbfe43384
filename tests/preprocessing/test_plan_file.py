"""Plan files are written with reasons and read back; errors name the key."""

import contextlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segment.errors import UserError
from segment.preprocessing.fingerprint import Fingerprint
from segment.preprocessing.plan import DatasetPlan, Intensity
from segment.preprocessing.plan_file import MAX_BYTES, plan_text, read_plan, write_plan
from segment.preprocessing.planner import plan_dataset

CHANNELS = ("CT", "T1 # weighted: 'é'\n", "no")
INTENSITIES = (Intensity(-12.5, 80.125, -400.0, 1e-7), Intensity(0, 1, 0, 1), Intensity(3, 1, 1, 1e6))


def large() -> DatasetPlan:
    """All four configurations, one channel of CT."""
    scans = Fingerprint(((120, 480, 500),) * 30, ((2.4, 0.7812501192092896, 0.7),) * 30, INTENSITIES, 0.7, CHANNELS, 5)
    return plan_dataset(scans, "a: 'name' # of\x07 \N{SNOWMAN}", "resenc_m")


def flat() -> DatasetPlan:
    scans = Fingerprint(((480, 500),) * 30, ((1.0, 1.0),) * 30, (), 1.0, ("R", "G", "B"), 2)
    return plan_dataset(scans, "flat")


@pytest.fixture
def plan_path(tmp_path) -> Path:
    return tmp_path / "plan.yaml"


@pytest.mark.parametrize("make", [large, flat])
def test_written_plan_is_read_back(make, plan_path):
    plan = make()
    write_plan(plan_path, plan)
    found = read_plan(plan_path)
    assert found == plan
    assert list(found.configurations) == list(plan.configurations)
    assert found.reasons == {}


def test_all_four_configurations_are_tried():
    assert set(large().configurations) == {"2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"}
    assert "inherits_from: 3d_fullres" in plan_text(large())


def test_the_reason_stands_beside_each_decision():
    text = plan_text(large())
    configuration = text[text.index("  3d_fullres:") : text.index("  3d_cascade_fullres:")]
    decisions = [line for line in configuration.splitlines()[1:] if line.strip()]
    assert len(decisions) == 10
    assert all(re.search(r"\S  # \S", line) for line in decisions)
    assert re.search(r"patch_size: \[\d+, \d+, \d+\]  # ", configuration)
    assert "the preset" not in text


def test_reason_stays_within_its_comment(plan_path):
    plan = replace(flat(), reasons={"scans": "one\nmemory: 1\r\x85\u2028preset: x\x07"})
    write_plan(plan_path, plan)
    assert read_plan(plan_path) == plan


@pytest.mark.parametrize("name", ["é", "\x85", "a\u2028b", "# no", "'", '"', "a: b", "\t", "~", "1"])
def test_a_data_set_may_have_any_name(plan_path, name):
    plan = replace(flat(), dataset=name, reasons={})
    write_plan(plan_path, plan)
    assert read_plan(plan_path) == plan


FIELDS = [
    "patch_size",
    "batch_size",
    "spacing",
    "features",
    "kernel_sizes",
    "blocks",
    "decoder_blocks",
    "normalization",
]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["2d", "3d_fullres", "3d_lowres"]),
    batch=st.integers(1, 1000),
    factor=st.integers(1, 4),
    spacing=st.floats(1e-6, 1e5),
    features=st.integers(1, 8192),
    kernel=st.sampled_from([1, 3, 5, 7]),
    blocks=st.integers(1, 12),
    normalization=st.sampled_from(["zscore", "ct", "percentiles", "none"]),
    dataset=st.text(max_size=50),
    dice=st.booleans(),
)
def test_edits_are_read_back(
    plan_path, name, batch, factor, spacing, features, kernel, blocks, normalization, dataset, dice
):
    plan = large()
    old = plan.configurations[name]
    dims, stages = len(old.patch_size), len(old.strides)
    new = replace(
        old,
        batch_size=batch,
        patch_size=tuple(size * factor for size in old.patch_size),
        spacing=(spacing,) * dims,
        features=(features,) * stages,
        kernel_sizes=((kernel,) * dims,) * stages,
        blocks=(blocks,) * stages,
        decoder_blocks=(blocks,) * (stages - 1),
        normalization=(normalization, "none", "zscore"),
        intensities=plan.intensities if normalization == "ct" else (),
        batch_dice=dice,
    )
    edited = replace(plan, dataset=dataset, configurations=dict(plan.configurations) | {name: new})
    write_plan(plan_path, edited)
    assert read_plan(plan_path) == edited


def test_edits_by_hand_are_read(plan_path):
    text = plan_text(large())
    text = re.sub(r"(3d_fullres:\n(?:.*\n)*?    batch_size: )\d+", r"\g<1>7", text)
    text += "  mine:\n    inherits_from: 2d\n    batch_size: 5\n    batch_dice: false\n"
    plan_path.write_text(text)
    plan = read_plan(plan_path)
    assert plan.configurations["3d_fullres"].batch_size == plan.configurations["3d_cascade_fullres"].batch_size == 7
    assert plan.pick("mine") == replace(plan.pick("2d"), batch_size=5, batch_dice=False)


def content() -> dict:
    return yaml.safe_load(plan_text(large()))


FULL = ("configurations", "3d_fullres")
REMOVED = object()
MISTAKES = [
    (("patchsize",), 1, "patchsize: is not a known key"),
    ((*FULL, "patchsize"), [8], r"configurations\.3d_fullres\.patchsize: is not a known key\. Did you mean 'patch_s"),
    ((*FULL, "strides"), REMOVED, r"configurations\.3d_fullres\.strides: is missing"),
    ((*FULL, "patch_size"), REMOVED, r"configurations\.3d_fullres\.patch_size: is missing"),
    ((*FULL, "transpose"), [0, 1, 2], "3d_fullres: give transpose and intensities once"),
    (("memory",), REMOVED, "memory: is missing"),
    (("memory",), "1e1", r"memory: '1e1' should be a number \(1.0e-5"),
    (("memory",), True, "memory: True should be a number"),
    (("memory",), float("nan"), "memory: nan should be a finite number"),
    (("memory",), 1e5, "memory: 100000.0 should be less than"),
    (("preset",), "resenc_n", "preset: 'resenc_n' is not one of .* Did you mean 'resenc_"),
    (("scans",), 0, "scans: 0 should be greater than or equal to 1"),
    (("scans",), int("f" * 5000, 16), "scans: a huge int should be less than"),
    (("channels",), [], "channels: has 0 entries, at least 1"),
    (("channels",), [1, 2, 3], r"channels\[0\]: 1 should be a valid string"),
    (("channels",), ["a"] * 2, "intensities: has 3 entries for 2 channels"),
    (("transpose",), [0, 0, 1], "transpose: .* does not contain 0, 1 and 2"),
    (("transpose",), [], "median_shape: has 3 entries for 2 axes"),
    (("median_spacing",), [0, 1, 1], r"median_spacing\[0\]: 0 should be greater"),
    (("intensities",), [], "normalization: ct needs intensities"),
    (("intensities", 0, "low"), 5, r"intensities\[0\]\.low: 5 is above high"),
    (("intensities", 1, "sd"), -1, r"intensities\[1\]\.sd: -1 should be greater"),
    (("intensities", 1, "std"), 1, r"intensities\[1\]\.std: is not a known key"),
    (("configurations",), {}, "configurations: has 0 entries"),
    (("configurations",), [1], r"configurations: \[1\] should be a mapping"),
    (("configurations", "../x"), {}, r"configurations\.'../x': '../x' should be letters, digits and _ only"),
    (("configurations", "2d"), [1], r"configurations\.2d: \[1\] should be a mapping"),
    ((*FULL, "patch_size"), [32, 64], "spacing: has 3 entries for 2 axes of patch_size"),
    ((*FULL, "patch_size"), [64, 64, 65], r"patch_size: \[64, 64, 65\] is not divisible by .* Give \[64, 64, 96\]"),
    ((*FULL, "patch_size"), [1 << 15] * 3, "patch_size: has over"),
    ((*FULL, "patch_size"), [1 << 20] * 3, r"patch_size\[0\]: 1048576 should be less than"),
    ((*FULL, "patch_size"), [64.0, 64, 64], r"patch_size\[0\]: 64.0 should be a valid integer"),
    ((*FULL, "patch_size"), 64, "patch_size: 64 should be a list"),
    ((*FULL, "batch_size"), 0, "batch_size: 0 should be greater"),
    ((*FULL, "batch_size"), True, "batch_size: True should be a valid integer"),
    ((*FULL, "spacing"), [1.0, 1.0], "spacing: has 2 entries for 3 axes of patch_size"),
    ((*FULL, "spacing"), [1.0, -1.0, 1.0], r"spacing\[1\]: -1.0 should be greater"),
    ((*FULL, "normalization"), ["zscore"], "normalization: has 1 entries for 3 channels"),
    ((*FULL, "normalization"), ["ct", "zscroe", "none"], r"normalization\[1\]: 'zscroe' is not .* mean 'zscore'"),
    ((*FULL, "features"), [32, 64], "features: has 2 entries for 6 stages in strides. Give 6"),
    ((*FULL, "blocks"), [1], "blocks: has 1 entries"),
    ((*FULL, "decoder_blocks"), [1] * 6, "decoder_blocks: has 6 entries for 5 decoder stages"),
    ((*FULL, "features"), [1] * 1000, "features: has 1000 entries, at most 16"),
    ((*FULL, "kernel_sizes", 0), [3, 3], r"kernel_sizes\[0\]: has 2 entries for 3 axes"),
    ((*FULL, "kernel_sizes", 1), [2, 3, 3], "kernel_sizes: 2 is even"),
    ((*FULL, "strides", 1), [2, 2, 0], r"strides\[1\]\[2\]: 0 should be greater"),
    ((*FULL, "batch_dice"), "yes", "batch_dice: 'yes' should be a valid boolean"),
    ((*FULL, "previous_stage"), "3d_lowes", "previous_stage: '3d_lowes' is not .* Did you mean '3d_lowres'"),
    ((*FULL, "previous_stage"), "3d_fullres", "previous_stage: '3d_fullres' is not another configuration"),
    (("configurations", "3d_cascade_fullres", "inherits_from"), "mine", "inherits_from: 'mine' is not a configuration"),
    (("configurations", "3d_cascade_fullres", "inherits_from"), [1], r"inherits_from: \[1\] is not a configuration"),
    (("configurations", "2d", "inherits_from"), "3d_fullres", "inherits_from: '3d_fullres' is not a configuration"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "value", "message"), MISTAKES, ids=[f"{n}-{m[0][-1]}" for n, m in enumerate(MISTAKES)]
)
def test_an_error_names_the_file_and_the_key(keys, value, message, plan_path):
    changed = content()
    node = changed
    for key in keys[:-1]:
        node = node[key]
    if value is REMOVED:
        del node[keys[-1]]
    else:
        node[keys[-1]] = value
    text = yaml.safe_dump(changed, sort_keys=False) if not isinstance(value, int) or value < 1 << 64 else ""
    plan_path.write_text(text or re.sub("scans: 30", f"scans: {value:#x}", plan_text(large())))
    with pytest.raises(UserError, match=message) as caught:
        read_plan(plan_path)
    assert str(caught.value).startswith(f"{plan_path}: ")
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "should contain named values"),
        ("", "should contain named values"),
        ("a: [", "is damaged"),
        ("a: 1\na: 2\n", "the key 'a' is duplicated"),
        ("a: &x [1]\nb: *x\n", "uses a YAML alias"),
        ("a: !!python/object/apply:os.system ['true']\n", "is damaged"),
        ("[" * 2000, "is damaged"),
        ("a: 2026-13-45\n", "is damaged"),
        ("a: " + "9" * 5000 + "\n", "is damaged"),
        ("a: \x00\n", "is damaged"),
        ("# \n" * (MAX_BYTES // 3 + 1), "larger than 1,048,576 bytes"),
    ],
)
def test_a_file_without_a_plan_is_refused(text, message, plan_path):
    plan_path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_plan(plan_path)


def test_missing_or_binary_file_is_refused(plan_path, tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_plan(plan_path)
    plan_path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is damaged"):
        read_plan(plan_path)
    with pytest.raises(UserError, match="cannot be read"):
        read_plan(tmp_path)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=ANYTHING,
    key=st.sampled_from(["preset", "transpose", "channels", "intensities", "configurations", "spacing", "strides"]),
)
def test_any_value_gives_a_plan_or_a_user_error(plan_path, value, key):
    changed = yaml.safe_load(plan_text(flat()))
    (changed if key in changed else changed["configurations"]["2d"])[key] = value
    plan_path.write_text(json.dumps(changed))
    with contextlib.suppress(UserError):
        assert isinstance(read_plan(plan_path), DatasetPlan)
