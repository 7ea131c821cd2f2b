"""The order in which stages start."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.labellers.endpoint import Endpoint
from harness.scheduling.order import longest_path_first
from harness.stages._cost import Rates
from harness.stages.base import Known
from harness.stages.check import Check
from harness.store.stage import Record, Stage, write_record
from harness.store.store import Store


def stage(name: str, seconds: float | None, *inputs: Stage, kind: str = "train") -> Stage:
    return Stage(
        kind=kind,
        label=name,
        config={"name": name},
        inputs={s.label: s for s in inputs},
        predicted={} if seconds is None else {"seconds": seconds},
    )


def labels(stages: list[Stage]) -> list[str]:
    return [s.label for s in stages]


def test_the_longest_path_goes_first_with_all_that_hangs_on_it() -> None:
    data = stage("data", None, kind="data")
    short = stage("short", 5.0, data)
    long = stage("long", 90.0, data)
    scores = [stage(f"{s.label}-score", None, s, kind="score") for s in (short, long)]
    ordered = labels(longest_path_first([data, short, scores[0], long, scores[1]]))
    assert ordered == ["data", "long", "long-score", "short", "short-score"]


def test_a_chain_of_short_stages_outranks_a_longer_one_alone() -> None:
    first = stage("sft", 30.0)
    second = stage("dpo", 30.0, first)
    alone = stage("alone", 50.0)
    assert labels(longest_path_first([alone, first, second])) == ["sft", "dpo", "alone"]


def test_training_that_cannot_be_told_counts_as_the_longest() -> None:
    known, unknown = stage("sft", 40.0), stage("ppo", None)
    base = stage("zero-shot", 10.0, kind="generate")
    assert labels(longest_path_first([base, known, unknown])) == ["sft", "ppo", "zero-shot"]


def test_labels_that_an_endpoint_gives_are_expected_to_take_their_calls_time(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    endpoint = Endpoint(base_url="http://localhost/v1", model="m", concurrency=7)
    check = Check(device="cpu", labeller=endpoint, check=80, tie=0.0, seen=False)
    rows = {"rows": 100, "mean_bytes": 50.0}
    expected = check.expected(Known(Rates(store, "cpu"), rows=rows), {})
    assert expected == {"calls": 160.0}  # unknown until measured
    asked = Stage("label", {"by": "endpoint"})
    cost = {"calls": 50, "phases": {"label": 5.0}}
    asked.path(store.root).mkdir(parents=True)
    made = Record(key=asked.key, kind="label", status="ok", config={}, cost=cost)
    write_record(asked.path(store.root), made)
    known = check.expected(Known(Rates(store, "cpu"), rows=rows), {})
    assert known["seconds"] == pytest.approx(16.0)  # ten a second, as this store measured
    assert endpoint.calls_at_once() == 7
    label = replace(stage("labels", None, kind="label"), predicted={"seconds": 240.0})
    train, other = stage("dpo", 10.0, label), stage("sft", 200.0)
    assert labels(longest_path_first([other, label, train])) == ["labels", "dpo", "sft"]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9), st.data())
def test_order_is_that_of_all_paths_written_out(seconds: list[float], data: st.DataObject) -> None:
    made: list[Stage] = []
    for index, expected in enumerate(seconds):
        pool = st.lists(st.sampled_from(made), unique_by=id, max_size=2) if made else st.just([])
        made.append(stage(str(index), expected, *data.draw(pool)))
    paths = [[s] for s in made]
    for path in paths:  # grows as it is read
        paths += [[*path, s] for s in made if path[-1] in s.inputs.values()]
    through = {
        s.label: max(sum(x.predicted["seconds"] for x in path) for path in paths if s in path)
        for s in made
    }
    found = [through[label] for label in labels(longest_path_first(made))]
    assert len(found) == len(made)
    assert all(a >= b - 1e-6 for a, b in itertools.pairwise(found))
