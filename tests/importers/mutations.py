"""Ways to damage a result file, each by a random generator: what must be refused, and noise."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SCORES = {"exact_match", "exact_match,none", "acc", "value", "mean", "score", "preference",
          "test accuracy", "test dino_similarity", "drift", "success", "metric"}  # fmt: skip
"""The keys of scores in all formats."""
BAD: tuple[Any, ...] = (
    float("nan"), float("inf"), float("-inf"), "NOT A NUMBER", "1e999x", [], [1, 2], {"a": 1},
    10**400, [[[]]], "\ud800",
)  # fmt: skip
"""What is no score in any format."""


def damage(path: Path, rng: random.Random) -> str:
    """Damage a file so that it must be refused; the name of what was done."""
    ways: list[Callable[[Path, random.Random], None]] = [truncate, empty, foreign, binary]
    content = path.read_bytes()
    if path.suffix in (".json", ".jsonl"):
        ways += [bad_score, bad_score, bad_score, duplicate, deep, other_root, not_utf8, twice]
    if path.suffix == ".csv":
        ways = [*ways[1:], bad_cell, bad_cell, doubled_row, no_id, wide_row, cut_rows]
    if content.startswith(b"PK"):
        ways += [bomb, outside, no_header, flipped, other_members]
    if content.startswith(b"PAR1"):
        ways += [flipped_footer]
    way = rng.choice(ways)
    way(path, rng)
    return way.__name__


def truncate(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    end = rng.randrange(1, len(content) - 1)
    if path.suffix == ".jsonl" and content[end - 1] == ord("\n"):
        end -= 2  # within a line
    path.write_bytes(content[:end])


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def foreign(path: Path, rng: random.Random) -> None:
    """What git keeps instead of a large file."""
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4b020f\nsize 1\n")


def binary(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(rng.randrange(1, 2000)))


def not_utf8(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    at = content.index(b'"', rng.randrange(len(content) // 2)) + 1
    path.write_bytes(content[:at] + b"\xff\xfe" + content[at:])


def deep(path: Path, rng: random.Random) -> None:
    path.write_text("[" * 200_000 + "]" * 200_000)


def other_root(path: Path, rng: random.Random) -> None:
    path.write_text(json.dumps(rng.choice([[], {}, 1, None, "x", [1], [[]], {"results": []}])))


def twice(path: Path, rng: random.Random) -> None:
    """A key that occurs twice in an object: one of its values would be lost."""
    text = path.read_text()
    at = text.index("{") + 1
    path.write_text(f'{text[:at]}"double": 1, "double": 2, {text[at:]}')


def bad_score(path: Path, rng: random.Random) -> None:
    """One score becomes something that is none."""

    def change(content: Any) -> None:
        places = list(_scores(content))
        holder, key = rng.choice(places)
        holder[key] = rng.choice(BAD)

    _edit(path, change)


def duplicate(path: Path, rng: random.Random) -> None:
    """A row occurs twice; of a file without rows, its scores are taken out."""

    def change(content: Any) -> None:
        rows = _rows(content)
        if rows is not None and len(rows) > 1:
            rows.append(json.loads(json.dumps(rng.choice(rows))))
            return
        for holder, key in list(_scores(content)):
            holder[key] = "gone"

    _edit(path, change)


def bad_cell(path: Path, rng: random.Random) -> None:
    lines = path.read_text().splitlines()
    at = rng.randrange(1, len(lines))
    cells = lines[at].split(",")
    cells[1] = rng.choice(["nan", "inf", "-inf", "x", "1;2", "", "1e999"])
    path.write_text("\n".join([*lines[:at], ",".join(cells), *lines[at + 1 :], ""]))


def doubled_row(path: Path, rng: random.Random) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, rng.choice(lines[1:]), ""]))


def no_id(path: Path, rng: random.Random) -> None:
    path.write_text(path.read_text().replace("example_id", rng.choice(["id", "", "example"]), 1))


def wide_row(path: Path, rng: random.Random) -> None:
    path.write_text(path.read_text() + "a,b,c,d,e\n")


def cut_rows(path: Path, rng: random.Random) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[: rng.randrange(1, len(lines) - 1)], ""]))


def bomb(path: Path, rng: random.Random) -> None:
    """A member that would unpack to 300 MB."""
    _members(path, {rng.choice(["summaries.json", "header.json"]): b" " * 300_000_000})


def outside(path: Path, rng: random.Random) -> None:
    name = rng.choice(["../secret.json", "/etc/passwd", "samples/../../secret.json", "..\\x"])
    _members(path, {name: b"[]"})


def no_header(path: Path, rng: random.Random) -> None:
    _members(path, {"header.json": None, "_journal/start.json": None})


def other_members(path: Path, rng: random.Random) -> None:
    _members(path, {"summaries.json": json.dumps(rng.choice([1, {}, [1], [{}]])).encode()})


def flipped(path: Path, rng: random.Random) -> None:
    """A bit of a packed member is another one."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("summaries.json")
    content = bytearray(path.read_bytes())
    start = info.header_offset + 30 + len(info.filename)
    content[start + rng.randrange(info.compress_size)] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(content))


def flipped_footer(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[-rng.randrange(1, 9)] ^= 0xFF
    path.write_bytes(bytes(content))


def noise(path: Path, rng: random.Random) -> None:
    """Change anything anywhere; what is left may still be a result file."""
    if path.suffix in (".json", ".jsonl") and rng.random() < 0.7:
        _edit(path, lambda content: _noise(content, rng))
        return
    content = bytearray(path.read_bytes())
    for _ in range(rng.randrange(1, 6)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(bytes(content))


def _noise(content: Any, rng: random.Random) -> None:
    places = list(_places(content))
    for _ in range(rng.randrange(1, 4)):
        holder, key = rng.choice(places)
        value = rng.choice([None, True, -1, 0.5, "", "x" * 400, [], {}, [[]], *BAD])
        try:
            if rng.random() < 0.3:
                del holder[key]
            else:
                holder[key] = value
        except (IndexError, KeyError):
            continue  # deleted before


def _edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change the JSON of a file, or the list of a file's JSON lines."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        change(rows)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """(object or list, key or index) of each value."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _scores(content: Any) -> Iterator[tuple[Any, Any]]:
    for holder, key in _places(content):
        value = holder[key]
        told = isinstance(value, bool) and key != "success"  # a direction
        if isinstance(holder, dict):  # what stands beside a score and is not read as one
            told = told or "componentResults" in holder
            told = told or ("threshold" in holder and key == "success")
        if key in SCORES and isinstance(value, int | float | str) and not told:
            yield holder, key


def _rows(content: Any) -> list[Any] | None:
    """The longest list of objects in it."""
    lists = [content] if isinstance(content, list) else []
    lists += [h[k] for h, k in _places(content) if isinstance(h[k], list)]
    tables = [rows for rows in lists if rows and isinstance(rows[0], dict)]
    return max(tables, key=len, default=None)


def _members(path: Path, changes: dict[str, bytes | None]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**members, **changes}.items():
            if content is not None:
                archive.writestr(name, content)
