"""Files as people have them: read as they were meant, or refused in one sentence with the place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from harness.core.errors import DataError, HarnessError
from harness.data.load import Rows, load_rows
from harness.suite.data import Split
from tests import fuzz_data
from tests.conftest import Workspace

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def load(path: Path, **fields: Any) -> Rows:
    return load_rows(Split(path=str(path), **fields).model_dump(), str(path), "data.x.train")


def texts(path: Path, **fields: Any) -> list[str]:
    return [row["text"] for row in load(path, **fields).rows]


def refusal(path: Path, **fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(path, **fields)
    assert caught.value.fix or "columns of" in caught.value.message
    return str(caught.value)


def file(folder: Path, name: str, content: str | bytes, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


# --- any file ----------------------------------------------------------------------------------


@QUICK
@given(fuzz_data.cases())
def test_any_file_is_read_as_it_was_written_or_refused_in_one_sentence(
    case: fuzz_data.Case,
) -> None:
    fuzz_data.check(case)


@pytest.mark.slow
@settings(QUICK, max_examples=1000)
@given(fuzz_data.cases())
def test_a_thousand_files_are_read_as_they_were_written_or_refused(case: fuzz_data.Case) -> None:
    fuzz_data.check(case)


# --- JSON by its content -----------------------------------------------------------------------

ROWS = [{"text": "a b"}, {"text": "é"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.ndjson", "ROWS.JSON"])
@pytest.mark.parametrize(
    "content",
    [
        LINES,
        LINES.replace("\n", "\r\n\r\n"),
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        json.dumps({"version": 1, "data": ROWS}, indent=1),
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_is_read_by_what_it_holds(
    tmp_path: Path, name: str, content: str, encoding: str
) -> None:
    assert texts(file(tmp_path, name, content, encoding)) == ["a b", "é"]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_one_object_alone_is_a_row_where_it_has_the_columns_of_one(
    tmp_path: Path, name: str
) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    alone = load(file(tmp_path, name, json.dumps({"messages": turns})))
    assert [row["messages"] for row in alone.rows] == [turns]
    mapped = load(file(tmp_path, name, json.dumps({"turns": turns})), map={"messages": "turns"})
    assert [row["messages"] for row in mapped.rows] == [turns]


def test_files_put_one_after_another_keep_their_marks_out_of_the_rows(tmp_path: Path) -> None:
    one = LINES.encode("utf-8-sig")
    assert texts(file(tmp_path, "rows.jsonl", one + one)) == ["a b", "é", "a b", "é"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": "b"},\n', "line 2, column 14"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n{"text": "b"}\n', "line 2"),
        ("a.json", '{"text": \n{"text": "b"}\n', "line 1"),
        ("a.json", '[{"text": "a"},\n{"text": "b"},\n]', "line 3"),
        ("a.json", '[{"text": "a"}, 7]', "item 1 of its list"),
        ("a.json", '[{"text": "a"}]\n[{"text": "b"}]', "line 2: more text follows"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "line 2 is not an object"),
        ("a.jsonl", "7\n", "line 1"),
        ("a.json", '{"text": {"0": "a"}, "id": {"0": "b"}}', "columns, not rows"),
        ("a.jsonl", '{"text": "a", "text": "b"}\n', "line 1: the key 'text' occurs twice"),
        ("a.jsonl", '{"text": ' + "[" * 5000 + "]" * 5000 + "}", "line 1 is nested too deep"),
        ("a.jsonl", '{"text": ' + "[" * 300 + "]" * 300 + "}", "row number 0 is nested"),
        ("a.jsonl", '{"text": "a"}\n\0\n', "line 2 holds a zero character"),
        ("a.csv", LINES, "it holds JSON"),
        ("a.txt", json.dumps(ROWS), "set `format: json`"),
        ("a.csv", "prompt\tcompletion\na\tb\n", "set `format: tsv`"),
        ("a.csv", "prompt;completion\na;b\n", "line 1 holds semicolons"),
        ("a.csv", "text, id\na, b\n", "' id' has blanks"),
        ("a.csv", "text,text\na,b\n", "'text' occurs 2 times"),
        ("a.csv", "text,id\na,b,\n", "line 2 has more cells"),
        ("a.csv", 'text\n"a"b\n', "line 2"),
        ("a.xlsx", b"PK\x03\x04rest", "set `format:`"),
        ("a.csv", b"PK\x03\x04rest", "a ZIP archive or a spreadsheet"),
        ("a.jsonl", b"PAR1rest", "set `format: parquet`"),
        ("a.parquet", LINES, "not a parquet file"),
        ("a.jsonl.gz", LINES, "not compressed with gzip"),
        ("a.jsonl", gzip.compress(LINES.encode(), mtime=0)[:-12], "cannot be read"),
        ("a.jsonl", LINES.encode("utf-16-le"), "zero character"),
        ("a.jsonl", '{"text": "é"}'.encode("latin1"), "is not UTF-8 text (byte 10"),
        ("a.jsonl", "\ufeff\n\n", "holds no rows"),
        ("a.json", "[]", "holds no rows"),
        ("a.csv", "text\n", "holds no rows"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_its_place_and_a_way_out(
    tmp_path: Path, name: str, content: str | bytes, words: str
) -> None:
    message = refusal(file(tmp_path, name, content))
    assert words in message
    assert name in message
    assert "data.x.train" in message


def test_gzip_is_told_by_the_content(tmp_path: Path) -> None:
    assert texts(file(tmp_path, "a.jsonl", gzip.compress(LINES.encode("utf-16"), mtime=0))) == [
        "a b",
        "é",
    ]


def test_a_format_that_is_named_is_held_to(tmp_path: Path) -> None:
    assert texts(file(tmp_path, "a.txt", LINES), format="text") == [LINES.strip()]


def test_bytes_and_numbers_without_end_are_no_text(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    table = pa.table({"text": pa.array([b"a", b"b"], pa.binary()), "id": ["x", "y"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert "2 `text` is no text" in refusal(tmp_path / "a.parquet")
    found = load(file(tmp_path, "a.jsonl", '{"text": Infinity}\n{"text": 1.5}\n'))
    assert ([row["text"] for row in found.rows], dict(found.dropped)) == (
        ["1.5"], {"`text` is no text": 1})  # fmt: skip


def test_half_a_surrogate_pair_in_a_name_is_one_sentence_too(workspace: Workspace) -> None:
    (workspace.folder / "train.jsonl").write_text('{"\\ud800": "a"}\n')
    with pytest.raises(HarnessError, match="make no layout") as caught:
        workspace.run()
    assert caught.value.exit_code == 2
    (workspace.folder / "train.jsonl").write_text(
        '{"messages": [{"role": "\\ud800", "content": "a"}]}\n'
    )
    with pytest.raises(HarnessError, match="no row of"):
        workspace.run()


# --- columns -----------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["a question", "{a question}"])
def test_a_bare_name_that_is_a_column_means_that_column(tmp_path: Path, template: str) -> None:
    rows = [{"a question": "q1", "prompt": "p", "completion": "c"}]
    path = file(tmp_path, "a.json", json.dumps(rows))
    found = load(path, map={"prompt": template, "completion": "completion"})
    assert [(row["prompt"], row["completion"]) for row in found.rows] == [("q1", "c")]


@pytest.mark.parametrize(
    "template", ["qestion", "prompt", "answer.text", "{qestion}", "a questoin"]
)
def test_a_bare_word_that_is_no_column_is_refused_with_the_columns(
    tmp_path: Path, template: str
) -> None:
    path = file(tmp_path, "a.json", json.dumps([{"question": "q", "a question": "r", "b": "c"}]))
    message = refusal(path, map={"prompt": template, "completion": "b"})
    assert "data.x.train.map.prompt: unknown column" in message
    assert "question, a question, b" in message


def test_text_that_no_column_is_like_stands_in_every_row(tmp_path: Path) -> None:
    path = file(tmp_path, "a.json", json.dumps([{"b": "c"}, {"b": "d"}]))
    for template, text in (
        ("Tell a story.", "Tell a story."),
        ("{'yes'}", "yes"),
        ("{{b}}", "{b}"),
    ):
        found = load(path, map={"prompt": template, "completion": "{b}"})
        assert [row["prompt"] for row in found.rows] == [text, text]


@pytest.mark.parametrize("template", ["{", "{a!r}", "{a:>9}", '{"a": 1}', "{}"])
def test_braces_that_name_no_column_are_refused_with_the_suite(template: str) -> None:
    with pytest.raises(ValueError, match=r"text: "):
        Split(path="x.jsonl", map={"text": template})


def test_lists_are_not_written_into_a_text(tmp_path: Path) -> None:
    path = file(tmp_path, "a.json", json.dumps([{"b": ["c"]}, {"b": "d"}]))
    found = load(path, map={"text": "say {b}"})
    assert ([row["text"] for row in found.rows], dict(found.dropped)) == (
        ["say d"], {"`b` is no text": 1})  # fmt: skip


def test_rows_are_the_same_whether_empty_cells_are_left_out_or_null(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a", "completion": None, "label": None},
        {"prompt": "b", "completion": "c", "label": None},
        {"prompt": "d", "completion": "e", "label": True},
    ]
    short = [{k: v for k, v in row.items() if v is not None} for row in rows]
    full, left_out = (
        load(file(tmp_path, f"{i}.json", json.dumps(r))) for i, r in enumerate((rows, short))
    )
    assert full.rows == left_out.rows
    assert full.dropped == left_out.dropped == {"no `completion`": 1,
                                                "`label` is neither true nor false": 1}  # fmt: skip
    for option in ({"where": {"label": True}}, {"min_chars": {"completion": 1}}):
        path = file(tmp_path, "b.json", json.dumps(short))
        assert load(path, **option).rows[-1]["prompt"] == "d"


def test_a_cluster_or_group_of_number_nought_is_one(tmp_path: Path) -> None:
    rows = [{"text": t, "cluster": i // 2, "group": i // 2} for i, t in enumerate("abcd")]
    found = load(file(tmp_path, "a.json", json.dumps(rows)))
    assert [row["cluster"] for row in found.rows] == ["0", "0", "1", "1"]
    assert [row["group"] for row in found.rows] == ["0", "0", "1", "1"]


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_the_first_bytes_of_a_file_may_end_within_a_character(
    tmp_path: Path, encoding: str, lines: bool
) -> None:
    rows = [{"prompt": f"{i}: \u0928\u092e \U0001f600", "completion": "\u0a0a"} for i in range(9)]
    texts = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "".join(f"{line}\n" for line in texts) if lines else f"[{', '.join(texts)}]"
    path = tmp_path / "rows.json"
    path.write_bytes(text.encode(encoding))
    size = path.stat().st_size
    for head in (*range(size // 2, size // 2 + 9), size, size + 1):
        read = load_rows(Split(path=str(path)).model_dump(), str(path), "data.x.train", head)
        begun = [row["prompt"] for row in read.rows]
        assert 2 <= len(begun) <= (9 if head > size // 2 + 9 else 5)
        assert begun == [row["prompt"] for row in rows][: len(begun)]
