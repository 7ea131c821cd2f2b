"""Labels of people: what is read is what they said, and blinded sheets tell nothing."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest

from harness.core.errors import DataError
from harness.data.cells import content
from harness.data.judge_labels import (
    Label,
    Pair,
    digest_labels,
    json_lines,
    label_row,
    read_labels,
    write_labels,
)
from harness.data.label_sheets import blinded, csv_sheet, key_text, read_key, unblinded
from tests.comparisons import HOSTILE

CHAT = [{"role": "user", "content": "hi"}]


def pairs(count: int = 8) -> list[Pair]:
    return [
        Pair(f"p{i}", f"prompt {i}", f"good {i}", f"bad {i}", f"row{i}", "lora-sft", "zero-shot")
        for i in range(count)
    ]


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text(json_lines(rows), encoding="utf-8")
    return path


ROW = {"prompt": "p", "one": "a", "other": "b", "label": "1"}


def test_labels_that_were_written_are_read_again(tmp_path: Path) -> None:
    labels = [
        Label(pair, sign, "ann", "true") for pair, sign in zip(pairs(3), (1, 0, -1), strict=True)
    ]
    odd = Pair("odd", CHAT, [{"role": "assistant", "content": "lone \ud800"}], "b")
    labels.append(Label(odd, 1))
    write_labels(tmp_path / "labels.jsonl", labels)
    assert read_labels(tmp_path / "labels.jsonl") == labels
    assert digest_labels(labels) == digest_labels(labels[::-1]) != digest_labels(labels[:3])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_labels_are_read_from_the_csv_of_any_spreadsheet(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "labels.csv"
    rows = [["Prompt", "one", "other", "LABEL"], ["what, now; ok", 'say "yes"\nor no', "b", "Tie"],
            ["q", "a", "b", " 2 "], ["q", "c", "d", ""]]  # fmt: skip
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=separator).writerows(rows)
    path.write_text("\ufeff" + out.getvalue(), encoding="utf-8", newline="")
    labels = read_labels(path)
    assert [label.sign for label in labels] == [0, -1]
    assert labels[0].pair.prompt == "what, now; ok"
    assert labels[0].pair.one == 'say "yes"\nor no'
    assert labels[0].pair.id != labels[1].pair.id


SAVED = {
    "with a mark": lambda text: text.encode("utf-8-sig"),
    "as Unicode text": lambda text: text.replace(",", "\t").encode("utf-16"),
    "with its separator first": lambda text: f"sep=;\r\n{text}".replace(",", ";").encode(),
    "with empty rows": lambda text: f"{text},,,\r\n\r\n,,,\r\n".encode(),
    "of an old Mac": lambda text: text.replace("\r\n", "\r").encode(),
}


@pytest.mark.parametrize("how", SAVED)
def test_tables_are_read_however_a_spreadsheet_saves_them(tmp_path: Path, how: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(SAVED[how]("label,prompt,one,other\r\n2,Gr\u00f6\u00dfe?,a,b\r\n"))
    (label,) = read_labels(path)
    assert (label.sign, label.pair.prompt) == (-1, "Gr\u00f6\u00dfe?")
    sheet = blinded(pairs(1), 0)
    path.write_bytes(SAVED[how](f"id,label,answer 1,answer 2\r\n{sheet[0].number},tie,\u00fc,\r\n"))
    assert [label.sign for label in unblinded(sheet, path, "ann")] == [0]


def test_only_a_sheet_is_read_in_an_unknown_encoding(tmp_path: Path) -> None:
    """Of a sheet the id and the label alone are read; a file of labels has the texts too."""
    path, sheet = tmp_path / "saved.csv", blinded(pairs(1), 0)
    path.write_bytes(f"id;label;prompt\r\n{sheet[0].number};1;Gr\u00f6\u00dfe\r\n".encode("cp1252"))
    assert len(unblinded(sheet, path, "ann")) == 1
    path.write_bytes("label;prompt;one;other\r\n1;Gr\u00f6\u00dfe;a;b\r\n".encode("cp1252"))
    with pytest.raises(DataError, match="save it as `CSV UTF-8`"):
        read_labels(path)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{**ROW, "label": "3"}], "line 1: the label is '3'"),
        ([{**ROW, "label": 0}], "the label is '0'"),
        ([{**ROW, "label": ""}], "holds no label"),
        ([], "holds no label"),
        ([{"one": "a", "other": "b", "label": 1}], "`prompt` is no text"),
        ([{**ROW, "one": [1]}], "`one` is no text"),
        ([ROW, ROW], "a second label of the pair"),
        ([{**ROW, "labeller": "ann"}, {**ROW, "labeller": "ann"}], "by 'ann'"),
        ([{**ROW, "id": "x"}, {**ROW, "id": "x", "one": "c", "labeller": "b"}], "another pair"),
    ],
)
def test_a_malformed_label_is_refused_by_its_line(
    tmp_path: Path, rows: list[dict[str, object]], said: str
) -> None:
    with pytest.raises(DataError, match=said.replace("(", r"\(")):
        read_labels(written(tmp_path / "labels.jsonl", rows))


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_labels(tmp_path / "none.jsonl")
    for name, content_, said in (
        ("a.jsonl", b"{", "line 1 is no JSON"),
        ("b.jsonl", b"[1]", "line 1 is no object"),
        ("c.csv", b"\xff\xfa", "not UTF-8"),
    ):
        (tmp_path / name).write_bytes(content_)
        with pytest.raises(DataError, match=said):
            read_labels(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "said"),
    [("label,prompt,one,other\n1,well, now,a,b\n", "line 2 has more cells than the head"),
     ("label,prompt,one,other,Label\n1,p,a,b,2\n", "two columns 'label'")],
)  # fmt: skip
def test_cells_that_slipped_are_refused(tmp_path: Path, text: str, said: str) -> None:
    """A comma that nobody quoted would turn the answers."""
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_labels(tmp_path / "labels.csv")


def test_labels_that_a_data_frame_wrote_are_read(tmp_path: Path) -> None:
    """pandas writes whole numbers beside missing ones as 1.0, missing ones as NaN, and its index
    in a column without a name."""
    (tmp_path / "labels.csv").write_text(
        ",label,prompt,one,other,id\n0,1.0,p,a,b,\n1,,p,c,d,\n2,2.0,p,e,f,\n,,,,,,\n"
    )
    lines = ['{"label": NaN, "prompt": "p", "one": "a", "other": "b", "id": NaN}']
    lines += [json.dumps({**ROW, "label": 2.0, "one": str(i), "id": math.nan}) for i in range(2)]
    (tmp_path / "labels.jsonl").write_text("\n".join(lines))
    assert [label.sign for label in read_labels(tmp_path / "labels.csv")] == [1, -1]
    labels = read_labels(tmp_path / "labels.jsonl")
    assert [label.sign for label in labels] == [-1, -1]
    assert len({label.pair.id for label in labels}) == 2


def test_several_people_and_dimensions_label_one_pair(tmp_path: Path) -> None:
    rows = [{**ROW, "labeller": who, "dimension": what} for who in "ab" for what in ("", "true")]
    assert len(read_labels(written(tmp_path / "labels.jsonl", rows))) == 4


def test_a_sheet_is_shuffled_by_its_seed_and_names_nobody() -> None:
    sheet = blinded(pairs(40), seed=3)
    assert sheet == blinded(pairs(40), seed=3) != blinded(pairs(40), seed=4)
    assert [shown.pair.id for shown in sheet] != [pair.id for pair in pairs(40)]
    assert 10 < sum(shown.turned for shown in sheet) < 30
    text = csv_sheet(sheet, content)
    assert not any(name in text for name in ("lora-sft", "zero-shot", "row1", "turned"))


@pytest.mark.parametrize("seed", range(4))
def test_labels_of_a_filled_sheet_are_about_the_right_answers(tmp_path: Path, seed: int) -> None:
    (tmp_path / "key.jsonl").write_text(key_text(blinded(pairs(), seed)), encoding="utf-8")
    rows = list(csv.reader(io.StringIO(csv_sheet(blinded(pairs(), seed), content), newline="")))
    for row in rows[1:]:
        row[1] = "1" if row[3].startswith("good") else "2"
    rows[-1][1] = ""
    with (tmp_path / "ann.csv").open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows(rows)
    labels = unblinded(read_key(tmp_path / "key.jsonl"), tmp_path / "ann.csv", "ann")
    assert [label.sign for label in labels] == [1] * 7
    assert all(label.pair in pairs() and label.labeller == "ann" for label in labels)


@pytest.mark.parametrize(
    ("text", "said"),
    [("id,label\nother-1,1\n", "none of this sheet"), ("label\n1\n", "the id '' is none"),
     ("id,label\n{0},1\n{0},2\n", "stands twice"), ("id,label\n{0},yes\n", "the label is 'yes'"),
     ("id,label\n{0},\n", "holds no label")],
)  # fmt: skip
def test_a_sheet_filled_wrongly_is_refused(tmp_path: Path, text: str, said: str) -> None:
    sheet = blinded(pairs(), 0)
    (tmp_path / "filled.csv").write_text(text.format(sheet[0].number), encoding="utf-8")
    with pytest.raises(DataError, match=said):
        unblinded(sheet, tmp_path / "filled.csv", "ann")


def test_labels_of_another_sheet_are_refused(tmp_path: Path) -> None:
    one, other = blinded(pairs(), 0), blinded(pairs(), 1)
    (tmp_path / "filled.csv").write_text(f"id,label\n{one[0].number},1\n", encoding="utf-8")
    with pytest.raises(DataError, match="none of this sheet"):
        unblinded(other, tmp_path / "filled.csv", "ann")


def test_a_labels_file_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no line of a sheet's key"):
        read_key(written(tmp_path / "labels.jsonl", [label_row(Label(pairs(1)[0], 1))]))


def test_hostile_answers_make_no_formula_and_come_back_as_they_were(tmp_path: Path) -> None:
    hostile = [Pair(name, text, text + "1", text + "2") for name, text in HOSTILE.items()]
    sheet = blinded(hostile, 0)
    (tmp_path / "key.jsonl").write_text(key_text(sheet), encoding="utf-8")
    assert read_key(tmp_path / "key.jsonl") == sheet
    text = csv_sheet(sheet, content)
    text.encode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(rows) == len(hostile) + 1
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    assert json.loads(key_text(sheet).split("\n")[0])["turned"] in (True, False)
