"""Tables for terminals and for Markdown."""

import os
import re
from pathlib import Path

import pytest

from segment.text import markdown, markdown_table, output, print_table, table, wrapped

RUN = "runs/hippocampus-attention_unet-fold0-seed12345-optimizer.lr0.001-max_steps150"
NUMBERS = ["0.8875", "0.8761 - 0.8972", "1.23e+12", "-0.0041", "12345678", "52"]
HEADS = ["run", "Dice", "95 % interval", "FLOP per step", "difference of means", "parameters", "n"]


def test_a_table_that_fits_has_one_line_a_row():
    assert table(["name", "n"], [["a", "1"], ["bc", "10"]], left=["name"], width=40).splitlines() == [
        "name   n", "────────", "a      1", "bc    10"
    ]  # fmt: skip


@pytest.mark.parametrize("width", [80, 60, 45])
def test_a_wide_table_keeps_within_the_width_and_loses_no_number(width):
    text = table(HEADS, [[RUN, *NUMBERS], ["b", *NUMBERS]], left=["run"], width=width)
    assert max(map(len, text.splitlines())) <= width
    for number in (word for cell in NUMBERS for word in cell.split()):
        assert len(re.findall(rf"(?<![\w.+-]){re.escape(number)}(?![\w.+])", text)) >= 2, number
    names = "".join(line.split("  ")[0].strip() for line in text.split("\n\n")[0].splitlines())
    assert RUN in names


def test_the_columns_of_a_table_that_cannot_fit_continue_below_it_with_their_names():
    heads, row = ["run", *(f"metric_{k}" for k in range(12))], ["a", *(f"0.{k:04}" for k in range(12))]
    blocks = table(heads, [row, "a heading", row], left=["run"], width=50).split("\n\n")
    assert len(blocks) == 3
    assert all(block.startswith("run ") and block.count("\na  ") == 2 and "\na heading\n" in block for block in blocks)
    assert re.findall(r"metric_\d+", " ".join(blocks)) == heads[1:]


def test_names_are_wrapped_where_a_reader_would_and_never_within_a_number():
    assert wrapped("fold0-seed12345-lr0.001", 14) == ["fold0-", "seed12345-", "lr0.001"]
    assert wrapped("lr=-0.5,x", 8) == ["lr=-0.5,", "x"]
    assert wrapped("a" * 10, 4) == ["aaaa", "aaaa", "aa"]


def test_wide_letters_count_twice_and_control_characters_are_shown_as_such():
    text = table(["name", "n"], [["海馬", "1"], ["a\x1b[31m\n", "2"]], left=["name"], width=40)
    assert "\x1b" not in text
    assert text.splitlines()[2] == "海馬     1"


def test_the_width_is_that_of_columns_else_eighty_where_there_is_no_terminal(monkeypatch, capsys):
    rows = [
        {"name": f"network_{k}", "a": "1", "b": "2", "c": "3", "paper": "p" * 20, "about": "words " * 20}
        for k in (1, 2)
    ]
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(output(), "networks", rows)
    text = capsys.readouterr().out
    assert "format=json, shows paper and about too" in text
    monkeypatch.setenv("COLUMNS", "130")
    print_table(output(), "networks", rows)
    wide = capsys.readouterr().out.splitlines()
    assert max(map(len, wide)) == 130
    assert [line[-1] for line in wide[3:]] == ["…", "…"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_rule_can_be_printed_whatever_the_encoding(monkeypatch, encoding):
    with Path(os.devnull).open("w", encoding=encoding) as stream:
        monkeypatch.setattr("sys.stdout", stream)
        table(["a"], [["1"]]).encode(encoding)


def test_nothing_from_a_file_is_more_than_text_in_markdown():
    for text in (
        "<script>x</script>", "[a](javascript:x)", "![a](b)", "a|b", "`a`", "**a**", "# a", "\x1b[31m", "a\nb"
    ):  # fmt: skip
        shown = markdown(text)
        assert not {"<", "\n", "\x1b"} & {*shown}
        for mark in "[]|`*#!":
            assert mark not in shown.replace(f"\\{mark}", "")
    assert markdown("nnunet_revisited, a-b 1.0 (x)") == "nnunet_revisited, a-b 1.0 (x)"
    assert markdown_table(["a", "b"], [["1", "2"]], left=1) == "| a | b |\n| :-- | --: |\n| 1 | 2 |\n"
