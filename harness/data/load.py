"""Rows in one layout, with every dropped row counted by reason."""

from __future__ import annotations

import json
import string
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.data.cells import Unusable, content, without_nan
from harness.data.columns import SYSTEM, TEMPLATE_COLUMNS
from harness.data.layouts import detect, normal
from harness.data.messages import with_roles
from harness.data.preferences import OPTIONAL, Reading, best, gathered
from harness.data.read import read
from harness.data.render import layout_of
from harness.data.turns import by_turn, turns_said
from harness.errors import DataError, unknown

Row = dict[str, Any]
_KEPT = ("id", "cluster", "group", "task", "references")


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
    found = Rows([], "")
    first, last = config["rows"] or (0, None)
    inside = raw[first:last]
    found.drop("outside `rows`", raw[:first] + (raw[last:] if last is not None else []))
    kept = [(n, row) for n, row in inside if _matches(row, config["where"], where)]
    found.drop("not `where`", _difference(inside, kept))
    for option in ("min_chars", "max_chars"):
        limits = config.get(option) or {}
        fitting = [(n, row) for n, row in kept if _fits(row, option, limits, where)]
        found.drop(f"not `{option}`", _difference(kept, fitting))
        kept = fitting
    if config["limit"]:
        found.drop("over `limit`", kept[config["limit"] :])
        kept = kept[: config["limit"]]
    if kept:
        _bring_into_layout(found, kept, config, where)
    if not found.rows:
        told = ", ".join(f"{count} {reason}" for reason, count in found.dropped.items())
        raise DataError(f"no row of {source} is left", where=where, fix=f"dropped: {told}")
    found.layout = str(layout_of(list(found.rows[0])))
    turns = config.get("turns", "last")
    if turns != "last":
        _take_apart(found, turns, where)
    refuse_doubles(found.rows, where)
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
    found: Rows, kept: Sequence[tuple[int, Row]], config: Mapping[str, Any], where: str
) -> None:
    """Normal rows; those that cannot become one, or are of another form, are dropped."""
    layout, form, checked = config["layout"], None, False
    used: list[tuple[int, Row]] = []
    reading = Reading(config["scale"], config["weights"])
    roles = config.get("roles") or {}
    taken = {str(row["id"]) for _, row in kept if _given(row.get("id"))}
    for index, (number, row) in enumerate(kept):
        try:
            mapped = _mapped(without_nan(row), config["map"], where)
            mapped = with_roles(mapped, roles) if roles else mapped
            layout = layout or _detected(mapped, where)
            if not checked:
                reading.require(mapped, layout, where)
                checked = True
            columns = normal(mapped, layout, chat=config["chat"], reading=reading)
            form = form or _form(columns)
            _require_unicode(mapped)
            if _form(columns) != form:
                raise Unusable("of another layout than the first row")
        except Unusable as reason:
            _unusable(found, str(reason), [(number, row)], config, where)
            continue
        found.rows.append(
            {**_identified(mapped, index, taken), **columns, **_references(mapped, columns)}
        )
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


def _detected(row: Row, where: str) -> str:
    layout = detect(row)
    if layout is None:
        raise DataError(
            f"columns {', '.join(sorted(row))} make no layout",
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
    numbered = f"row {index}" if str(index) in taken else str(index)
    identifier = str(row["id"]) if _given(row.get("id")) else numbered
    return {
        "id": identifier,
        "cluster": str(row.get("cluster") or identifier),
        "group": str(row.get("group") or row.get("task") or ""),
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


def _matches(row: Row, wanted: Mapping[str, Any], where: str) -> bool:
    for column, value in wanted.items():
        _require(column, row, f"{where}.where")
        choices = value if isinstance(value, list) else [value]
        if row[column] not in choices and str(row[column]) not in [str(c) for c in choices]:
            return False
    return True


def _fits(row: Row, option: str, limits: Mapping[str, int], where: str) -> bool:
    """Whether the columns are long enough, or short enough."""
    for column, limit in limits.items():
        _require(column, row, f"{where}.{option}")
        size = _characters(row[column])
        if size < limit if option == "min_chars" else size > limit:
            return False
    return True


def _characters(value: Any) -> int:
    """Of a text, or of all texts in a list of messages; nothing where there is no value."""
    if isinstance(value, list):
        return sum(map(_characters, value))
    if isinstance(value, Mapping):
        return _characters(value.get("content", value.get("value")))
    return 0 if value is None else len(str(value))


def _require(column: str, row: Mapping[str, Any], where: str) -> None:
    if column not in row:
        raise DataError(unknown("column", column, row), where=where)


def _mapped(row: Row, formats: Mapping[str, str], where: str) -> Row:
    """Columns made of others. Only plain `{column}` fields: no attributes, no indexes.

    A format that is nothing but one field renames a column, lists and all.
    """
    if not formats:
        return row
    made = {}
    for column, template in formats.items():
        parts: list[Any] = []
        for text, name, _, _ in string.Formatter().parse(template):
            parts += [text] if text else []
            if name is not None:
                _require(name, row, f"{where}.map.{column}")
                if row[name] is None:
                    raise Unusable(f"no `{name}`")
                parts.append(row[name])
        made[column] = parts[0] if len(parts) == 1 else "".join(str(part) for part in parts)
    kept: tuple[str, ...] = _KEPT
    if any(isinstance(value, list) for value in made.values()):
        kept += (*TEMPLATE_COLUMNS, *SYSTEM)  # a chat keeps what it cannot be read without
    return {**{name: row[name] for name in kept if name in row}, **made}


def refuse_doubles(rows: Sequence[Row], where: str) -> None:
    """Raise DataError where two rows have one id: comparisons pair rows by id."""
    counts = Counter(row["id"] for row in rows)
    double, times = counts.most_common(1)[0]
    if times > 1:
        raise DataError(
            f"id '{double}' stands on {times} rows; comparisons pair rows by id",
            where=where,
            fix="make the ids unique, or leave the column out (rows are then numbered)",
        )
