"""A stage's key is its work and nothing else; a record is read as it was written, or not at all."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.core.errors import HarnessError, StoreError
from harness.core.files import canonical, digest_json, write_atomic
from harness.store.stage import (
    FOLDER_NAME,
    RECORD,
    Output,
    Record,
    Resources,
    Stage,
    read_record,
    write_record,
)

DATA = Stage("data", {"path": "a.jsonl"})
TRAIN = Stage("train", {"rate": 0.1, "layers": [1, 2]}, {"rows": DATA})


def record(**changes: Any) -> Record:
    made = Record(
        key=TRAIN.key, kind="train", status="ok", config={"rate": 0.1},
        outputs={"a": Output(sha256="1", bytes=3), "b": Output(sha256="2", bytes=4, released=True)},
    )  # fmt: skip
    return made.model_copy(update=changes)


def test_key_is_the_sha256_of_kind_config_and_the_inputs_keys() -> None:
    text = json.dumps(
        {"config": {"layers": [1, 2], "rate": 0.1}, "inputs": {"rows": DATA.key}, "kind": "train"},
        separators=(",", ":"), sort_keys=True,
    )  # fmt: skip
    assert TRAIN.key == hashlib.sha256(text.encode()).hexdigest()
    assert digest_json({"é": "ü", "a": None}) == digest_json({"a": None, "é": "ü"})
    assert digest_json({"é": 1}) == hashlib.sha256(b'{"\\u00e9":1}').hexdigest()


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "reference"},
        {"config": {"rate": 0.2, "layers": [1, 2]}},
        {"config": {"rate": 0.1, "layers": [2, 1]}},
        {"config": {"rate": 0.1}},
        {"inputs": {}},
        {"inputs": {"validation": DATA}},
        {"inputs": {"rows": Stage("data", {"path": "b.jsonl"})}},
        {"inputs": {"rows": Stage("data", {"path": "a.jsonl"}, {"of": DATA})}},
    ],
)
def test_what_a_stage_does_is_its_identity(changes: dict[str, Any]) -> None:
    other = replace(TRAIN, **changes)
    assert other.key != TRAIN.key
    assert other != TRAIN
    assert len({TRAIN, other, replace(TRAIN)}) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"unhashed": {"path": "/elsewhere"}},
        {"label": "another name"},
        {"predicted": {"seconds": 9.0}},
        {"resources": Resources(gpus=2, deterministic=True)},
        {"config": {"layers": (1, 2), "rate": 0.1}},
    ],
)
def test_where_and_how_a_stage_runs_is_not(changes: dict[str, Any]) -> None:
    other = replace(TRAIN, **changes)
    assert other.key == TRAIN.key
    assert other == TRAIN
    assert len({TRAIN, other}) == 1
    assert not TRAIN.__eq__(TRAIN.key)


def test_folder_is_named_by_kind_and_the_keys_beginning(tmp_path: Path) -> None:
    assert TRAIN.path(tmp_path) == tmp_path / "train" / TRAIN.key[:24]
    assert FOLDER_NAME == 24


def test_whole_stage_takes_what_it_predicts_and_what_stands_beside_its_work() -> None:
    for predicted, seconds in (({"seconds": 2.0}, 2.0), ({"seconds": 2.0, "beside": 0.5}, 2.5),
                               ({"beside": 0.5}, None)):  # fmt: skip
        assert replace(TRAIN, predicted=predicted).expected_seconds == seconds


@pytest.mark.parametrize("wrong", [{"gpus": -1}, {"checkpoint_seconds": -0.5}, {"gpu": 1},
                                   {"checkpoint_seconds": math.inf}])  # fmt: skip
def test_resources_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    assert Resources(gpus=0, checkpoint_seconds=0.0).gpus == 0
    with pytest.raises(ValidationError):
        Resources(**wrong)


def test_nothing_is_asked_for_by_default() -> None:
    assert Resources().model_dump() == {
        "gpus": 0, "memory": None, "time": None, "partition": None, "env": {},
        "deterministic": False, "checkpoint_seconds": 60.0, "report_to": [],
    }  # fmt: skip


def test_each_resource_is_explained() -> None:
    """`harness list keys resources` shows these texts."""
    assert [name for name, field in Resources.model_fields.items() if not field.description] == []


def test_memory_is_an_amount_as_slurm_writes_it() -> None:
    assert Resources(memory="3G").memory_bytes == 3 * 1024**3
    assert Resources(memory=None).memory_bytes == Resources().memory_bytes == 0
    with pytest.raises(ValidationError, match="'much' is not an amount of memory"):
        Resources(memory="much")


def test_stage_on_the_cpu_asks_for_all_but_the_gpu() -> None:
    assert Resources(gpus=2, memory="3G").without_gpu() == Resources(gpus=0, memory="3G")


def test_spec_tells_a_worker_all() -> None:
    made = replace(TRAIN, unhashed={"a": "/b"}, label="full", predicted={"seconds": 2.0})
    assert made.spec() == {
        "kind": "train", "key": TRAIN.key, "label": "full",
        "config": {"layers": [1, 2], "rate": 0.1},
        "inputs": {"rows": {"kind": "data", "key": DATA.key}}, "unhashed": {"a": "/b"},
        "resources": Resources().model_dump(), "predicted": {"seconds": 2.0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, math.nan]}, r"config\.a\[1\]"),
        ({"a": {"b": -math.inf}}, r"config\.a\.b"),
        ({"a": {1: 2}}, r"config\.a"),
        ({"a": len}, r"config\.a"),
        ({"a": {1}}, r"config\.a"),
        ({"a": [Path("b")]}, r"config\.a\[0\]"),
    ],
)
def test_what_has_no_one_text_is_refused_with_its_place(value: Any, where: str) -> None:
    with pytest.raises(HarnessError, match=f"{where}: "):
        canonical(value)


def test_plain_values_stay_as_they_are() -> None:
    plain = {"a": [None, True, 1, 1.5, "x", {"b": []}]}
    assert canonical(plain) == plain
    assert list(canonical({"b": 1, "a": 2})) == ["a", "b"]


def test_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    write_record(tmp_path, record(label="é"))
    assert read_record(tmp_path) == record(label="é")
    assert "é" in (tmp_path / RECORD).read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]


def test_record_may_quote_half_a_character(tmp_path: Path) -> None:
    """As Python reads a file's name that is no UTF-8."""
    written = record(status="failed", error={"message": "no file caf\udce9"})
    write_record(tmp_path, written)
    assert read_record(tmp_path) == written


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("0.1", "0.2"),
        lambda text: text[:-9],
        lambda text: text.replace('"sha256": "', '"sha256": "0'),
        lambda text: text.replace("sha256", "digest"),
        lambda _: "[1, 2]",
        lambda _: "5",
        lambda _: "",
        lambda text: text.encode().replace(b"rate", b"\xff\xfe"),
    ],
)
def test_damaged_record_is_none(tmp_path: Path, damage: Any) -> None:
    write_record(tmp_path, record())
    changed = damage((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    assert read_record(tmp_path) is None


def test_sealed_text_that_is_no_record_is_none(tmp_path: Path) -> None:
    body = {"key": "k", "kind": "train", "status": "ok", "config": {}, "surplus": 1}
    (tmp_path / RECORD).write_text(json.dumps({**body, "sha256": digest_json(body)}))
    assert read_record(tmp_path) is None


def test_record_that_cannot_be_read_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / RECORD).mkdir()
    with pytest.raises(StoreError, match=RECORD):
        read_record(tmp_path)


def test_failed_write_leaves_what_was_there_and_no_rest(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "whole")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(tmp_path / "a", "half \ud800")
    assert (tmp_path / "a").read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 1


def test_status_says_what_became_of_it_and_bytes_are_those_still_there() -> None:
    assert (record().ok, record(status="failed").ok) == (True, False)
    assert (record().lost, record(provenance={"lost": True}).lost) == (False, True)
    assert record().bytes == 3
