"""Which figures tell what alignment cost, and of what each difference is."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.comparison.alignment import KINDS, taxes
from harness.comparison.scores import Keys, Scores
from harness.comparison.statistics import Sample
from harness.planning.planner import Scored, VariantPath
from tests.made_up import ROWS, path, record, records_of, stage, variant

IDS = tuple(f"row-{i}" for i in range(40))
GROUPS = tuple("even" if i % 2 else "odd" for i in range(40))
COLUMN = {"reward": "reward", "win_rate": "preference", "kl": "from_start", "kl_base": "from_base",
          "forgetting": "language", "rougeL": "answers", "bleu": "answers",
          "distinct": "diversity", "other": ""}  # fmt: skip
TEXTS = stage("data")


def figures(value: float, seed: int, up: bool = True) -> Scores:
    values = value + np.random.default_rng(seed).normal(0, 0.05, len(IDS))
    return Scores(Keys(IDS, IDS, GROUPS), Sample("mean", {"value": values}), up, "", "v", "rows")


def scored(metric: str, evaluation: str) -> Scored:
    rows = TEXTS if metric == "forgetting" else ROWS
    made = stage("score", {"data": rows})
    return Scored(made, metric, evaluation, None, COLUMN[metric])


def aligned(on: str | None = "asked") -> tuple[VariantPath, dict[str, Any]]:
    """A variant that was aligned on some rows and scored on `asked` and `tasks`."""
    names = [(metric, entry) for entry in ("asked", "tasks") for metric in COLUMN]
    own = tuple(scored(*name) for name in names)
    start = path("sft", scores=tuple(scored(*name) for name in names if name[0] != "win_rate"))
    recipe: Any = SimpleNamespace(entry=on or "tasks")
    made = path("dpo", scores=own, start=start, variant=variant("dpo", recipe=recipe))
    records = records_of(made, start, score={"metrics": {}})
    for one in (*made.scores, *start.scores):
        records[one.stage.key] = record(one.stage, metrics={"metrics": {one.scorer: {}}})
    records[TEXTS.key] = record(TEXTS, metrics={"layout": "text"})
    records[ROWS.key] = record(ROWS, metrics={"layout": "messages"})
    return made, records


def read(of: VariantPath) -> dict[tuple[str, str], Scores]:
    """The start has 0 everywhere, the aligned variant 1."""
    value = 0.0 if of.variant.group == "sft" else 1.0
    up = {"kl": False, "kl_base": False, "forgetting": False}
    return {
        (s.scorer, s.evaluation): figures(value, i, up.get(s.scorer, True))
        for i, s in enumerate(of.scores)
    }


def told(own: VariantPath, records: Any, read: Any = read, **changes: Any) -> Any:
    result = SimpleNamespace(**{"group": "dpo", "has_result": True, "reasons": (), **changes})
    return taxes({"dpo": [own]}, [result], records, read)  # type: ignore[list-item]


def test_kinds_stand_in_the_tables_order_each_on_its_rows() -> None:
    (found,) = told(*aligned())
    assert (found.group, found.start, found.reason) == ("dpo", "sft", "")
    names = [(m.kind, m.row.metric, m.row.evaluation) for m in found.measures if not m.row.slice]
    assert names == [
        ("reward", "reward", "asked"), ("preference", "win_rate", "asked"),
        ("from_start", "kl", "asked"), ("from_start", "kl", "tasks"),
        ("from_base", "kl_base", "asked"), ("from_base", "kl_base", "tasks"),
        ("language", "forgetting", "asked"), ("language", "forgetting", "tasks"),
        ("answers", "rougeL", "tasks"), ("diversity", "distinct", "asked"),
    ]  # fmt: skip
    assert list(dict.fromkeys(m.kind for m in found.measures)) == list(KINDS)
    parts = [(m.kind, m.row.slice) for m in found.measures if m.row.slice]
    assert parts == [("answers", "even"), ("answers", "odd")]


def test_differences_are_from_the_start_and_of_preferences_from_one_half() -> None:
    (found,) = told(*aligned())
    rows = {m.kind: m.row for m in reversed(found.measures) if not m.row.slice}
    for kind, verdict in (("reward", "better"), ("from_base", "worse"), ("language", "worse"),
                          ("answers", "better"), ("diversity", "better")):  # fmt: skip
        assert rows[kind].difference is not None
        assert rows[kind].difference.value == pytest.approx(1, abs=0.05)
        assert rows[kind].verdict == verdict
    won = rows["preference"]
    assert won.difference is not None
    assert won.difference.value == pytest.approx(won.estimate.value - 0.5)
    far = rows["from_start"]
    assert (far.difference, far.p, far.detectable, far.verdict, far.note) == (
        None, None, None, "", "",
    )  # fmt: skip


def test_all_taxes_are_one_family_of_tests() -> None:
    one, records = aligned()
    (found,) = told(one, records)
    tests = [m.row for m in found.measures if m.row.p is not None and not m.row.slice]
    largest = max(tests, key=lambda row: row.p or 0)
    assert largest.p_holm == pytest.approx(largest.p)
    least = min(tests, key=lambda row: row.p or 0)
    assert least.p_holm == pytest.approx(len(tests) * (least.p or 0))


def test_what_the_start_lacks_is_said() -> None:
    one, records = aligned()
    missing = ("reward", "asked")

    def without(of: VariantPath) -> Any:
        found = read(of)
        return {c: s for c, s in found.items() if of.variant.group != "sft" or c != missing}

    (found,) = told(one, records, without)
    (row,) = [m.row for m in found.measures if m.kind == "reward"]
    assert (row.difference, row.note) == (None, "its start has no result here")


def test_what_cannot_be_compared_with_the_start_says_why() -> None:
    one, records = aligned()

    def otherwise(of: VariantPath) -> Any:
        version = "w" if of.variant.group == "sft" else "v"
        return {column: replace(own, version=version) for column, own in read(of).items()}

    (found,) = told(one, records, otherwise)
    notes = {m.row.note for m in found.measures if m.kind == "reward"}
    assert notes == {"not the same scorer, or its version"}


def test_failed_variant_says_why_and_one_without_a_start_is_none() -> None:
    one, records = aligned()
    (found,) = told(one, records, has_result=False, reasons=("a", "b"))
    assert (found.measures, found.reason) == ((), "a; b")
    assert told(replace(one, start=None), records) == []


def test_language_is_told_of_texts_alone() -> None:
    one, records = aligned()
    records[TEXTS.key] = record(TEXTS, metrics={"layout": "messages"})
    (found,) = told(one, records)
    assert "language" not in {m.kind for m in found.measures}


def test_without_rows_of_its_own_all_evaluations_are_told() -> None:
    (found,) = told(*aligned(on=None))  # it was aligned on `tasks`, the rows of its variant
    where = {(m.kind, m.row.evaluation) for m in found.measures}
    assert {("reward", "tasks"), ("answers", "asked"), ("diversity", "tasks")} <= where
    assert not {("reward", "asked"), ("answers", "tasks"), ("diversity", "asked")} & where
    (found,) = told(*aligned(on="elsewhere"))
    where = {(m.kind, m.row.evaluation) for m in found.measures}
    assert {("reward", "tasks"), ("reward", "asked"), ("answers", "tasks")} <= where


@pytest.mark.parametrize(
    ("metrics", "main"),
    [(("bleu", "rougeL"), "rougeL"), (("kl", "bleu"), "bleu"), (("kl", "kl_base"), "kl")],
)
def test_main_metric_is_the_known_one_else_one_of_which_more_is_better(
    metrics: tuple[str, ...], main: str
) -> None:
    one, records = aligned()
    kept = tuple(
        Scored(s.stage, s.scorer, s.evaluation, None, "answers")
        for s in one.scores if s.scorer in metrics
    )  # fmt: skip
    kept = tuple(sorted(kept, key=lambda s: metrics.index(s.scorer)))
    (found,) = told(replace(one, scores=kept), records)
    assert {m.row.metric for m in found.measures} == {main}
