"""Rows in one layout, with every dropped row counted by reason."""

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
from harness.data.table import Table, fits, matches
from harness.data.turns import by_turn, turns_said

Row = dict[str, Any]


@dataclass
class Rows:
    """Usable rows, and what became of the others.

    Attributes:
        rows: each has id, cluster and group (strings), references, and the columns of one layout.
        layout: of all of them, as `harness.data.layouts` names it.
        dropped: reason -> number of rows.
        gathered: rows of the source, each one answer, that `rows` were gathered from; 0: none were.
        conversations: how many there were, where `rows` are their turns; 0: they are not.
        silent: turns of the assistant that are no rows: empty, or before any question.
        examples: reason -> the first raw row dropped for it and its number in the source. These are
            sentences of the data: they belong in a stage's files, never in its record.
    """

    rows: list[Row]
    layout: str
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[int, Row]] = field(default_factory=dict)
    gathered: int = 0
    conversations: int = 0
    silent: int = 0

    def drop(self, reason: str, numbered: Sequence[tuple[int, Row]]) -> None:
        """Count rows as dropped; the first for a reason is its example."""
        if numbered:
            self.dropped[reason] += len(numbered)
            self.examples.setdefault(reason, numbered[0])


def load_rows(config: Mapping[str, Any], source: str, where: str) -> Rows:
    """Read, filter and map a split.

    Args:
        config: a Split's fields.
        source: the file's path, or the hub data set's name.
        where: the place in the suite, for messages.

    Raises:
        DataError: a file that cannot be read, a column that isn't there, or no row left.
    """
    raw = list(enumerate(read(config, source, where)))
    if not raw:
        raise DataError(f"{source} holds no rows", where=where, fix="name a file with rows")
    table = Table.of(source, [row for _, row in raw])
    for option in ("where", "min_chars", "max_chars"):
        for column in config.get(option) or {}:
            table.require(column, f"{where}.{option}")
    found = Rows([], "")
    first, last = config["rows"] or (0, None)
    inside = raw[first:last]
    found.drop("outside `rows`", raw[:first] + (raw[last:] if last is not None else []))
    kept = [(n, row) for n, row in inside if matches(row, config["where"])]
    found.drop("not `where`", _difference(inside, kept))
    for option in ("min_chars", "max_chars"):
        limits = config.get(option) or {}
        fitting = [(n, row) for n, row in kept if fits(row, option, limits)]
        found.drop(f"not `{option}`", _difference(kept, fitting))
        kept = fitting
    if config["limit"]:
        found.drop("over `limit`", kept[config["limit"] :])
        kept = kept[: config["limit"]]
    if kept:
        _bring_into_layout(found, kept, table, config, where)
    if not found.rows:
        told = ", ".join(f"{count} {reason}" for reason, count in found.dropped.items())
        raise DataError(f"no row of {source} is left", where=where, fix=f"dropped: {told}")
    found.layout = str(layout_of(list(found.rows[0])))
    turns = config.get("turns", "last")
    if turns != "last":
        _take_apart(found, turns, where)
    refuse_doubles(found.rows, source, where)
    return found


def _take_apart(found: Rows, turns: str, where: str) -> None:
    """Rows of single turns in place of conversations."""
    if found.layout != "messages":
        raise DataError(
            f"`turns: {turns}` needs conversations, and these rows are {found.layout}",
            where=where,
            fix="leave `turns` out, or bring the rows into `messages`",
        )
    said, found.conversations = sum(map(turns_said, found.rows)), len(found.rows)
    found.rows = [turn for row in found.rows for turn in by_turn(row, numbered=turns == "numbered")]
    found.silent = said - len(found.rows)


def _difference(
    all_rows: list[tuple[int, Row]], kept: list[tuple[int, Row]]
) -> list[tuple[int, Row]]:
    numbers = {number for number, _ in kept}
    return [(number, row) for number, row in all_rows if number not in numbers]


def _bring_into_layout(
    found: Rows,
    kept: Sequence[tuple[int, Row]],
    table: Table,
    config: Mapping[str, Any],
    where: str,
) -> None:
    """Normal rows; those that cannot become one, or are of another form, are dropped."""
    made_of = templates(config["map"], table.first, table.source, where)
    layout = config["layout"] or _detected(sample(table.first, made_of), table.source, where)
    form, checked = None, False
    used: list[tuple[int, Row]] = []
    reading = Reading(config["scale"], config["weights"])
    roles = config.get("roles") or {}
    taken = {str(row["id"]) for _, row in kept if _given(row.get("id"))}
    for index, (number, row) in enumerate(kept):
        try:
            own = mapped(table.whole(row), made_of)
            own = with_roles(own, roles) if roles else own
            if not checked:
                reading.require(own, layout, where)
                checked = True
            columns = normal(own, layout, chat=config["chat"], reading=reading)
            form = form or _form(columns)
            if _form(columns) != form:
                raise Unusable("of another layout than the first row")
            made = {**_identified(own, index, taken), **columns, **_references(own, columns)}
            _require_unicode(made)
        except Unusable as reason:
            _unusable(found, str(reason), [(number, row)], config, where)
            continue
        found.rows.append(made)
        used.append((number, row))
    if layout == "scored":
        found.rows, left_out = gathered(found.rows)
        for why, places in left_out.items():
            _unusable(found, why, [used[place] for place in places], config, where)
        found.gathered = len(used) - sum(map(len, left_out.values()))


def _unusable(
    found: Rows,
    reason: str,
    numbered: Sequence[tuple[int, Row]],
    config: Mapping[str, Any],
    where: str,
) -> None:
    """Drop and count, or raise, as the suite says."""
    if config["unusable"] == "error":
        number, row = numbered[0]
        known, place = _given(row.get("id")), f"row number {number}"
        told = f"row {row['id']}: {reason} ({place})" if known else f"{place}: {reason}"
        raise DataError(told, where=where, fix="mend it, or set `unusable: drop`")
    found.drop(reason, numbered)


def _require_unicode(row: Row) -> None:
    try:
        json.dumps(row, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise Unusable("half a surrogate pair, which is no text") from None


def _form(columns: Row) -> tuple[tuple[str, bool], ...]:
    told = ((name, isinstance(v, list)) for name, v in columns.items() if name not in OPTIONAL)
    return tuple(sorted(told))


def _detected(row: Row, source: str, where: str) -> str:
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


def _given(value: Any) -> bool:
    """Whether a cell holds something: neither empty, nor the NaN of a table's empty cell."""
    return value not in (None, "") and value == value


def _identified(row: Row, index: int, taken: Collection[str]) -> Row:
    """Id, cluster and group; a row without an id is numbered.

    Args:
        taken: the ids that rows come with.
    """
    numbered = str(index)
    while numbered in taken:
        numbered = f"row {numbered}"
    identifier = str(row["id"]) if _given(row.get("id")) else numbered
    return {
        "id": identifier,
        "cluster": str(row["cluster"]) if _given(row.get("cluster")) else identifier,
        "group": str(next(filter(_given, (row.get("group"), row.get("task"))), "")),
    }


def _references(row: Row, columns: Row) -> Row:
    """The references a row comes with, else the answer it trains on."""
    given = row.get("references")
    listed = given if isinstance(given, list | tuple) else [given]
    if told := [str(text) for text in listed if _given(text)]:
        return {"references": told}
    for name in ("messages", "completion", "chosen"):
        if name in columns and columns.get("label", True):
            return {"references": [content(columns[name])]}
    if "responses" in columns:
        return {"references": [content(answer) for answer in best(columns)]}
    return {} if "text" in columns else {"references": []}


def refuse_doubles(rows: Sequence[Row], source: str, where: str) -> None:
    """Raise DataError where two rows have one id: comparisons pair rows by id."""
    counts = Counter(row["id"] for row in rows)
    double, times = counts.most_common(1)[0]
    if times > 1:
        raise DataError(
            f"id '{double}' stands on {times} rows of {source}; comparisons pair rows by id",
            where=where,
            fix="make the ids unique, or leave the column out (rows are then numbered)",
        )
