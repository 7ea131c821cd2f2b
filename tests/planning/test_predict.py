"""Expected times are those of this store's own stages, or said to be unknown."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import pytest

from harness.commands.plan import describe_plan
from harness.objectives.sft import Sft
from harness.scheduling.progress import ConsoleReporter
from harness.stages._cost import Rates
from harness.stages._training_rows import sequences
from harness.store.stage import Record, Stage, write_record
from harness.store.store import Store
from tests.conftest import Workspace


def ran(store: Store, kind: str, device: str, **cost: Any) -> None:
    stage = Stage(kind, {"device": device, **cost})
    stage.path(store.root).mkdir(parents=True)
    config = {"device": device}
    made = Record(key=stage.key, kind=kind, status="ok", config=config, cost=cost)
    write_record(stage.path(store.root), made)


def test_rates_are_of_the_same_device_and_of_models_of_about_the_same_size(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert Rates(store, "cuda").flops("train", 1000) is None
    ran(store, "train", "cpu", flops_per_second=1e9, parameters=1000)
    assert Rates(store, "cuda").flops("train", 1000) is None
    ran(store, "train", "cuda", flops_per_second=1e12, parameters=1000)
    ran(store, "train", "cuda", flops_per_second=1e14, parameters=1_000_000)
    cuda, cpu = Rates(store, "cuda"), Rates(store, "cpu")
    assert (cuda.flops("train", 1500), cpu.flops("train", 1500)) == (1e12, 1e9)
    assert (cuda.flops("train", 2_000_000), cpu.flops("train", 2_000_000)) == (1e14, None)
    assert cuda.flops("reference", 1000) is None


def test_a_model_twice_as_large_is_expected_to_write_half_as_fast(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ran(store, "generate", "cpu", tokens_per_second=100.0, parameters=1000)
    assert Rates(store, "cpu").tokens("generate", 2000) == pytest.approx(50.0)
    assert Rates(store, "cpu").tokens("generate", 10_000) is None


def test_a_whole_stage_is_expected_to_take_what_its_like_took_beside_their_work(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    assert Rates(store, "cpu").beside("train", 1000) == {}
    for seconds in (9.0, 11.0, 30.0):
        ran(store, "train", "cpu", seconds=seconds, phases={"train": 5.0}, parameters=1000)
    assert Rates(store, "cpu").beside("train", 1200) == {"beside": 6.0}
    stage = Stage("train", {}, predicted={"seconds": 2.0, "beside": 6.0})
    assert stage.expected_seconds == 8.0
    assert Stage("train", {}, predicted={"beside": 6.0}).expected_seconds is None


def test_a_plan_says_unknown_until_it_is_measured_and_tells_tokens_by_the_measured_rows(
    workspace: Workspace,
) -> None:
    (objective,) = workspace.tree["matrix"]["objective"]
    objective["sft"]["train_sampling_strategy"] = "group_by_length"  # the longest rows come first
    workspace.write(scorers=["exact_match"], evaluate=["letters"])
    first = describe_plan(workspace.open(), why=False)
    assert "the time of 5 of them is unknown until measured" in first
    assert " s expected" not in first
    lines = [line for line in first.splitlines() if line.startswith("to run")]
    assert {"unknown" in line for line in lines if " train " in line} == {True}
    for record in workspace.run().records.values():
        if record.kind == "train":
            expected = record.cost["predicted"]
            assert expected["tokens"] == record.cost["tokens"]
            assert expected["state_bytes"] == pytest.approx(record.cost["state_bytes"], rel=0.1)
    changed = workspace.open('overrides=[{"match": {}, "set": {"sft.learning_rate": 0.02}}]')
    again = describe_plan(changed, why=False)
    assert "unknown until measured" not in again
    assert " s expected" in again
    for stage in changed.plan.stages():
        if stage.kind in ("train", "generate"):
            assert 0 < stage.predicted["seconds"] < stage.expected_seconds
    assert "what it keeps of the rows is not in it yet" in first
    assert "what it keeps of the rows is not in it yet" not in again


@pytest.mark.parametrize(
    ("options", "count", "tokens", "longest"),
    [
        ({}, 3, 12, 6),  # 9 is over max_length
        ({"overlong": "truncate"}, 4, 20, 8),
        ({"packing": True}, 2, 12, 8),
    ],
)
def test_sequences_of_a_training_are_what_the_objective_makes_of_its_rows(
    options: dict[str, Any], count: int, tokens: float, longest: float
) -> None:
    objective = Sft(max_length=8, per_device_train_batch_size=2, **options)
    read = sequences(objective, {"rows": 4}, [2, 4, 6, 9], room=1024)
    assert (read.count, read.tokens, read.longest) == (count, tokens, longest)


def test_the_longest_of_rows_that_are_drawn_is_told_by_its_mean() -> None:
    objective, lengths = Sft(per_device_train_batch_size=2, max_length=99), [1, 2, 3, 5, 8]
    drawn = [max(pair) for pair in itertools.combinations(lengths, 2)]
    told = sequences(objective, {}, lengths, None).first
    assert told == pytest.approx(sum(drawn) / len(drawn))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_time_left_is_told_by_what_the_run_measured_and_not_before() -> None:
    stream = Terminal()
    stages = [Stage("train", {"n": n}, label=str(n)) for n in range(3)]
    reporter = ConsoleReporter(stream, clock=lambda: 0.0)
    reporter.begin(stages, cached=0)
    reporter.started(stages[0])
    assert "whole run: time not known yet" in stream.getvalue()
    cost = {"seconds": 30.0}
    metrics = {"first_loss": 2.0, "final_loss": 1.0}
    record = Record(key=stages[0].key, kind="train", status="ok", config={}, cost=cost,
                    metrics=metrics)  # fmt: skip
    reporter.finished(stages[0], record)
    reporter.started(stages[1])
    assert stream.getvalue().endswith("(whole run: about 60 s left)")
