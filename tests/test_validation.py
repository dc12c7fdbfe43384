"""Contents of files are converted to dataclasses, or refused with one paragraph that names the file and the key."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import pytest

from segment.errors import UserError
from segment.validation import Number, matching, one_of, read_as, whole


@dataclass(frozen=True)
class Part:
    size: Annotated[int, whole(1, 9)]
    kind: Annotated[str, one_of(["round", "square"])] = "round"


@dataclass(frozen=True)
class Whole:
    name: Annotated[str, matching(r"[a-z]+", "lower-case letters")]
    weight: Number | None = None
    parts: tuple[Part, ...] = ()


def test_nested_content_is_converted():
    content = {"name": "a", "weight": 2, "parts": [{"size": 3}, {"size": 4, "kind": "square"}]}
    assert read_as(Whole, content, "x.json") == Whole("a", 2.0, (Part(3), Part(4, "square")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"\[\] should be a mapping of names to values."),
        ({}, "name: is missing."),
        ({"name": "a", "wieght": 1}, "wieght: is not a known key. Did you mean 'weight'?"),
        ({"nmae": "a"}, "nmae: is not a known key. Did you mean 'name'?"),
        ({"name": "A"}, "name: 'A' should be lower-case letters."),
        ({"name": 1}, "name: 1 should be a valid string."),
        ({"name": "a", "weight": "1e-5"}, r"weight: '1e-5' should be a number \(1.0e-5, not 1e-5\)."),
        ({"name": "a", "weight": math.nan}, "weight: nan should be a finite number."),
        ({"name": "a", "weight": True}, "weight: True should be a number"),
        (
            {"name": "a", "parts": [{"size": 1}, {"size": 10}]},
            r"parts\[1\].size: 10 should be less than or equal to 9.",
        ),
        ({"name": "a", "parts": [{"size": 1.0}]}, r"parts\[0\].size: 1.0 should be a valid integer."),
        ({"name": "a", "parts": [{"size": 10**5000}]}, r"parts\[0\].size: a huge int should be"),
        (
            {"name": "a", "parts": [{"size": 1, "kind": "sqare"}]},
            r"parts\[0\].kind: 'sqare' is not one of round, square. Did you mean 'square'?",
        ),
        ({"name": "a", "parts": {}}, "parts: {} should be a list."),
        ({"name": "a", "\x1b[31m": 1}, r"'\\x1b\[31m': is not a known key."),
        ({"name": "a" * 10_000 + "A"}, "name: 'aaaaaaaaaaaa...aaaaaaaaaaaaA' should be"),
    ],
)
def test_errors_name_the_file_and_the_key(content, message):
    with pytest.raises(UserError, match=f"^x.json: {message.replace('?', '[?]')}") as caught:
        read_as(Whole, content, "x.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_unknown_keys_may_be_ignored_and_a_fix_follows_the_error():
    assert read_as(Whole, {"name": "a", "later": 1}, "x.json", unknown_keys=True) == Whole("a")
    with pytest.raises(UserError, match=r"^x.json: name: is missing\. Copy it again\.$"):
        read_as(Whole, {}, "x.json", fix="Copy it again.")
