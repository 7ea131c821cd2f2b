"""An executor is asked whether there is room for a stage, and resources decide."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import pytest

from harness.core import memory
from harness.core.errors import SuiteError
from harness.executors import local as local_executor
from harness.executors.base import Event, Executor, Finished, Session
from harness.executors.local import Local, LocalSession
from harness.scheduling.schedule import Outcome, execute
from harness.store.stage import Record, Resources, Stage, write_record
from harness.store.store import Store
from tests.conftest import Workspace


def stage(name: str, *inputs: Stage, **resources: Any) -> Stage:
    return Stage(
        kind="train",
        label=name,
        config={"name": name},
        inputs={source.label: source for source in inputs},
        resources=Resources(**resources),
    )


class Watched(Executor):
    """Room by a rule of the test; stages end one at a time, those that began first at first."""

    def room(self, stage: Stage, running: Collection[Stage]) -> bool:
        return stage.label != "huge" and sum(s.resources.gpus for s in (stage, *running)) <= 2


class Ends(Session):
    """Commits a record for each stage when it is waited for."""

    def __init__(self, stages: Iterable[Stage], root: Path) -> None:
        self.folders = {str(each.path(root)): each for each in stages}
        self.running: list[str] = []
        self.together: list[set[str]] = []
        """The labels of what ran at once, whenever something began."""

    def submit(self, folder: Path, resources: Resources) -> str:
        self.running.append(str(folder))
        self.together.append({self.folders[handle].label for handle in self.running})
        return str(folder)

    def wait(self, timeout: float) -> list[Event]:
        handle = self.running.pop(0)
        ended = self.folders[handle]
        write_record(Path(handle), Record(key=ended.key, kind="train", status="ok", config={}))
        return [Finished(handle)]

    def close(self) -> None:
        pass


class Silent:
    """A reporter that says nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def run(stages: list[Stage], folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Outcome, Ends]:
    session = Ends(stages, folder)
    monkeypatch.setattr(Watched, "start", lambda self, log: session)
    log = folder / "log.txt"
    return execute(stages, stages, Watched(), Store(folder), Silent(), log), session


def test_stages_run_together_while_the_executor_has_room_for_what_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide, *narrow = stage("wide", gpus=2), stage("a", gpus=1), stage("b", gpus=1)
    data = stage("data")
    outcome, session = run([wide, *narrow, data], tmp_path, monkeypatch)
    assert not outcome.failed
    assert len(outcome.records) == 4
    assert any({"a", "b"} <= labels for labels in session.together)
    assert not [labels for labels in session.together if "wide" in labels and labels & {"a", "b"}]
    assert {"wide", "data"} in session.together  # a later stage that fits does not wait


def test_stage_that_never_has_room_fails_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge, small = stage("huge", gpus=1), stage("small", gpus=1)
    after = stage("after", huge)
    outcome, _ = run([huge, small, after], tmp_path, monkeypatch)
    assert outcome.records[small.key].ok
    errors = {record.label: record.error or {} for record in outcome.failed}
    assert set(errors) == {"huge", "after"}
    assert "no room for what the stage needs" in errors["huge"]["message"]
    assert "its input train huge failed" in errors["after"]["message"]


def test_default_room_is_the_capacity() -> None:
    class Pair(Executor):
        def capacity(self) -> int:
            return 2

    stages = [stage(name, memory="1T", gpus=9) for name in "abc"]
    assert [Pair().room(stages[n], stages[:n]) for n in range(3)] == [True, True, False]
    assert [Executor().room(stages[n], stages[:n]) for n in range(2)] == [True, False]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_executor, "gpus", lambda: ["0", "1"])
    monkeypatch.setattr(local_executor, "of_this_machine", lambda: 32 * 2**30)


@pytest.mark.usefixtures("two_gpus")
def test_this_machine_has_room_for_as_many_gpus_as_it_shows() -> None:
    executor = Local(slots=4)
    asking = [stage(name, gpus=1) for name in "abc"]
    data = stage("data")
    assert executor.room(asking[1], asking[:1])
    assert not executor.room(asking[2], asking[:2])
    assert executor.room(data, asking[:2])
    assert not executor.room(data, [*asking[:2], data, data])  # no slot is left
    assert executor.room(asking[2], [asking[0], data])


@pytest.mark.usefixtures("two_gpus")
def test_this_machine_has_room_for_as_much_memory_as_it_has() -> None:
    executor = Local(slots=4)
    half, more, unsaid = stage("half", memory="16G"), stage("more", memory="17000M"), stage("any")
    assert executor.room(half, [half])
    assert not executor.room(more, [half])
    assert executor.room(more, [unsaid])
    assert executor.room(unsaid, [half, half])
    too_much = stage("too much", memory="1T")
    assert executor.room(too_much, [])  # alone, as nothing that ends would make room
    assert not executor.room(too_much, [unsaid])


def test_stages_that_need_a_gpu_are_kept_apart_where_slots_share_gpus(tmp_path: Path) -> None:
    session = LocalSession(4, 1, ["0", "1"], tmp_path / "log.txt")
    first, second, *_ = session.slots
    assert session._idle() is first
    first.handle, first.gpus = "training", 1
    assert session._idle() is second
    second.handle, second.gpus = "data", 0
    assert session._idle().gpu == "1"  # beside the stage that needs none
    session.slots = [second, first]
    first.handle = None
    assert session._idle() is first  # what has ended needs nothing any more
    first.handle = second.handle = None
    session.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("32G", 32 * 2**30), ("500M", 500 * 2**20), ("1.5T", 1536 * 2**30), ("64 GiB", 64 * 2**30),
     ("8GB", 8 * 2**30), ("100K", 102400)],
)  # fmt: skip
def test_memory_is_read_as_a_cluster_reads_it(text: str, expected: int) -> None:
    assert memory.amount(text) == expected
    assert Resources(memory=text).memory_bytes == expected


@pytest.mark.parametrize("text", ["32", "lots", "G", "-1G", "32 gigs", "", "1e3G", "32G 2"])
def test_memory_that_is_no_amount_is_refused_where_it_stands(
    workspace: Workspace, text: str
) -> None:
    workspace.write(resources={"memory": text})
    with pytest.raises(SuiteError, match=r"suite.yaml: resources\.memory: .* is not an amount"):
        workspace.open()


def test_a_containers_limit_is_the_machines_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_LIMITS", (str(tmp_path / "limit"), "/nowhere"))
    whole = memory.of_this_machine()
    assert whole > 2**30
    (tmp_path / "limit").write_text("max\n")
    assert memory.of_this_machine() == whole
    (tmp_path / "limit").write_text(f"{2**30}\n")
    assert memory.of_this_machine() == 2**30
