"""Blinded sheets: people label pairs of answers without knowing whose they are.

A sheet shows the answers of each pair as answer 1 and answer 2, in an order that a seed drew,
without names of models. Which is which stands in its *key* alone. A filled sheet has the columns
`id` and `label`, and `unblinded` makes labels of it.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import DataError, shortened
from harness.core.files import digest_json
from harness.core.text import csv_cell, well_formed
from harness.data.judge_labels import (
    LABEL_FIX,
    Label,
    Pair,
    blank,
    json_lines,
    label_row,
    pair_of,
    sign_of,
    table_rows,
)


@dataclass(frozen=True)
class Shown:
    """A pair as a sheet shows it.

    Attributes:
        number: its id on the sheet, which tells nothing of the pair.
        turned: whether answer `other` is shown first.
    """

    number: str
    pair: Pair
    turned: bool

    @property
    def answers(self) -> tuple[Any, Any]:
        """Answer 1 and answer 2."""
        one, other = self.pair.one, self.pair.other
        return (other, one) if self.turned else (one, other)


def blinded(pairs: Sequence[Pair], seed: int) -> list[Shown]:
    """The pairs in an order, and each with its answers in an order, that the seed draws."""
    drawn = random.Random(seed)
    shuffled = list(pairs)
    drawn.shuffle(shuffled)
    sheet = digest_json([seed, [[pair.id, pair.one, pair.other] for pair in pairs]])[:6]
    digits = len(str(len(pairs)))
    return [
        Shown(f"{sheet}-{number:0{digits}}", pair, drawn.random() < 0.5)
        for number, pair in enumerate(shuffled, start=1)
    ]


def key_text(sheet: Sequence[Shown]) -> str:
    """The key of a sheet as JSON lines: what `unblinded` needs, and labellers must not see."""
    return json_lines(
        {**label_row(Label(shown.pair, 0)), "number": shown.number, "turned": shown.turned}
        for shown in sheet
    )


def read_key(path: Path) -> list[Shown]:
    """The sheet that a key is of.

    Raises:
        DataError: it is no key of a sheet.
    """
    sheet = []
    for place, row in table_rows(path):
        if not isinstance(row.get("turned"), bool) or not isinstance(row.get("number"), str):
            raise DataError(f"{place} is no line of a sheet's key", fix="name its key.jsonl")
        sheet.append(Shown(row["number"], pair_of(row, place), row["turned"]))
    if not sheet:
        raise DataError(f"{path} is empty")
    return sheet


def csv_sheet(sheet: Sequence[Shown], show: Callable[[Any], str]) -> str:
    """A sheet to fill in as CSV, whose texts no spreadsheet reads as formulas.

    Args:
        show: makes a string of a prompt or an answer.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["id", "label", "prompt", "answer 1", "answer 2"])
    for shown in sheet:
        texts = (shown.pair.prompt, *shown.answers)
        writer.writerow([shown.number, "", *(csv_cell(well_formed(show(text))) for text in texts)])
    return out.getvalue()


def unblinded(sheet: Sequence[Shown], filled: Path, labeller: str) -> list[Label]:
    """The labels of a filled sheet: a file with the columns `id` and `label`.

    Raises:
        DataError: a label is none, an id is not of this sheet or stands twice, or none is labelled.
    """
    known, labels = {shown.number: shown for shown in sheet}, dict[str, Label]()
    for place, row in table_rows(filled, errors="replace"):  # ids and labels are ASCII
        number = str(row.get("id") or "").strip()
        if number not in known:
            raise DataError(
                f"{place}: the id '{shortened(number)}' is none of this sheet",
                fix="name the key that was written together with the sheet",
            )
        if blank(row.get("label")):
            continue
        if number in labels:
            raise DataError(f"{place}: the id '{number}' stands twice", fix="keep one of them")
        sign = sign_of(row["label"], place)
        shown = known[number]
        labels[number] = Label(shown.pair, -sign if shown.turned else sign, labeller)
    if not labels:
        raise DataError(f"{filled} holds no label", fix=LABEL_FIX)
    return list(labels.values())
