"""What a store remembers, and what it holds its stages to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from harness.core.files import digest_file
from harness.planning.checks import Misses
from harness.planning.planner import plan
from harness.store import stage as stages
from harness.store import store as stores
from harness.store.stage import Output, Record, Stage, write_record
from harness.store.store import Store
from harness.suite.suite import load_suite
from tests.conftest import Workspace


def finished(store: Store, stage: Stage, content: bytes = b"out") -> Path:
    """A finished stage with one output."""
    folder = stage.path(store.root)
    folder.mkdir(parents=True)
    (folder / "output").write_bytes(content)
    outputs = {"output": Output(sha256=digest_file(folder / "output"), bytes=len(content))}
    cost = {"flops_per_second": 1e9, "tokens_per_second": 10.0}
    metrics = {"rows": 24, "longest_bytes": 20, "mean_bytes": 10.0} if stage.kind == "data" else {}
    record = Record(
        key=stage.key, kind=stage.kind, status="ok", config=dict(stage.config), outputs=outputs,
        metrics=metrics, cost=cost,
    )  # fmt: skip
    write_record(folder, record)
    return folder


def test_output_of_the_same_size_and_other_bytes_is_not_taken_for_the_stages_own(
    tmp_path: Path,
) -> None:
    stage = Stage("train", {"a": 1})
    folder = finished(Store(tmp_path), stage)
    assert Store(tmp_path).done(stage, outputs=True) is not None
    (folder / "output").write_bytes(b"oUt")
    assert Store(tmp_path).done(stage, outputs=False) is None
    (folder / "output").write_bytes(b"out")
    assert Store(tmp_path).done(stage, outputs=True) is not None


@pytest.mark.parametrize("change", ["removed", "longer", "folder"])
def test_output_that_is_gone_or_of_another_size_counts_as_undone(
    tmp_path: Path, change: str
) -> None:
    stage = Stage("train", {"a": 1})
    output = finished(Store(tmp_path), stage) / "output"
    output.unlink()
    if change == "longer":
        output.write_bytes(b"out and more")
    elif change == "folder":
        output.mkdir()
    assert Store(tmp_path).done(stage, outputs=False) is None


query = Store.query


def test_planning_reads_the_stores_records_once_not_for_every_variant(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = [round(0.001 + i / 1e4, 6) for i in range(20)]
    workspace.tree["matrix"]["sft.learning_rate"] = rates
    workspace.tree["baseline"] = f"full-sft-learning_rate={rates[0]:g}"
    loaded = load_suite(str(workspace.write()), ())
    store = Store(workspace.store)
    empty = [stage.key for stage in plan(loaded, store).stages()]
    for stage in plan(loaded, store).stages():
        if stage.kind in ("data", "train", "generate", "score"):
            finished(store, stage)
    read: Counter[Path] = Counter()

    def counted(folder: Path) -> Record | None:
        read[folder] += 1
        return stages.read_record(folder)

    monkeypatch.setattr(stores, "read_record", counted)
    planned = plan(loaded, Store(workspace.store))
    assert [stage.key for stage in planned.stages()] == empty
    assert len(read) > 40
    assert max(read.values()) <= 2  # what a plan rests on, rows among it, beside the costs of all
    asked = []
    monkeypatch.setattr(
        Store, "query", lambda self, *a, **k: asked.append(k) or query(self, *a, **k)
    )
    workspace.tree["matrix"]["sft.learning_rate"] = [rate * 3 for rate in rates]
    workspace.tree["baseline"] = f"full-sft-learning_rate={3 * rates[0]:g}"
    other = plan(load_suite(str(workspace.write()), ()), store)
    misses = Misses(store.query(status="ok"))
    told = [line for stage in other.stages() for line in misses.explain(stage)]
    assert len([line for line in told if line.startswith("objective.learning_rate: ")]) == 40
    assert len(asked) == 1
