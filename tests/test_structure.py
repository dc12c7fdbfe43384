"""The size of files and functions; what imports what is checked by import-linter (`make check`)."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FILES = sorted(
    file.relative_to(REPOSITORY)
    for folder in ("segment", "tests", "benchmarks", "examples")
    for file in (REPOSITORY / folder).rglob("*.py")
)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_no_file_is_over_400_lines_and_no_function_over_60(file):
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    assert {function.name: lines(function) for function in functions if lines(function) > 60} == {}


def lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = first.end_lineno - first.lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - docstring
