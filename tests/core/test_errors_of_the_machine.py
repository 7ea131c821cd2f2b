"""What the machine refuses is said in words: never with the number of its error."""

from __future__ import annotations

import ast
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.errors import why

HARNESS = Path(__file__).parents[2] / "harness"
OF_THE_MACHINE = {"OSError", "IOError", "PermissionError", "FileNotFoundError"}


def _formatted(handler: ast.ExceptHandler) -> Iterator[int]:
    """The lines that write the caught error itself into a text."""
    for node in ast.walk(handler):
        in_text = isinstance(node, ast.FormattedValue) and ast.unparse(node.value) == handler.name
        if in_text or (isinstance(node, ast.Call) and ast.unparse(node) == f"str({handler.name})"):
            yield node.lineno


def _caught(handler: ast.ExceptHandler) -> set[str]:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {ast.unparse(kind) for kind in kinds if kind is not None}


def test_no_handler_writes_an_error_of_the_machine_with_its_number() -> None:
    """`why` writes it, as `[Errno 21] Is a directory` is of Python, and not of the user's file."""
    lines = [
        f"{path.relative_to(HARNESS)}:{line}"
        for path in HARNESS.rglob("*.py")
        for handler in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(handler, ast.ExceptHandler) and _caught(handler) & OF_THE_MACHINE
        for line in _formatted(handler)
    ]
    assert not lines


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EISDIR, errno.ENOSPC])
def test_error_of_the_machine_is_told_by_its_words_and_its_file(number: int) -> None:
    words = os.strerror(number)
    assert why(OSError(number, words, "a b.yaml")) == f"{words}: 'a b.yaml'"
    assert why(OSError(number, words)) == words


def test_other_errors_are_told_as_they_are() -> None:
    assert why(OSError("the connection is gone")) == "the connection is gone"
    assert why(ValueError("no number")) == "no number"
