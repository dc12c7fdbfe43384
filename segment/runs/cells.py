"""Tables as comma-separated values that a spreadsheet displays but does not compute.

A name that comes from a data set may begin like a formula, such as ``=HYPERLINK(...)``. An apostrophe in front of it
makes spreadsheets take it for text (OWASP, CSV injection); reading the table removes it again.
"""

from __future__ import annotations

import re

import pandas as pd

_FORMULA = re.compile(r"'*(?:[=@\t\r]|[+-](?![\d.,]+(?:[eE][+-]?\d+)?$))")


def csv_text(table: pd.DataFrame, float_format: str | None = None) -> str:
    """The table as comma-separated values, without its index.

    Args:
        table: Any table; numbers are written with full precision.
        float_format: Format of fractions instead, such as ``%.6g``.
    """
    texts = table.select_dtypes(include=["object", "string"])
    escaped = table.assign(**{str(name): texts[name].map(_escaped) for name in texts})
    return escaped.to_csv(index=False, lineterminator="\n", float_format=float_format)


def names_in(column: pd.Series) -> pd.Series:
    """Names as they were, from a column of strings that `csv_text` wrote."""
    return column.map(lambda name: name[1:] if name.startswith("'") and _FORMULA.match(name) else name)


def _escaped(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value
