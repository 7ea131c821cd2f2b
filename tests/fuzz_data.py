"""A fuzzer over data files: whatever a file holds, its rows are read as they were written, or one
error says what is wrong and what to do.

    python -m tests.fuzz_data --cases 1000

What must come out is told by how the file was made, never by the code that reads it.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import math
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from harness.core.errors import DataError
from harness.stages import data
from harness.stages.base import Job
from harness.suite.data import Split

WHERE = "suite.yaml: data.x.train"
COLUMNS = {
    "text": ("text",),
    "prompt_completion": ("prompt", "completion"),
    "preference": ("prompt", "chosen", "rejected"),
    "messages": ("messages",),
}
OTHER_NAMES = {"text": "body", "prompt": "q", "completion": "an answer", "chosen": "good",
               "rejected": "bad", "messages": "turns"}  # fmt: skip
JSON = ("jsonl", "json", "list in jsonl", "lines in json", "object in json", "pretty json")
TABLES = ("csv", "tsv")
MARKED = ("utf-8", "utf-8-sig", "utf-16", "utf-32")
LINES = ("jsonl", "lines in json")
ANY_TEXT = ("stray byte", "zero", "no mark", "broken line")
ANY_FILE = ("", "", "", "cut", "emptied", "wrong name")
DAMAGES = {
    **dict.fromkeys(JSON, ANY_TEXT),
    **dict.fromkeys(LINES, (*ANY_TEXT, "no object", "twice a key", "comma after", "deep")),
    **dict.fromkeys(TABLES, (*ANY_TEXT, "comma after")),
    "text": ANY_TEXT,
    "parquet": (),
}
"""What may be done to a file of a kind, beside ANY_FILE."""
_PLACE = re.compile(r"\b(line|row|item|object|byte|column|columns|rows)\b")


@dataclass
class Case:
    """A file and how it came about.

    Attributes:
        rows: as they were written, by the names of the layout.
        damage: what was done to the file afterwards; empty: nothing.
        beside: columns of each row that no layout reads.
        omitted: empty cells are left out of a row where another row has the column.
        said: options of the split.
    """

    layout: str
    rows: list[dict[str, Any]]
    kind: str
    encoding: str = "utf-8"
    newline: str = "\n"
    packed: bool = False
    named_packed: bool = False
    damage: str = ""
    at: int = 0
    renamed: bool = False
    braces: bool = False
    omitted: bool = False
    beside: list[dict[str, Any]] = field(default_factory=list)
    said: dict[str, Any] = field(default_factory=dict)


# --- making a file ------------------------------------------------------------------------------

TEXT = st.one_of(
    st.from_regex(r"\w[\w ]{0,9}", fullmatch=True),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
)
ODD = st.one_of(
    st.none(), st.sampled_from(["", "  \n", "\ud800", "a\r\nb", '"a", b', "\ufeffx", "{a}", "007"]),
    st.just("h" * 140_000), st.integers(-9, 10**20), st.booleans(),
    st.sampled_from([math.nan, math.inf, 1.5]), st.just(["a"]), st.just({"a": {"b": None}}),
)  # fmt: skip
IDS = st.one_of(
    st.none(),
    st.integers(0, 10**6),
    st.integers(0, 9),
    st.sampled_from(["0", "1", "row 0", "row 1", "é", ""]),
)
BESIDE = st.lists(
    st.dictionaries(
        st.sampled_from(["", " x", "\ud800", "source", "cost", "a.b"]), ODD, max_size=2
    ),
    max_size=6,
)


@st.composite
def cases(draw: Any) -> Case:
    """A file of a few rows, in any form, whole or damaged."""
    layout = draw(st.sampled_from(list(COLUMNS)))
    forms = [*JSON, "parquet"] if layout == "messages" else [*JSON, *TABLES, "parquet"]
    kind = draw(st.sampled_from([*forms, "text"] if layout == "text" else forms))
    plain = kind in TABLES or kind in ("parquet", "text")
    cells = TEXT if plain or draw(st.booleans()) else st.one_of(TEXT, TEXT, ODD)
    rows = draw(st.lists(_row(layout, cells, plain), min_size=1, max_size=6))
    case = Case(
        layout, rows, kind,
        encoding="utf-8" if kind == "parquet" else draw(st.sampled_from(MARKED)),
        newline=draw(st.sampled_from(["\n", "\r\n"])),
        packed=draw(st.booleans()), named_packed=draw(st.booleans()),
        damage=draw(st.sampled_from([*ANY_FILE, *DAMAGES[kind]])),
        at=draw(st.integers(0, 10**6)),
        renamed=kind != "text" and draw(st.booleans()), braces=draw(st.booleans()),
        omitted=kind in JSON and draw(st.booleans()),
        beside=draw(BESIDE) if kind in JSON else [],
    )  # fmt: skip
    if kind == "text":  # documents, with nothing that ends one
        for row in rows:
            row["id"] = None
            row["text"] = re.sub(r"[\s\0]+", " ", draw(TEXT)).strip() or "a"
    if case.renamed:
        shown = "{%s}" if case.braces else "%s"
        case.said["map"] = {name: shown % OTHER_NAMES[name] for name in COLUMNS[layout]}
    if draw(st.booleans()):
        case.said["layout"] = layout
    return case


def _row(layout: str, cells: Any, plain: bool) -> Any:
    columns = {}
    for name in COLUMNS[layout]:
        turns = st.tuples(cells, cells).map(
            lambda said: [
                {"role": role, "content": text}
                for role, text in zip(("user", "assistant"), said, strict=True)
            ]
        )
        columns[name] = turns if layout == "messages" else cells
    columns["id"] = IDS.map(lambda told: None if told is None else str(told)) if plain else IDS
    return st.fixed_dictionaries(columns)


def written(case: Case) -> list[dict[str, Any]]:
    """The rows under the names of their file."""
    names = OTHER_NAMES if case.renamed else {}
    given = {n for row in case.rows for n, cell in row.items() if cell is not None}
    left_out = given if case.omitted else set()
    rows = [
        {names.get(n, n): cell for n, cell in row.items() if cell is not None or n not in left_out}
        for row in case.rows
    ]
    beside = [*case.beside, *[{}] * len(rows)]
    return [{**extra, **row} for row, extra in zip(rows, beside, strict=False)]


def lines_of(case: Case) -> list[str]:
    """The file's text, line by line; a cell of a table may make more than one of its own."""
    rows = written(case)
    if case.kind in LINES:
        return [json.dumps(row, ensure_ascii=False).replace("\ud800", "\\ud800") for row in rows]
    if case.kind in JSON:
        whole: Any = {"version": 1, "rows": rows} if case.kind == "object in json" else rows
        indent = 2 if case.kind == "pretty json" else None
        text = json.dumps(whole, ensure_ascii=False, indent=indent)
        return text.replace("\ud800", "\\ud800").split("\n")
    if case.kind == "text":
        return [line for row in rows for line in (row["text"], "")]
    found = io.StringIO(newline="")
    delimiter = "\t" if case.kind == "tsv" else ","
    writer = csv.writer(found, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(list(rows[0]))
    lines = []
    for row in [None, *rows]:
        if row is not None:
            writer.writerow(["" if row[name] is None else row[name] for name in rows[0]])
        lines.append(found.getvalue()[:-2])
        found.seek(0)
        found.truncate()
    return lines


def make(case: Case, folder: Path) -> Path:
    """Write the file; what it is called tells its form, or lies where it was given a wrong name."""
    suffix = {"csv": "csv", "tsv": "tsv", "parquet": "parquet", "text": "txt", "jsonl": "jsonl",
              "list in jsonl": "jsonl"}.get(case.kind, "json")  # fmt: skip
    if case.damage == "wrong name":
        suffix = {"csv": "jsonl", "tsv": "csv", "parquet": "csv", "text": "json"}.get(
            case.kind, "parquet" if case.at % 2 else "csv"
        )
    path = folder / f"rows.{suffix}{'.gz' if case.packed and case.named_packed else ''}"
    content = _content(case, folder)
    path.write_bytes(gzip.compress(content) if case.packed else content)
    return path


def _content(case: Case, folder: Path) -> bytes:
    if case.damage == "emptied":
        return "".encode(case.encoding)
    if case.kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(written(case)), folder / "made")
        content = (folder / "made").read_bytes()
        return content[: case.at % len(content)] if case.damage == "cut" else content
    lines = lines_of(case)
    encoding = case.encoding
    place = 1 + case.at % (len(lines) - 1) if case.kind in TABLES else case.at % len(lines)
    if case.damage == "broken line":
        lines[place] = lines[place][: len(lines[place]) // 2]
    if case.damage == "no object":
        lines[place] = "[1]"
    if case.damage == "twice a key":
        lines[place] = re.sub(r"^{", '{"x": 1, "x": 2, ', lines[place])
    if case.damage == "deep":
        lines[place] = '{"x": ' + "[" * (500 + case.at) + "]" * (500 + case.at) + "}"
    if case.damage == "comma after":
        lines[place] += "\t" if case.kind == "tsv" else ","
    if case.damage == "zero":
        lines[place] += "\0"
    if case.damage == "no mark":
        encoding = "utf-16-le"
    text = case.newline.join([*lines, ""])
    content = text.encode(encoding)
    if case.damage == "stray byte":
        content = (
            content[: case.at % (len(content) + 1)]
            + b"\xff"
            + content[case.at % (len(content) + 1) :]
        )
    return content[: case.at % len(content)] if case.damage == "cut" else content


# --- what must come out -------------------------------------------------------------------------


def said(cell: Any) -> str | None:
    """A cell as text; None where it holds none."""
    if isinstance(cell, list | dict | None) or (
        isinstance(cell, float) and not math.isfinite(cell)
    ):
        return None
    text = str(cell)
    return None if not text.strip() or "\ud800" in text else text


def expected(case: Case) -> list[tuple[str, ...]]:
    """The texts of every row that can be used."""
    found = []
    for row in case.rows:
        if case.layout == "messages":
            texts = [of_turn(turn["content"]) for turn in row["messages"]]
            answers = texts[-1:]
        else:
            answers = texts = [said(row[name]) for name in COLUMNS[case.layout]]
        if None in texts or any(said(answer) is None for answer in answers):
            continue
        if case.layout == "preference" and texts[1] == texts[2]:
            continue
        if "\ud800" in str(row["id"]):
            continue
        found.append(tuple(map(str, texts)))
    return found


def of_turn(cell: Any) -> str | None:
    """What a message says: a text, perhaps an empty one, or parts of text."""
    if isinstance(cell, list) and all(isinstance(part, str) for part in cell):
        return "".join(cell)
    return cell if isinstance(cell, str) and "\ud800" not in cell else None


def read(case: Case, path: Path, folder: Path) -> tuple[list[tuple[str, ...]], dict[str, Any]]:
    """The texts that the data stage made of the file, and its metrics."""
    stage = data.Data(split=Split(path=str(path), **case.said), place=WHERE).stage(label="rows")
    (folder / "stage.json").write_text(json.dumps(stage.spec()), encoding="utf-8")
    job: Job[data.Data] = Job(folder, lambda event: None)
    metrics = job.config.run(job)
    texts = []
    for row in data.read_rows(folder):
        turns = row.get("messages")
        own = [turn["content"] for turn in turns] if turns else [
            row[name] for name in COLUMNS[case.layout]]  # fmt: skip
        texts.append(tuple(own))
    return texts, metrics


def must_fail(case: Case) -> bool | None:
    """Whether an error is due; None where a damaged file may also be a good one."""
    if case.damage in ("no object", "deep", "comma after", "twice a key", "zero"):
        return True
    if case.damage == "broken line" and case.kind in LINES:
        return True
    return None if case.damage else False


def check(case: Case) -> str:
    """Raise AssertionError where the promise is broken; else say what came of the file."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        path = make(case, folder)
        try:
            texts, metrics = read(case, path, folder)
        except DataError as error:
            note(str(error))
            _clear(error, path)
            _due(case, error)
            return "refused"
    whole, failing = expected(case), must_fail(case)
    assert failing is not True, f"{case.damage} was not seen"
    if failing is False:
        assert texts == whole
        assert metrics["rows"] + sum(metrics["dropped"].values()) == len(case.rows)
    elif case.kind not in TABLES and case.kind != "text":
        # What a damage leaves is rows as they were written; text and tables cannot tell a cut cell.
        assert case.damage in ("comma after", "wrong name") or texts == whole[: len(texts)]
    return "read"


def _clear(error: DataError, path: Path) -> None:
    assert path.name in error.message
    assert error.where.startswith(WHERE)
    assert error.fix, "no fix"
    assert _PLACE.search(error.message), error.message
    assert "Traceback" not in error.message
    assert len(error.message) < 1000, "an error is a sentence"
    str(error).encode()


def _due(case: Case, error: DataError) -> None:
    """An error of a whole file is that no row can be used, or that two rows have one id."""
    if case.damage and must_fail(case) is not False:
        if case.damage == "broken line" and must_fail(case):
            broken = case.at % len(case.rows) + 1
            assert f"line {broken}" in error.message or len(case.rows) == 1
        return
    if "have the id" in error.message:
        ids = [str(row["id"]) for row in case.rows if row["id"] not in (None, "")]
        assert len(set(ids)) < len(ids)
        return
    assert "no row of" in error.message, error.message
    assert not expected(case)


def main() -> None:
    """Run so many cases; the first that breaks the promise is shown as small as it can be made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    count = parser.parse_args().cases
    told: dict[str, int] = {}

    @settings(max_examples=count, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(cases())
    def every(case: Case) -> None:
        what = f"{'damaged' if case.damage else 'whole'} files {check(case)}"
        told[what] = told.get(what, 0) + 1

    every()
    print(", ".join(f"{number} {what}" for what, number in sorted(told.items())))


if __name__ == "__main__":
    main()
