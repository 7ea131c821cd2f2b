"""Loads a split's rows in one layout, and counts dropped rows by reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.core.errors import DataError
from harness.data.cells import Unusable, content
from harness.data.layouts import detect, normal
from harness.data.mapped import mapped, sample, templates
from harness.data.messages import with_roles
from harness.data.preferences import OPTIONAL, Reading, best, gathered
from harness.data.read import read
from harness.data.render import layout_of
from harness.data.row import RowDict
from harness.data.table import Table, fits, matches
from harness.data.turns import by_turn, turns_said


@dataclass
class Rows:
    """The usable rows of a split, and counts of the others.

    Attributes:
        rows: each has id, cluster and group (strings), references, and the columns of one layout.
        layout: the layout of all rows (see `harness.data.layouts`).
        dropped: reason -> number of rows.
        gathered: the number of source rows with one answer each that were gathered into `rows`; 0
            if `rows` were not gathered.
        conversations: the number of conversations, if `rows` are their turns; else 0.
        silent: the number of the assistant's turns that did not become rows: they are empty, or no
            question stands before them.
        examples: reason -> the number and content of the first raw row that was dropped for it.
            They show the data itself: write them to a stage's files, never to its record.
    """

    rows: list[RowDict]
    layout: str
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[int, RowDict]] = field(default_factory=dict)
    gathered: int = 0
    conversations: int = 0
    silent: int = 0

    def drop(self, reason: str, numbered: Sequence[tuple[int, RowDict]]) -> None:
        """Count rows as dropped. The first row for a reason is kept as its example."""
        if numbered:
            self.dropped[reason] += len(numbered)
            self.examples.setdefault(reason, numbered[0])


def load_rows(config: Mapping[str, Any], source: str, where: str, head: int | None = None) -> Rows:
    """Read, filter and map a split.

    Args:
        config: a Split's fields.
        source: the file's path, or the hub data set's name.
        where: the place in the suite, for messages.
        head: read only about so many of the first bytes of a file.

    Raises:
        DataError: the file cannot be read, it lacks a column, or no row is left.
    """
    raw = list(enumerate(read(config, source, where, head)))
    if not raw:
        raise DataError(f"{source} holds no rows", where=where, fix="name a file with rows")
    table = Table.of(source, [row for _, row in raw])
    for option in ("where", "min_chars", "max_chars"):
        for column in config.get(option) or {}:
            table.require(column, f"{where}.{option}")
    loaded = Rows([], "")
    first, last = config["rows"] or (0, None)
    inside = raw[first:last]
    loaded.drop("outside `rows`", raw[:first] + (raw[last:] if last is not None else []))
    kept = [(n, row) for n, row in inside if matches(row, config["where"])]
    loaded.drop("not `where`", _difference(inside, kept))
    for option in ("min_chars", "max_chars"):
        limits = config.get(option) or {}
        fitting = [(n, row) for n, row in kept if fits(row, option, limits)]
        loaded.drop(f"not `{option}`", _difference(kept, fitting))
        kept = fitting
    if config["limit"]:
        loaded.drop("over `limit`", kept[config["limit"] :])
        kept = kept[: config["limit"]]
    if kept:
        _bring_into_layout(loaded, kept, table, config, where)
    if not loaded.rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in loaded.dropped.items())
        beyond = f"; it has {len(raw):,}, and `rows` begins at {first:,}" if not inside else ""
        raise DataError(
            f"no row of {source} is left{beyond}", where=where, fix=f"dropped: {reasons}"
        )
    loaded.layout = str(layout_of(list(loaded.rows[0])))
    turns = config.get("turns", "last")
    if turns != "last":
        _take_apart(loaded, turns, where)
    refuse_doubles(loaded.rows, source, where)
    return loaded


def _take_apart(loaded: Rows, turns: str, where: str) -> None:
    """Replace conversations by rows of their single turns."""
    if loaded.layout != "messages":
        raise DataError(
            f"`turns: {turns}` needs conversations, and these rows are {loaded.layout}",
            where=where,
            fix="leave `turns` out, or bring the rows into `messages`",
        )
    said, loaded.conversations = sum(map(turns_said, loaded.rows)), len(loaded.rows)
    loaded.rows = [
        turn for row in loaded.rows for turn in by_turn(row, numbered=turns == "numbered")
    ]
    loaded.silent = said - len(loaded.rows)


def _difference(
    all_rows: list[tuple[int, RowDict]], kept: list[tuple[int, RowDict]]
) -> list[tuple[int, RowDict]]:
    numbers = {number for number, _ in kept}
    return [(number, row) for number, row in all_rows if number not in numbers]


def _bring_into_layout(
    loaded: Rows,
    kept: Sequence[tuple[int, RowDict]],
    table: Table,
    config: Mapping[str, Any],
    where: str,
) -> None:
    """Append the rows in their normal form. Rows that have none, or another one than the first row,
    are dropped."""
    parsed = templates(config["map"], table.first, table.source, where)
    layout = config["layout"] or _detected(sample(table.first, parsed), table.source, where)
    form, checked = None, False
    used: list[tuple[int, RowDict]] = []
    reading = Reading(config["scale"], config["weights"])
    roles = config.get("roles") or {}
    taken = {str(row["id"]) for _, row in kept if _holds_value(row.get("id"))}
    for index, (number, row) in enumerate(kept):
        try:
            mapped_row = mapped(table.whole(row), parsed)
            mapped_row = with_roles(mapped_row, roles) if roles else mapped_row
            if not checked:
                reading.require(mapped_row, layout, where)
                checked = True
            columns = normal(mapped_row, layout, chat=config["chat"], reading=reading)
            form = form or _form(columns)
            if _form(columns) != form:
                raise Unusable("of another layout than the first row")
            normal_row = {
                **_identified(mapped_row, index, taken),
                **columns,
                **_references(mapped_row, columns),
            }
            _require_unicode(normal_row)
        except Unusable as reason:
            _unusable(loaded, str(reason), [(number, row)], config, where)
            continue
        loaded.rows.append(normal_row)
        used.append((number, row))
    if layout == "scored":
        loaded.rows, left_out = gathered(loaded.rows)
        for why, places in left_out.items():
            _unusable(loaded, why, [used[place] for place in places], config, where)
        loaded.gathered = len(used) - sum(map(len, left_out.values()))


def _unusable(
    loaded: Rows,
    reason: str,
    numbered: Sequence[tuple[int, RowDict]],
    config: Mapping[str, Any],
    where: str,
) -> None:
    """Count rows as dropped, or raise DataError if the suite says `unusable: error`."""
    if config["unusable"] == "error":
        number, row = numbered[0]
        known, place = _holds_value(row.get("id")), f"row number {number}"
        message = f"row {row['id']}: {reason} ({place})" if known else f"{place}: {reason}"
        raise DataError(message, where=where, fix="mend it, or set `unusable: drop`")
    loaded.drop(reason, numbered)


def _require_unicode(row: RowDict) -> None:
    try:
        json.dumps(row, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise Unusable("half a surrogate pair, which is no text") from None


def _form(columns: RowDict) -> tuple[tuple[str, bool], ...]:
    forms = ((name, isinstance(v, list)) for name, v in columns.items() if name not in OPTIONAL)
    return tuple(sorted(forms))


def _detected(row: RowDict, source: str, where: str) -> str:
    layout = detect(row)
    if layout is None:
        raise DataError(
            f"columns {', '.join(sorted(row))} make no layout ({source})",
            where=where,
            fix="needed: messages; prompt and completion; prompt, chosen and rejected; prompt,"
            " completion and a label; text; or those of alpaca or sharegpt. Make them with `map:`,"
            " or name the `layout:`",
        )
    return layout


def _holds_value(value: Any) -> bool:
    """True if a cell is neither empty nor NaN (the empty cell of a table)."""
    return value not in (None, "") and value == value


def _identified(row: RowDict, index: int, taken: Collection[str]) -> RowDict:
    """A row's id, cluster and group. A row without an id gets its number as one.

    Args:
        index: the row's number.
        taken: the ids that other rows bring.
    """
    numbered = str(index)
    while numbered in taken:
        numbered = f"row {numbered}"
    identifier = str(row["id"]) if _holds_value(row.get("id")) else numbered
    return {
        "id": identifier,
        "cluster": str(row["cluster"]) if _holds_value(row.get("cluster")) else identifier,
        "group": str(next(filter(_holds_value, (row.get("group"), row.get("task"))), "")),
    }


def _references(row: RowDict, columns: RowDict) -> RowDict:
    """A row's own references; if it has none, the answer that is trained on."""
    value = row.get("references")
    listed = value if isinstance(value, list | tuple) else [value]
    if texts := [str(text) for text in listed if _holds_value(text)]:
        return {"references": texts}
    for name in ("messages", "completion", "chosen"):
        if name in columns and columns.get("label", True):
            return {"references": [content(columns[name])]}
    if "responses" in columns:
        return {"references": [content(answer) for answer in best(columns)]}
    return {} if "text" in columns else {"references": []}


def refuse_doubles(rows: Sequence[RowDict], source: str, where: str) -> None:
    """Check that ids are unique, since comparisons pair rows by id.

    Raises:
        DataError: two rows have the same id.
    """
    counts = Counter(row["id"] for row in rows)
    double, times = counts.most_common(1)[0]
    if times > 1:
        raise DataError(
            f"{times} rows of {source} have the id '{double}'; comparisons pair rows by id",
            where=where,
            fix="make the ids unique, or leave the column out (rows are then numbered)",
        )
