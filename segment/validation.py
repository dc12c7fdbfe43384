"""Content of files, checked against the types of a dataclass; errors name the file and the key."""

from __future__ import annotations

import functools
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from segment.errors import UserError, did_you_mean

T = TypeVar("T")

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number; unlike pydantic's float, neither text nor true."""

UNKNOWN_KEY = "unexpected_keyword_argument"
# By pydantic's type of error, in place of its message; formatted with its context.
_MESSAGES = {
    "missing": "is missing",
    UNKNOWN_KEY: "is not a known key",
    "too_short": "has {actual_length} entries, at least {min_length} are required",
    "too_long": "has {actual_length} entries, at most {max_length} are allowed",
    "tuple_type": "{value} should be a list",
    "dict_type": "{value} should be a mapping of names to values",
    "dataclass_type": "{value} should be a mapping of names to values",
    "float_type": "{value} should be a number (1.0e-5, not 1e-5)",
}


def one_of(options: Iterable[str]) -> AfterValidator:
    """A constraint for text that must be one of several names."""

    def check(value: str) -> str:
        if value not in options:
            hint = did_you_mean(value[:100], options)
            raise ValueError(f"{short(value)} is not one of {', '.join(options)}.{hint}")
        return value

    return AfterValidator(check)


def matching(pattern: str, description: str) -> AfterValidator:
    """A constraint for text that must match a regular expression, described in words."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(f"{short(value)} should be {description}")
        return value

    return AfterValidator(check)


def whole(low: int, high: int) -> Any:
    """A constraint for an integer, from low to high; 2.0 and true are refused."""
    return Field(strict=True, ge=low, le=high)


def read_as(kind: type[T], content: Any, where: Path | str, unknown_keys: bool = False, fix: str = "") -> T:
    """Check the content of a file and convert it to a type.

    Args:
        kind: A dataclass whose annotations say what is valid.
        content: Plain data.
        where: The file, for the error.
        unknown_keys: Whether keys that the dataclass lacks are ignored instead of refused.
        fix: What the user should do, as a sentence, where the error does not say it.

    Raises:
        UserError: When something is missing, unknown, of the wrong type or out of range; names the file and the key.
    """
    adapter = _adapter(kind)  # type: ignore[arg-type]  # classes are hashable
    try:
        checked: T = adapter.validate_python(content, extra=None if unknown_keys else "forbid")
    except ValidationError as error:
        raise UserError(f"{where}: {_explain(error, content, adapter)} {fix}".rstrip()) from None
    return checked


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _explain(error: ValidationError, content: Any, adapter: TypeAdapter[Any]) -> str:
    """The first thing that is wrong; an unknown key first, since a misspelt one is also reported as missing."""
    first = min(error.errors(include_url=False), key=lambda entry: entry["type"] != UNKNOWN_KEY)
    value, message = short(first["input"]), first["msg"].removeprefix("Value error, ")
    if first["type"] in _MESSAGES:
        message = _MESSAGES[first["type"]].format(value=value, **first.get("ctx", {}))
    elif message.startswith("Input "):
        message = value + message.removeprefix("Input")
    if first["type"] == UNKNOWN_KEY:
        message += "." + did_you_mean(str(first["loc"][-1])[:100], _names(adapter))
    key = _key(first["loc"], content)
    return (f"{key}: {message}" if key else message) + ("" if message[-1] in ".?" else ".")


def _key(path: Sequence[int | str], content: Any) -> str:
    """The key that an error is about, such as ``plan.strides[1]``."""
    text = ""
    for part in path:
        if isinstance(content, Mapping) and part != "[key]":
            text, content = f"{text}.{key_name(part)}" if text else key_name(part), content.get(part)
        elif isinstance(content, list | tuple):
            place = int(part)  # of a list that is too short, the missing entry
            text, content = f"{text}[{place}]", content[place] if place < len(content) else None
        else:  # pydantic adds the member of a union that did not match, or that it is a key that is wrong
            break
    return text


def key_name(key: Any) -> str:
    """A key of a mapping for a message: in quotes and shortened, unless it is an ordinary name."""
    return key if isinstance(key, str) and re.fullmatch(r"[\w-]{1,100}", key, re.ASCII) else short(key)


def _names(adapter: TypeAdapter[Any]) -> list[str]:
    """The keys that a type knows, at any depth."""
    schema = adapter.json_schema()
    return [name for part in (schema, *schema.get("$defs", {}).values()) for name in part.get("properties", ())]


def short(value: Any) -> str:
    """A value for a message: at most a few dozen characters, none of them control characters."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python does not print integers of thousands of digits
        return f"a huge {type(value).__name__}"
