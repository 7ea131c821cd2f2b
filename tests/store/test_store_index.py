"""The store's index follows the folders; what is released, removed or at work is told."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness.core.errors import StoreError
from harness.core.files import digest_file
from harness.core.outside import state_of
from harness.store import index
from harness.store import store as stores
from harness.store.index import Index
from harness.store.stage import Output, Record, Stage, write_record
from harness.store.store import Store


def recorded(store: Store, number: int, **changes: Any) -> tuple[Stage, Path]:
    """A finished training with a number of its own."""
    stage = Stage("train", {"number": number, **changes.pop("config", {})})
    fields: dict[str, Any] = {"status": "ok", "label": f"label {number}", **changes}
    record = Record(
        key=stage.key, kind=stage.kind, config=dict(stage.config),
        provenance={"finished": float(number)}, **fields,
    )  # fmt: skip
    folder = stage.path(store.root)
    folder.mkdir(parents=True)
    (folder / "stage.json").write_text("{}")
    write_record(folder, record)
    return stage, folder


def numbers(rows: list[dict[str, Any]]) -> list[int]:
    return [row["config"]["number"] for row in rows]


def test_query_tells_what_is_there_newest_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in (2, 1, 3):
        recorded(store, number, cost={"seconds": 1.5 * number}, metrics={"loss": number})
    recorded(store, 4, status="failed", config={"kind": "other"})
    assert numbers(store.query()) == [4, 3, 2, 1]
    assert numbers(store.query(kind="train", status="ok")) == [3, 2, 1]
    assert (store.query(kind="data"), numbers(store.query(status="failed"))) == ([], [4])
    assert numbers(store.query(text="label 2")) == [2]
    assert numbers(store.query(text='"other"')) == [4]
    (row,) = store.query(text="label 3")
    assert (row["seconds"], row["metrics"], row["bytes"]) == (4.5, {"loss": 3}, 0)


def test_index_follows_the_folders_whoever_changes_them(tmp_path: Path) -> None:
    store, other = Store(tmp_path), Store(tmp_path)
    stage, folder = recorded(other, 1)
    _, gone = recorded(other, 2)
    assert numbers(store.query()) == [2, 1]
    assert other.remove(gone) > 0
    assert not gone.exists()
    again = Record(key=stage.key, kind="train", status="failed", config=dict(stage.config))
    write_record(folder, again)
    assert numbers(store.query(status="ok")) == []
    assert numbers(store.query(status="failed")) == [1]
    assert list(store.folders()) == [folder]


def test_damaged_record_hides_no_other(tmp_path: Path) -> None:
    for number in range(6):
        _, folder = recorded(Store(tmp_path), number)
        if number % 2:
            (folder / "record.json").write_text("{")
    assert numbers(Store(tmp_path).query()) == [4, 2, 0]


@pytest.mark.parametrize("damage", ["no database at all", "another version"])
def test_index_that_is_damaged_or_of_another_version_is_made_anew(
    tmp_path: Path, damage: str
) -> None:
    store = Store(tmp_path)
    stage, _ = recorded(store, 1)
    assert numbers(store.query()) == [1]
    if damage == "another version":
        with sqlite3.connect(tmp_path / "index.sqlite") as db:
            db.execute("DROP TABLE records")
            db.execute("CREATE TABLE records(key TEXT)")
            db.execute("PRAGMA user_version=1")
        db.close()
    store.close()
    if damage != "another version":
        (tmp_path / "index.sqlite").write_bytes(b"no database at all" * 99)
    opened = Store(tmp_path)
    assert numbers(opened.query()) == [1]
    assert opened.done(stage, outputs=True) is not None


def test_index_of_which_a_page_is_lost_is_made_anew_whatever_is_asked_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    stages = [recorded(store, number, config={"long": "x" * 3000})[0] for number in range(6)]
    assert len(store.query()) == 6
    store.close()
    file = tmp_path / "index.sqlite"
    whole = file.read_bytes()
    asked: tuple[Callable[[Store], object], ...] = (
        lambda store: [row["config"]["number"] for row in store.query()] == [5, 4, 3, 2, 1, 0],
        lambda store: all(store.done(stage, outputs=True) for stage in stages),
        lambda store: len(store.costs(["train"], "cpu")["train"]) == 6,
    )
    for place in range(0, len(whole), 4096):
        for ask in asked:
            file.write_bytes(whole[:place] + bytes(4096) + whole[place + 4096 :])
            opened = Store(tmp_path)
            assert ask(opened)
            opened.close()


def test_index_is_kept_from_one_run_to_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path)
    recorded(store, 1)
    assert numbers(store.query()) == [1]
    store.close()
    with sqlite3.connect(tmp_path / "index.sqlite") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (index.VERSION,)
        assert db.execute("SELECT count(*) FROM records").fetchone() == (1,)
    db.close()
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "index.sqlite") as db:
        assert db.execute("SELECT count(*) FROM records").fetchone() == (1,)
    db.close()


@pytest.mark.parametrize(
    ("reason", "borne"),
    [("attempt to write a readonly database", True), ("database or disk is full", True),
     ("disk I/O error", True), ("database is locked", False), ("no such table: records", False)],
)  # fmt: skip
def test_index_that_cannot_be_written_costs_the_memo_where_the_disk_is_to_blame(
    tmp_path: Path, reason: str, borne: bool
) -> None:
    expected = contextlib.nullcontext() if borne else pytest.raises(StoreError, match=reason)
    with expected, Index(tmp_path / "index.sqlite").writing():
        raise sqlite3.OperationalError(reason)


def test_costs_are_of_what_ended_well_on_the_class_of_device(tmp_path: Path) -> None:
    store = Store(tmp_path)
    recorded(store, 1, cost={"flops": 1}, config={"device": "cpu"})
    recorded(store, 2, cost={"flops": 2}, config={"device": "cuda"})
    recorded(store, 3, cost={"flops": 3}, config={"device": "cpu"}, status="failed")
    recorded(store, 4, cost={"flops": 4})
    found = store.costs(("train", "data"), "cpu")
    assert sorted(cost["flops"] for cost in found["train"]) == [1, 4]
    assert found["data"] == []


def test_failure_is_kept_where_there_is_nothing_better(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (good, _), (bad, folder) = recorded(store, 1), recorded(store, 2, status="failed")
    for stage in (good, bad):
        failure = Record(
            key=stage.key, kind="train", status="failed", config=dict(stage.config),
            error={"message": "again"},
        )  # fmt: skip
        store.keep_failure(stage, failure)
    assert store.done(good, outputs=False) is not None
    assert store.done(bad, outputs=False) is None
    (failed,) = store.failures().values()
    assert (failed.key, failed.error) == (bad.key, {"message": "again"})
    with FileLock(folder / "lock"):  # another run works there
        store.keep_failure(bad, failed.model_copy(update={"error": {"message": "third"}}))
    assert store.failures()[bad.key].error == {"message": "again"}


def test_stage_that_another_run_finished_meanwhile_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    (finished, _), (removed, folder) = recorded(store, 1), recorded(store, 2)
    store.remove(folder)
    rows = [{"kind": "train", "key": stage.key} for stage in (finished, removed)]
    monkeypatch.setattr(store, "query", lambda **_: rows)
    assert store.failures() == {}


def test_stage_that_has_not_run_is_not_done(tmp_path: Path) -> None:
    assert Store(tmp_path).done(Stage("train", {"number": 1}), outputs=False) is None


def test_output_that_changed_is_seen_behind_one_that_was_released(tmp_path: Path) -> None:
    store = Store(tmp_path)
    outputs = {
        name: Output(sha256=hashlib.sha256(b"12345").hexdigest(), bytes=5) for name in ("a", "b")
    }
    stage, folder = recorded(store, 1, outputs=outputs)
    for name in outputs:
        (folder / name).write_bytes(b"12345")
    assert store.release(folder, ["a"]) == 5
    assert store.done(stage, outputs=False) is not None
    (folder / "b").write_bytes(b"54321")
    assert store.done(stage, outputs=False) is None


def test_record_goes_before_the_files_that_it_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    stage, folder = recorded(store, 1)

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stores.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        store.remove(folder)
    assert store.record(stage) is None
    assert folder.is_dir()


def test_closed_store_lets_go_of_its_index(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.close()
    with pytest.raises(sqlite3.ProgrammingError):
        store.query()


def test_store_is_made_with_the_folders_above_it_and_is_needed_by_a_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "a" / "b")
    recorded(store, 1)
    assert numbers(store.query()) == [1]
    shutil.rmtree(store.root)
    store.root.touch()
    with pytest.raises(StoreError, match=r"name another --store"), store.in_use():
        pass


def test_record_of_another_stage_in_its_folder_is_not_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    stage, folder = recorded(store, 1)
    record = store.record(stage)
    assert record is not None
    write_record(folder, record.model_copy(update={"key": "0" * 64}))
    assert store.record(stage) is None


def test_released_output_is_gone_and_only_missed_by_who_needs_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    outputs = {"output": Output(sha256=hashlib.sha256(b"12345").hexdigest(), bytes=5)}
    stage, folder = recorded(store, 1, outputs=outputs)
    (folder / "output").write_bytes(b"12345")
    assert store.release(folder, ["output", "nothing of that name"]) == 5
    assert not (folder / "output").exists()
    assert store.done(stage, outputs=False) is not None
    assert store.done(stage, outputs=True) is None
    assert store.release(folder, ["output"]) == 0
    assert store.release(tmp_path / "nowhere", ["output"]) == 0


def test_runs_at_work_are_counted_and_locks_of_ended_ones_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.runs() == 0
    with store.in_use(), Store(tmp_path).in_use():
        assert store.runs() == 2
    (tmp_path / "runs" / "of a killed run.lock").touch()
    assert store.runs() == 0
    assert list((tmp_path / "runs").iterdir()) == []


def test_digest_is_remembered_for_the_file_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, path, read = Store(tmp_path / "store"), tmp_path / "file", []

    def told(path: Path) -> tuple[str, tuple[int, ...]]:
        read.append(path)
        return digest_file(path), state_of(path)

    monkeypatch.setattr(stores, "digest_settled", told)
    for content in (b"one", b"two"):
        path.write_bytes(content)
        assert store.file_digest(path) == digest_file(path) == store.file_digest(path)
    assert Store(tmp_path / "store").file_digest(path) == digest_file(path)
    assert len(read) == 2


def test_store_in_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot make the store"):
        Store(tmp_path / "file" / "store")


def test_index_that_is_closed_says_so_and_loses_nothing(tmp_path: Path) -> None:
    """A mistake of a program is no damage of the file, which would be made anew."""
    path = tmp_path / "index"
    made = Index(path)
    with made.writing():
        made.database.execute("CREATE TABLE kept (number)")
        made.database.execute("INSERT INTO kept VALUES (7)")
    with pytest.raises(sqlite3.ProgrammingError), made.writing():
        made.database.execute("INSERT INTO kept VALUES (?)", (1, 2))
    made.close()
    with pytest.raises(sqlite3.ProgrammingError):
        made.rows("SELECT * FROM kept")
    with pytest.raises(sqlite3.ProgrammingError), made.writing():
        made.database.execute("DELETE FROM kept")
    again = Index(path)
    assert again.rows("SELECT number FROM kept") == [(7,)]
    again.close()
