"""The verb list, through the command, as tables and as JSON."""

import contextlib
import io
import json
import os
import re
import sys
from pathlib import Path

import hydra
import pytest
from many_commands import run_all

from segment import cli
from segment.commands import list as listing
from segment.config import network_table
from segment.config.compose import register

CONF = Path(__file__).parents[2] / "conf"
OURS = {file.stem for file in CONF.glob("network/*.yaml")}
OWN = """
import torch
class Only3D(torch.nn.Module):
    def __init__(self, spatial_dims, in_channels, out_channels):
        super().__init__()
        if spatial_dims != 3:
            raise ValueError("volumes only")
        self.layer = torch.nn.Conv3d(in_channels, out_channels, 3, padding=1)
    def forward(self, image):
        return self.layer(image)
"""


def segment(*arguments: str) -> str:
    """Standard output of ``segment list`` with these arguments, outside a terminal."""
    given, sys.argv = sys.argv, ["segment", "list", *arguments]
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            cli.main()
    finally:
        sys.argv = given
    return out.getvalue()


def one(*arguments: str) -> dict:
    return json.loads(segment("networks", *arguments, "format=json"))


SOME = {"unet", "unet_small", "unetpp_ds", "swinunetr", "unetr", "dynunet", "own", "lost", "wrong"}


@pytest.fixture(scope="module")
def listed(tmp_path_factory) -> tuple[list[dict], str]:
    """Some networks, three custom ones, and the messages about them; listing all networks takes ten seconds."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_networks_of_the_list_test.py").write_text(OWN)
    (folder / "conf" / "network").mkdir(parents=True)
    own = folder / "conf" / "network" / "own.yaml"
    own.write_text(
        "# Mine, https://example.org/paper\n_target_: own_networks_of_the_list_test.Only3D\n_partial_: true\n"
    )
    own.with_name("lost.yaml").write_text("_target_: no.such.Network\n_partial_: true\n")
    own.with_name("wrong.yaml").write_text("defaults: [nothing]\n")
    before = Path.cwd()
    os.chdir(folder)
    path = sys.path[:]
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said, pytest.MonkeyPatch.context() as patch:
            names = listing.options
            patch.setattr(listing, "options", lambda group: [name for name in names(group) if name in SOME])
            return json.loads(segment("networks", "format=json")), said.getvalue()
    finally:
        sys.path[:] = path
        os.chdir(before)


@pytest.fixture
def rows(listed) -> dict[str, dict]:
    return {row["name"]: row for row in listed[0]}


@pytest.mark.slow
def test_list_shows_figures_of_every_network():
    listed = {row["name"]: row for row in json.loads(segment("networks", "format=json"))}
    assert listed.keys() == OURS
    for name, row in listed.items():
        assert row["dimensions"], name
        for dims in (2, 3):
            numbers = [row[f"{what} {dims}D"] for what in ("parameters", "operations per voxel")]
            assert all(numbers) if dims in row["dimensions"] else numbers == [None, None], name
        assert row["divisor"], name
        assert row["about"], name
        assert "http" not in row["about"], name


@pytest.mark.slow
def test_stored_figures_of_every_network_are_correct(tmp_path):
    network_table.write_table(tmp_path / "table.json")
    assert json.loads((tmp_path / "table.json").read_text()) == network_table.table()


def test_stored_figures_are_up_to_date(capsys):
    register()
    assert network_table.table()["code"] == network_table.code_hash(), "segment/networks has changed: make networks"
    with hydra.initialize(version_base="1.3", config_path=None):
        kept = network_table.table()["networks"]
        assert {name: row["configuration"] for name, row in kept.items()} == {
            name: network_table.configuration_hash(name) for name in OURS
        }, "conf/network has changed: make networks"
        for name in ("unet_small", "monai_unet", "unetpp_ds"):
            assert kept[name] == {"configuration": kept[name]["configuration"], **network_table.count(name)}


def test_custom_network_that_replaces_a_built_in_one_is_counted(tmp_path, monkeypatch):
    (tmp_path / "conf" / "network").mkdir(parents=True)
    ours = (CONF / "network" / "unet_small.yaml").read_text()
    assert "features: [8, 32, 64, 128]" in ours
    (tmp_path / "conf/network/unet_small.yaml").write_text(ours.replace("[8, 32, 64, 128]", "[8, 16]"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(listing, "options", lambda group: ["unet_small", "unet"])
    counted = []
    monkeypatch.setattr(network_table, "count", lambda name: counted.append(name) or {})
    segment("networks", "format=json")
    assert counted == ["unet_small"]


def test_list_imports_no_slow_package(tmp_path):
    told = run_all([["list"], ["list", "networks", "format=json"]], tmp_path)
    assert [code for code, *_ in told["results"]] == [0, 0], told
    assert told["imported"] == []
    assert {row["name"] for row in json.loads(told["results"][1][1])} >= OURS


def test_every_network_has_a_row(monkeypatch):
    monkeypatch.setattr(listing, "network_row", lambda name: {"name": name})
    assert [row["name"] for row in json.loads(segment("networks", "format=json"))] == sorted(OURS)


def test_parameter_counts_equal_the_papers(rows):
    assert rows["unet"] == {
        "name": "unet",
        "dimensions": [2, 3],
        "parameters 2D": 31_030_658,  # of the paper's network with two classes, as counted many times
        "parameters 3D": 90_292_738,
        "operations per voxel 2D": 1_467_776,  # by hand, below
        "operations per voxel 3D": rows["unet"]["operations per voxel 3D"],
        "divisor": [16, 16, 16],
        "deep supervision": 0,
        "paper": "https://arxiv.org/abs/1505.04597",
        "about": "Ronneberger et al. 2015, U-Net: two convolutions per stage, max pooling, up-convolution, "
        "concatenation",
    }
    features, operations, below = [64, 128, 256, 512, 1024], 2 * 64 * 2, 1
    for stage, channels in enumerate(features):
        operations += 2 * 9 * (below * channels + channels**2) / 4**stage
        if stage < 4:  # the up-convolution of 2x2 gives four voxels for each it takes
            operations += 2 * (2 * channels * channels + 9 * (2 * channels * channels + channels**2)) / 4**stage
        below = channels
    assert operations == 1_467_776
    assert rows["unet_small"]["divisor"] == [8, 8, 8]
    assert rows["unet_small"]["paper"] is None
    assert rows["swinunetr"]["parameters 3D"] == pytest.approx(62.19e6, rel=1e-3)
    assert rows["unetr"]["parameters 3D"] == pytest.approx(92.8e6, rel=1e-3)
    assert rows["unetpp_ds"]["deep supervision"] == 3


def test_custom_networks_are_listed_and_broken_ones_do_not_stop_the_list(listed, rows):
    assert rows.keys() == SOME
    own = rows["own"]
    assert (own["dimensions"], own["parameters 2D"], own["parameters 3D"]) == ([3], None, 2 * 27 + 2)
    assert (own["operations per voxel 2D"], own["operations per voxel 3D"]) == (None, 2 * 2 * 27)
    assert (own["divisor"], own["paper"], own["about"]) == ([1, 1, 1], "https://example.org/paper", "Mine")
    for name, why in (("lost", "no.such.Network"), ("wrong", "nothing")):
        assert rows[name]["dimensions"] == []
        assert rows[name]["parameters 3D"] is rows[name]["divisor"] is None
        assert re.search(rf"^segment: network={name} cannot be described: .*{re.escape(why)}", listed[1], re.M)
    assert len(listed[1].strip().splitlines()) == 2


def test_table_has_one_line_per_network_and_fits_the_terminal(listed, monkeypatch):
    monkeypatch.setattr(listing, "networks", lambda: listed[0])
    monkeypatch.setenv("COLUMNS", "150")
    lines = segment("networks").splitlines()
    assert max(map(len, lines)) <= 150
    for row in listed[0]:
        (line,) = [line for line in lines if line.startswith(f"{row['name']} ")]
        assert len(line) <= 150
    (unet,) = [line.split() for line in lines if line.startswith("unet ")]
    numbers = ["31.0", "M", "90.3", "M", "1.47", "M", "1.81", "M", "16", "0"]
    assert unet[:14] == ["unet", "2D", "3D", *numbers, "arXiv:1505.04597"]
    assert unet[14:16] == ["Ronneberger", "et"]
    (own,) = [line.split() for line in lines if line.startswith("own ")]
    assert own == ["own", "3D", "-", "56", "-", "108", "1", "0", "example.org/paper", "Mine"]
    assert any("with a multiply-add counted as two" in line for line in lines)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (31_030_658, "31.0 M"),
        (999_600, "1.00 M"),
        (2e9, "2.00 G"),
    ],
)
def test_large_numbers_are_abbreviated(value, shown):
    assert listing.shown_number(value) == shown


def test_one_network_is_described_part_by_part():
    found = one("network=unet", "dims=2", "network.encoder.features=[8,16]")
    assert (found["name"], found["dimensions"], found["size"], found["divisor"]) == ("unet", 2, [192, 192], [2, 2])
    assert [part["name"] for part in found["parts"]] == [
        "encoder.stages.0",
        "encoder.downs.1, stages.1",
        "decoder.ups.0, joins.0, stages.0",
        "heads.0",
    ]
    second = found["parts"][1]
    weights = 9 * (8 * 16 + 16 * 16)
    assert (second["channels"], second["stride"], second["size"]) == (16, [2, 2], [96, 96])
    assert (second["parameters"], second["operations"]) == (weights + 2 * 16, 2 * weights * 96 * 96)
    assert second["share"] == second["operations"] / found["operations"]
    assert sum(part["share"] for part in found["parts"]) == pytest.approx(1)
    assert sum(part["parameters"] for part in found["parts"]) == found["parameters"]


@pytest.mark.parametrize(
    ("arguments", "dims", "size"),
    [
        ([], 3, [96, 96, 96]),
        (["dims=2"], 2, [192, 192]),
        (["size=40"], 3, [40, 40, 40]),
        (["size=[16,40,32]"], 3, [16, 40, 32]),
        (["size=[40,32]"], 2, [40, 32]),
    ],
)
def test_description_uses_the_requested_image_size(arguments, dims, size):
    found = one("network=unet_small", *arguments)
    assert (found["dimensions"], found["size"]) == (dims, size)
    assert found["parts"][-1]["size"] == size


def test_description_accepts_overrides_and_studies():
    name = "encoder.trunk.layer4"
    parts = {part["name"]: part for part in one("network=unet_encoder", "network.encoder=resnet50")["parts"]}
    assert (parts[name]["channels"], parts[name]["stride"]) == (2048, [32, 32, 32])
    assert one("network=mednext_s", "dims=2", "network.deep_supervision=1")["deep supervision"] == 1
    assert one("+experiments/hippocampus=two_cores", "size=16")["name"] == "unet_small"
    assert one("network.encoder.features=[8,16]", "size=16")["name"] == "unet_small"  # what train takes


def test_one_network_is_printed_as_a_table():
    lines = segment("networks", "network=nnunet_plain", "network.deep_supervision=1", "size=[16,32,32]").splitlines()
    assert lines[0].startswith("nnunet_plain: Isensee")
    assert max(map(len, lines[1:])) <= 140
    (head,) = [line.split() for line in lines if line.startswith("heads.1")]
    assert head[-5:] == ["-", "-", "-", "130", "0.0%"]
    (first,) = [line.split() for line in lines if line.startswith("encoder.stages.0")]
    assert first[:4] == ["encoder.stages.0", "32", "1", "32x32x64"]  # with the padding to 32
    assert any(line.endswith("on an image of 16x32x32.") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["networks", "network=unett"], "Did you mean 'unet'"),
        (["networks", "network=unet", "network.encoder.featurs=[8]"], "Did you mean 'network.encoder.features'"),
        (["networks", "network=unet", "+network.encoder.featurs=[8]"], "Did you mean 'features'"),
        (["networks", "network=unet", "network.deep_supervision=9"], "between 0 and 4"),
        (["networks", "network=unet_encoder", "network.encoder=resnet51"], "'resnet51' is not a classic encoder"),
        (["networks", "network=unet", "dims=4"], "dims=4"),
        (["networks", "network=unet", "size=0"], "size=0"),
        (["networks", "network=unet", "size=[8,8,8,8]"], "size=[8, 8, 8, 8]"),
        (["networks", "network=unet", "dims=2", "size=[8,8,8]"], "2 axes"),
        (["networks", "dims=2"], "network=NAME"),
        (["data", "network=unet"], "segment list networks"),
        (["network"], "Did you mean 'networks'"),
        (["networks", "format=yaml"], "format=yaml"),
    ],
)
def test_mistake_is_reported_in_one_paragraph(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        segment(*arguments)
    assert ended.value.code == 2
    words = capsys.readouterr().err
    assert said in words
    assert len(words.strip().splitlines()) == 1


@pytest.mark.parametrize("what", ["data", "studies", "metrics"])
def test_data_sets_studies_and_metrics_are_listed_with_descriptions(what, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    found = json.loads(segment(what, "format=json"))
    assert found
    assert all(row["about"] for row in found)
    lines = segment(what)
    assert all(row["name"] in lines and row["about"].split()[0] in lines for row in found)
