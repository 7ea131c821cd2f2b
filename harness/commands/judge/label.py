"""`harness judge label`: writes a blinded sheet of a suite's answers, and reads filled ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.commands.judge.pairs import data_pairs, own_pairs
from harness.commands.session import Opened
from harness.core.errors import HarnessError, StoreError, why
from harness.core.files import write_atomic
from harness.core.text import number_of
from harness.data.cells import content
from harness.data.judge_labels import Label, write_labels
from harness.data.label_sheets import Shown, blinded, csv_sheet, key_text, read_key, unblinded
from harness.planning.judging import judge_called
from harness.report.label_sheet import page, prompt_text

SHEET, TABLE, KEY, LABELS = "sheet.html", "sheet.csv", "key.jsonl", "labels.jsonl"
_MARK = "\ufeff"
"""Tells spreadsheets that a table is in UTF-8."""
FOLDER = Path("labels")
"""Where sheets are written, in a folder named after the suite, unless it is said."""


def write_sheet(
    opened: Opened,
    folder: Path,
    *,
    judge: str | None = None,
    entry: str | None = None,
    count: int = 60,
    seed: int = 0,
    force: bool = False,
) -> str:
    """Write a sheet of pairs that the suite's judge decides, and say what to do with it.

    Args:
        entry: label the chosen and rejected answers of this data entry instead.
        count: how many pairs at most.
        force: replace another sheet in the folder.

    Raises:
        HarnessError: answers are not there yet, or the folder has another sheet.
    """
    if entry is None:
        pairs = own_pairs(opened, judge_called(opened.plan, judge), count, seed)
    else:
        pairs = [pair for _, pair, _ in data_pairs(opened, entry, count, seed)]
    sheet = blinded(pairs, seed)
    table = _MARK + csv_sheet(sheet, _shown)
    files = {SHEET: page(sheet), TABLE: table, KEY: key_text(sheet)}
    key = folder / KEY
    if key.is_file() and not force and key.read_text(encoding="utf-8") != files[KEY]:
        raise HarnessError(
            f"{key} is the key of another sheet, without which its labels are lost",
            fix="name another --out, or replace the sheet with --force",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_atomic(folder / name, text)
    except OSError as error:
        raise StoreError(f"the sheet cannot be written: {why(error)}") from error
    few = "" if len(sheet) == count else f"; there are no more than these, of {count} asked for"
    return (
        f"{number_of(len(sheet), 'pair')}{few}\n"
        f"  to label:   {folder / SHEET} (a page with keys), or {folder / TABLE}\n"
        f"  keep apart: {folder / KEY} (says whose answers they are)\n"
        f"then: harness judge label {opened.loaded.path} --filled FILE"
        + ("" if folder == FOLDER / opened.plan.suite.name else f" --out {folder}")
    )


def read_sheets(folder: Path, filled: Sequence[Path], suite: str) -> str:
    """Read filled sheets into a file of labels, and say what is in it.

    Args:
        filled: a file of each labeller, who is named by it.
        suite: the suite's name as it was typed.

    Raises:
        HarnessError: there is no key, or a file is no filled sheet of it.
    """
    key = folder / KEY
    if not key.is_file():
        raise HarnessError(
            f"there is no {key}", fix="name the folder that the sheet was written to with --out"
        )
    sheet = read_key(key)
    labels: list[Label] = []
    for path, name in zip(filled, _labellers(filled), strict=True):
        labels += unblinded(sheet, path, name)
    write_labels(folder / LABELS, labels)
    return (
        f"{number_of(len(labels), 'label')} of"
        f" {number_of(len({label.pair.id for label in labels}), 'pair')} of"
        f" {len(sheet)}, by {len(filled)}: {_counts(labels, sheet)}\n"
        f"  {folder / LABELS}\n"
        f"then: harness judge calibrate {suite} --labels {folder / LABELS}"
    )


def _labellers(filled: Sequence[Path]) -> list[str]:
    names = [path.stem for path in filled]
    return names if len(set(names)) == len(names) else [str(path) for path in filled]


def _counts(labels: Sequence[Label], sheet: Sequence[Shown]) -> str:
    """How often the first and the second answer of the sheet, and neither, was the better one."""
    turned = {shown.pair.id: shown.turned for shown in sheet}
    signs = [-label.sign if turned[label.pair.id] else label.sign for label in labels]
    return f"{signs.count(1)} for answer 1, {signs.count(-1)} for answer 2, {signs.count(0)} ties"


def _shown(value: object) -> str:
    """A prompt or an answer as the sheet shows it."""
    if isinstance(value, list) and len(value) > 1:
        return prompt_text(value)
    return content(value)
