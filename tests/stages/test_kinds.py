"""Kinds of stages: each is declared in one file, and nothing else has to know its name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Self

import pytest

from harness.core import registry
from harness.methods.base import Method
from harness.models.files import ModelPlace
from harness.scheduling.schedule import pending
from harness.stages.base import AddedLater, Job, Known, NotHashed, StageKind, member_in
from harness.stages.checkpoint import Checkpoint
from harness.stages.contamination import Contamination
from harness.stages.data import Data
from harness.stages.select import Select
from harness.store.kind import kind_of
from harness.store.stage import Record, Resources, Stage
from harness.store.store import Store
from harness.suite.data import Split
from harness.worker import run_stage
from tests.conftest import Workspace

KINDS = registry.names("stage")


class Counted(StageKind):
    """Words of the rows, as another package might count them."""

    VERSION = 2
    reads = {"data": "data"}

    column: str
    least: Annotated[int, AddedLater] = 1
    place: Annotated[str, NotHashed]

    def resources(self, asked: Resources) -> Resources:
        return asked.without_gpu()

    @classmethod
    def headline(cls, record: Record) -> str:
        return f"{record.metrics['words']} words"

    def run(self, job: Job[Self]) -> dict[str, Any]:
        rows = (job.input("data") / "rows.jsonl").read_text().splitlines()
        words = sum(len(str(json.loads(row)[self.column]).split()) for row in rows)
        return {"words": words, "least": self.least, "place": job.config.place}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    """Registered as an entry point would register it."""
    from importlib.metadata import EntryPoint

    point = EntryPoint("counted", f"{__name__}:Counted", "harness.stages")
    known = {"stage": {**registry._entry_points("stage"), "counted": point}}
    monkeypatch.setattr(registry, "_entry_points", lambda axis: known.get(axis, {}))
    return Counted


def planned(workspace: Workspace) -> Iterator[Stage]:
    plan = workspace.open().plan
    yield from dict.fromkeys((*plan.groundwork(), *plan.stages()))


@pytest.mark.parametrize("name", KINDS)
def test_every_module_of_stages_declares_one_kind(name: str) -> None:
    kind = registry.find("stage", name)
    assert issubclass(kind, StageKind)
    assert kind.name == registry.name_of(kind) == name
    assert kind.run is not StageKind.run
    assert kind.__doc__


def test_kinds_are_declared_without_torch() -> None:
    script = (
        "import sys\nfrom harness.core import registry\n"
        "for name in registry.names('stage'):\n    registry.find('stage', name)\n"
        "assert not {'torch', 'transformers', 'trl', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_reads_kinds_that_exist(name: str) -> None:
    reads = registry.find("stage", name).reads
    named = {kind for kinds in reads.values() for kind in kinds.split(", ")}
    assert named <= {*KINDS, "*"}


def test_a_planned_stage_is_built_again_from_its_stage_json(aligned: Workspace) -> None:
    """The worker sees what the plan saw: every field, and inputs in declared roles."""
    seen = set()
    for stage in planned(aligned):
        declared: Any = registry.find("stage", stage.kind)
        spec = json.loads(json.dumps(stage.spec()))
        rebuilt = declared.from_spec(spec["config"], spec["unhashed"])
        assert rebuilt.stage(stage.inputs, label=stage.label).key == stage.key
        assert rebuilt.unhashed() == declared.of(stage).unhashed()
        for role, source in stage.inputs.items():
            kinds = [k for pattern, k in declared.reads.items() if fnmatchcase(role, pattern)]
            assert any(source.kind in k.split(", ") or k == "*" for k in kinds), (stage.kind, role)
        seen.add(stage.kind)
    assert seen >= {"data", "lengths", "contamination", "train", "reference", "generate", "score"}


def test_an_input_in_a_role_that_a_kind_has_not_is_refused() -> None:
    data = Data(split=Split(path="x"), place="data.x.train").stage(label="x/train")
    with pytest.raises(AssertionError, match="contamination has no input 'rows'"):
        Contamination(n=8).stage({"rows": data}, label="x")


def test_only_stages_that_compute_on_it_ask_for_a_gpu(aligned: Workspace) -> None:
    aligned.write(resources={"gpus": 1, "memory": "1G"})
    asked = {s.kind: s.resources for s in planned(aligned)}
    gpus = {kind: resources.gpus for kind, resources in asked.items()}
    assert {gpus[kind] for kind in ("train", "generate", "reference")} == {1}
    assert {gpus[kind] for kind in ("data", "lengths", "contamination")} == {0}
    assert {resources.memory for resources in asked.values()} == {"1G"}


def test_what_is_not_hashed_reaches_the_worker_and_no_key(tmp_path: Path) -> None:
    split = Split(path="rows.jsonl", where={"b": 1, "a": 2})
    here, there = (Data(split=split, sha256="0" * 64, place=place) for place in ("here", "there"))
    one, other = (data.stage(label="x") for data in (here, there))
    assert one.key == other.key
    assert Data.of(one).place == "here"
    assert Data.of(other).place == "there"


class Threaded(Method):
    """A method with a field that changes no result, and one whose identity is its content."""

    threads: Annotated[int, NotHashed] = 1
    file: str = "weights.bin"

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "file": "sha256"}


@pytest.fixture
def threaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered as an entry point would register it."""
    from importlib.metadata import EntryPoint

    points = registry._entry_points
    point = EntryPoint("threaded", f"{__name__}:Threaded", "harness.methods")
    added = {"method": {"threaded": point}}
    monkeypatch.setattr(
        registry, "_entry_points", lambda axis: {**points(axis), **added.get(axis, {})}
    )


@pytest.mark.usefixtures("threaded")
def test_every_field_of_a_member_reaches_the_worker(tmp_path: Path) -> None:
    """Those that are not hashed too, in the stage itself and in those that read its checkpoint."""
    registry.find("method", "threaded")
    stages = [
        Checkpoint(
            model={}, device="cpu", method=method, content="x", place=ModelPlace(source="m")
        ).stage(label="x")
        for method in (Threaded(), Threaded(threads=4), Threaded(threads=4, file="other.bin"))
    ]  # fmt: skip
    assert len({stage.key for stage in stages}) == 1
    for stage, threads, file in zip(
        stages, (1, 4, 4), ("weights.bin", "weights.bin", "other.bin"), strict=True
    ):
        spec = json.loads(json.dumps(stage.spec()))
        rebuilt = Checkpoint.from_spec(spec["config"], spec["unhashed"])
        for method in (rebuilt.method, member_in(spec, "method")):
            assert (method.threads, method.file) == (threads, file)


def test_members_are_read_from_a_stage_json_of_an_earlier_version() -> None:
    spec = {"config": {"method": {"name": "lora", "version": 1, "r": 3}}, "locators": {}}
    assert member_in(spec, "method").r == 3


def test_failed_inputs_reach_a_tolerant_kind_by_role() -> None:
    tolerant = [name for name in KINDS if kind_of(name).tolerant]
    assert tolerant == ["select"]
    reasons = {"trial-1-seed-0": "out of memory"}
    select = Select(metric="m", higher_is_better=True, seeds=[0], trials=[], failed=reasons)
    assert Select.of(select.stage(label="x")).failed == reasons
    assert select.identity() == Select(
        metric="m", higher_is_better=True, seeds=[0], trials=[]
    ).identity()  # fmt: skip


def test_another_package_brings_a_kind(counted: type[Counted], tmp_path: Path) -> None:
    """Planned, run, cached and told of by its declaration alone."""
    store = Store(tmp_path)
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "one two", "completion": "three"}\n')
    data = Data(split=Split(path=str(file)), place="data.x.train").stage(label="x/train")
    asked = counted(column="prompt", place="here")
    stage = asked.stage({"data": data}, label="x", resources=Resources(gpus=1))
    assert (stage.kind, stage.config) == ("counted", {"version": 2, "column": "prompt"})
    assert stage.resources.gpus == 0
    for each in (data, stage):
        folder = each.path(store.root)
        folder.mkdir(parents=True)
        (folder / "stage.json").write_text(json.dumps(each.spec()))
        record = run_stage(folder, lambda event: None)
        assert record.ok, record.error
    assert record.metrics == {"words": 2, "least": 1, "place": "here"}
    assert kind_of("counted").headline(record) == "2 words"
    assert pending([data, stage], [stage], store) == []


def test_cost_is_unknown_where_nothing_is_known(aligned: Workspace, tmp_path: Path) -> None:
    from harness.stages._cost import Rates

    for stage in planned(aligned):
        declared: Any = registry.find("stage", stage.kind)
        known = Known(Rates(Store(tmp_path), "cpu"))
        assert "seconds" not in declared.of(stage).expected(known, stage.inputs)
