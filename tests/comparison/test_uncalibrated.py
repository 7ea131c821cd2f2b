"""A judge whose error is not known calls no winner, and its figures say so wherever they stand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.comparison.best import headline
from harness.comparison.judges import Trust
from harness.comparison.result import Comparison, Estimate, PoweredRate, Row
from harness.comparison.rows import rows_of
from harness.comparison.scores import Keys, Scores
from harness.comparison.statistics import Sample
from harness.comparison.verdicts import adjusted
from harness.report.answer import answer
from harness.report.formats.markdown import report
from tests.comparisons import comparison, row, variant

KNOWN = "agrees with people on 90% (80% to 95%) of 100"


def judged(credentials: str = "", **changes: bool) -> list[Row]:
    rows = [
        row("base", "judge_win_rate", 0.1, verdict="baseline"),
        row("lora", "judge_win_rate", 0.7),
        row("full", "judge_win_rate", 0.6),
    ]
    known = {"trusted": bool(credentials), **changes}
    return adjusted([replace(each, judged=True, credentials=credentials, **known) for each in rows])


def reported(rows: list[Row]) -> Comparison:
    groups = dict.fromkeys(each.group for each in rows)
    variants = [variant(name, None if name == "base" else 3.0) for name in groups]
    return replace(
        comparison(), baseline="base", rows=tuple(rows), variants=tuple(variants), taxes=(),
        examples=(),
    )  # fmt: skip


def test_a_difference_that_only_an_uncalibrated_judge_sees_is_no_verdict() -> None:
    assert [each.verdict for each in judged()] == ["baseline", "uncalibrated", "uncalibrated"]
    assert [each.verdict for each in judged(KNOWN)] == ["baseline", "better", "better"]
    assert not any(each.set_apart or each.fell for each in judged())


def test_a_judge_that_is_not_shown_to_beat_chance_calls_no_winner() -> None:
    rows = judged("not better than chance: kappa 0.02 on 40 labels", trusted=False)
    assert [each.verdict for each in rows] == ["baseline", "not trusted", "not trusted"]
    told = answer(reported(rows))
    assert told.startswith(
        "No winner is called: the answers were only judged, and the judge is not"
    )
    assert "judge_win_rate (not better than chance: kappa 0.02 on 40 labels)" in told
    text = report(reported(rows))
    assert "not trusted" in text
    assert "uncalibrated" not in text


def test_its_figures_make_no_other_verdict_harder_to_reach() -> None:
    known = [row(f"v{i}", "chrf", 0.2, p=0.03 / 2) for i in range(2)]
    some = [replace(each, judged=True) for each in known * 4]
    assert [each.p_holm for each in adjusted([*known, *some])[:2]] == [0.03, 0.03]
    assert {each.verdict for each in adjusted([*known, *some])[:2]} == {"better"}


def test_the_answer_calls_no_winner_on_it() -> None:
    told = answer(reported(judged()))
    assert told.startswith("No winner is called: the answers were only judged")
    assert "lora has the highest judge_win_rate (uncalibrated): 0.700" in told
    assert "does best" not in told
    known = answer(reported(judged(KNOWN)))
    assert known.startswith(f"lora does best on judge_win_rate ({KNOWN}) (higher is better)")


def test_the_answer_is_about_another_metric_where_there_is_one() -> None:
    rows = [*judged(), row("base", "chrf", 0.1, verdict="baseline"), row("lora", "chrf", 0.4)]
    assert headline(rows) == ("chrf", "tasks")
    assert headline([*judged(KNOWN), *rows[3:]]) == ("judge_win_rate", "tasks")
    assert answer(reported(rows)).startswith("lora does best on chrf")


@pytest.mark.parametrize(("credentials", "said"), [("", True), (KNOWN, False)])
def test_the_tables_say_so_beside_the_numbers(credentials: str, said: bool) -> None:
    text = report(reported(judged(credentials)))
    assert ("uncalibrated" in text) is said


def test_the_judges_error_is_told_of_all_examples_and_not_of_a_slice() -> None:
    names = tuple(map(str, range(20)))
    keys = Keys(names, names, ("short", "long") * 10)
    estimate = Estimate(0.65, 0.55, 0.85)
    rate = PoweredRate("a", "b", "tasks", 10, 20, 0.9, estimate, estimate, 0.3)
    won = Scores(
        keys, Sample("mean", {"value": np.arange(20.0) % 3 > 0}), True, "", "v1", "rows",
        judged=True, trust=Trust("kappa 0.6", True, rate),
    )  # fmt: skip
    rows = rows_of({"a": {0: {("judge_win_rate", "tasks"): won}}}, "a")
    assert [each.slice for each in rows] == ["", "long", "short"]
    assert ["the judge's error" in each.note for each in rows] == [True, False, False]
