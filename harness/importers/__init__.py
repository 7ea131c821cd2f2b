"""Readers of results: those of other tools, tables, records and stored baselines.

Each module gives runs with their metrics (`harness.comparison.measured`). `read` finds the module
by a file's content.
"""

from __future__ import annotations

from pathlib import Path

from harness.comparison.measured import Run
from harness.core.errors import HarnessError, unknown, why
from harness.importers import (
    alpaca_eval,
    baseline,
    csv_table,
    deepeval,
    evalsig,
    every_eval_ever,
    helm,
    inspect_log,
    lighteval,
    lm_eval,
    peft_method_comparison,
    promptfoo,
    records,
)
from harness.importers.base import Importer
from harness.importers.files import Unreadable, head

FORMATS: dict[str, Importer] = {
    module.NAME: module  # type: ignore[misc]
    for module in (
        baseline, records, inspect_log, lm_eval, helm, lighteval, every_eval_ever, evalsig,
        promptfoo, deepeval, alpaca_eval, peft_method_comparison, csv_table,
    )
}  # fmt: skip
"""By name, in the order in which they are tried."""


_SHAPES = (TypeError, KeyError, IndexError, AttributeError, ValueError, OverflowError,
           RecursionError)  # fmt: skip
"""What reading a file of a shape that nobody foresaw may raise. Importers check what they can name;
this is the last line of defence at the boundary, so that hostile files are refused in words."""


def importer(name: str) -> Importer:
    """The importer of this name.

    Raises:
        Unreadable: there is none.
    """
    if name not in FORMATS:
        raise Unreadable(unknown("tool", name, FORMATS))
    return FORMATS[name]


def read(path: Path, tool: str | None = None) -> list[Run]:
    """The runs in a file or folder.

    Args:
        tool: the importer; None to find it by the content.

    Raises:
        Unreadable: there is no such file, no importer knows it, or it is damaged.
    """
    if not path.exists():
        raise Unreadable("there is no such file or folder", where=str(path))
    if not (path.is_file() or path.is_dir()):
        raise Unreadable("is neither a file nor a folder", where=str(path))
    found = recognised(path) if tool is None else importer(tool)
    try:
        return found.read(path)
    except Unreadable:
        raise
    except HarnessError as error:
        raise Unreadable(error.message, where=error.where, fix=error.fix) from error
    except OSError as error:
        raise Unreadable(f"cannot be read: {why(error)}", where=str(path)) from error
    except _SHAPES as error:
        raise Unreadable(
            f"is not as {found.TITLE.partition(':')[0]} writes it: {type(error).__name__}: {error}",
            where=str(path),
        ) from error


def recognised(path: Path) -> Importer:
    """The first importer that recognises a file or folder.

    Raises:
        Unreadable: none does; the message names those that were tried.
    """
    start = b"" if path.is_dir() else head(path)
    if not start and not path.is_dir():
        raise Unreadable("is empty", where=str(path))
    for candidate in FORMATS.values():
        if candidate.recognises(path, start):
            return candidate
    tried = "; ".join(f"{name} ({module.TITLE})" for name, module in FORMATS.items())
    raise Unreadable("is of no format that is known", where=str(path), fix=f"tried: {tried}")
