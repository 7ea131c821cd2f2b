"""Rows from a file or the hub, in one of our layouts, with every dropped row counted."""

from __future__ import annotations

import csv
import json
import string
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.data.render import layout_of
from harness.errors import DataError, unknown

Row = dict[str, Any]
_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
}


def load_rows(
    config: Mapping[str, Any], source: str, where: str
) -> tuple[list[Row], dict[str, int]]:
    """Read, filter and map a split; returns its rows and the number dropped by reason.

    Each row has id, cluster and group (strings), the columns of one layout, and references.

    Args:
        config: a Split's fields.
        source: the file's path, or the hub data set's name.
        where: the place in the suite, for messages.

    Raises:
        DataError: a file that cannot be read, a column that isn't there, or no row left.
    """
    raw = list(_read(config, source, where))
    if not raw:
        raise DataError(f"{source} holds no rows", where=where, fix="name a file with rows")
    total = len(raw)
    first, last = config["rows"] or (0, None)
    raw = raw[first:last]
    dropped = Counter({"outside `rows`": total - len(raw)})
    kept = [row for row in raw if _matches(row, config["where"], where)]
    dropped["not `where`"] = len(raw) - len(kept)
    if config["limit"] and len(kept) > config["limit"]:
        dropped["over `limit`"] = len(kept) - config["limit"]
        kept = kept[: config["limit"]]
    rows = []
    for index, row in enumerate(kept):
        mapped = _normal(_mapped(row, config["map"], where), index, where)
        if any(not text.strip() for text in _texts(mapped)):
            dropped["empty"] += 1
            continue
        rows.append(mapped)
    if not rows:
        raise DataError(
            f"no row of {source} is left", where=where, fix=f"dropped: {_counts(dropped)}"
        )
    _refuse_doubles(rows, where)
    return rows, {reason: count for reason, count in dropped.items() if count}


def _counts(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)


def _read(config: Mapping[str, Any], source: str, where: str) -> Iterator[Row]:
    path = Path(source)
    if not path.exists():
        yield from _from_hub(config, source, where)
        return
    kind = config["format"] or _BY_SUFFIX.get(path.suffix)
    if kind is None:
        raise DataError(
            f"cannot tell the format of {path.name}", where=where, fix="set `format: jsonl`"
        )
    try:
        yield from _READERS[kind](path, config)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start}: {error.object[error.start]:#04x})",
            where=where,
            fix="convert it: iconv -f latin1 -t utf-8",
        ) from None
    except (ValueError, csv.Error, OSError) as error:
        raise DataError(f"{path} cannot be read as {kind}: {error}", where=where) from None


def _jsonl(path: Path, config: Mapping[str, Any]) -> Iterator[Row]:
    with path.open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no object")
            yield row


def _json(path: Path, config: Mapping[str, Any]) -> Iterator[Row]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("not a list of objects")
    yield from rows


def _csv(path: Path, config: Mapping[str, Any]) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as handle:
        yield from csv.DictReader(handle)


def _parquet(path: Path, config: Mapping[str, Any]) -> Iterator[Row]:
    import pyarrow.parquet

    yield from pyarrow.parquet.read_table(path).to_pylist()


def _text(path: Path, config: Mapping[str, Any]) -> Iterator[Row]:
    for part in path.read_text(encoding="utf-8").split(config["delimiter"]):
        if part.strip():
            yield {"text": part.strip("\n")}


_READERS = {"jsonl": _jsonl, "json": _json, "csv": _csv, "parquet": _parquet, "text": _text}


def _from_hub(config: Mapping[str, Any], source: str, where: str) -> Iterator[Row]:
    import datasets

    try:
        rows = datasets.load_dataset(
            source, config["name"], split=config["split"] or "train", revision=config["revision"]
        )
    except Exception as error:  # datasets raises a dozen kinds; the sentence is the same for each
        first = str(error).strip().split("\n")[0]
        raise DataError(
            f"'{source}' is no file here and the hub gave no data set ({first})",
            where=where,
            fix="check the name; without a network, download it elsewhere and set HF_HOME",
        ) from error
    yield from (dict(row) for row in rows)


def _matches(row: Row, wanted: Mapping[str, Any], where: str) -> bool:
    for column, value in wanted.items():
        _require(column, row, f"{where}.where")
        choices = value if isinstance(value, list) else [value]
        if row[column] not in choices and str(row[column]) not in [str(c) for c in choices]:
            return False
    return True


def _require(column: str, row: Mapping[str, Any], where: str) -> None:
    if column not in row:
        raise DataError(unknown("column", column, row), where=where)


def _mapped(row: Row, formats: Mapping[str, str], where: str) -> Row:
    """Columns made of others. Only plain `{column}` fields: no attributes, no indexes."""
    if not formats:
        return row
    made = {}
    for column, template in formats.items():
        parts = []
        for text, name, _, _ in string.Formatter().parse(template):
            parts.append(text)
            if name is not None:
                _require(name, row, f"{where}.map.{column}")
                parts.append(str(row[name]))
        made[column] = "".join(parts)
    kept = {k: v for k, v in row.items() if k in ("id", "cluster", "group", "task", "references")}
    return {**kept, **made}


def _normal(row: Row, index: int, where: str) -> Row:
    layout = layout_of(list(row))
    if layout is None:
        raise DataError(
            f"columns {', '.join(sorted(row))} make no layout",
            where=where,
            fix="needed: messages; prompt and completion; or text. Make them with `map:`",
        )
    identifier = str(row.get("id", index))
    found: Row = {
        "id": identifier,
        "cluster": str(row.get("cluster") or identifier),
        "group": str(row.get("group") or row.get("task") or ""),
    }
    if layout == "messages":
        found["messages"] = _chat(row["messages"], identifier, where)
        target = found["messages"][-1]["content"]
    elif layout == "prompt_completion":
        found["prompt"], found["completion"] = str(row["prompt"]), str(row["completion"])
        target = found["completion"]
    else:
        found["text"] = str(row["text"])
        return found
    references = row.get("references") or [target]
    found["references"] = [references] if isinstance(references, str) else list(references)
    return found


def _chat(messages: Any, identifier: str, where: str) -> list[dict[str, str]]:
    try:
        chat = [{"role": str(m["role"]), "content": str(m["content"])} for m in messages]
    except (TypeError, KeyError):
        chat = []
    if len(chat) < 2 or chat[-1]["role"] != "assistant":
        raise DataError(
            f"row {identifier}: a chat is a list of role and content that ends with the assistant",
            where=where,
        )
    return chat


def _texts(row: Row) -> list[str]:
    if "messages" in row:
        return [row["messages"][-1]["content"]]
    return [row["completion"]] if "completion" in row else [row["text"]]


def _refuse_doubles(rows: list[Row], where: str) -> None:
    counts = Counter(row["id"] for row in rows)
    double, times = counts.most_common(1)[0]
    if times > 1:
        raise DataError(
            f"id '{double}' stands on {times} rows; comparisons pair rows by id",
            where=where,
            fix="make the ids unique, or leave the column out (rows are then numbered)",
        )
