"""What is called cheaper costs less beyond the noise, under the same conditions."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from harness.comparison import Comparison, VariantResult
from harness.comparison.costs import conditions
from harness.comparison.provenance import _machines, _timings
from harness.comparison.result import Conditions, Estimate
from harness.core.measure import Ledger, machine
from harness.report import answer, cheaper, terminal_table
from harness.report.formats import markdown
from harness.report.measures import payload
from harness.report.tables.sheets import results
from harness.store.stage import Record
from tests.comparisons import comparison, row, variant

ONE = Conditions("a processor", 1)
TWO = Conditions("a processor", 2)
BUSY = Conditions("a processor", 2, busy=True)


def trained(name: str, seconds: float, around: float = 0.1, **changes: Any) -> VariantResult:
    """A variant whose runs took so long, give or take a share of it."""
    cost = {"trainable_parameters": 1000.0, "state_bytes": 2.0**20, "tokens": 5000.0,
            "tokens_per_second": 900.0 + len(name),
            "train_seconds": seconds, **changes.pop("cost", {})}  # fmt: skip
    spread = {"train_seconds": (seconds * (1 - around), seconds * (1 + around))}
    made = {"timed": (TWO,), "spread": spread, **changes}
    return replace(variant(name, seconds), cost=cost, **made)


def told(*variants: VariantResult, verdict: str = "better", value: float = 0.4) -> Comparison:
    """Variants that are alike in quality, the first the best."""
    rows = [row("zero-shot", "rougeL", 0.1, verdict="baseline")]
    rows += [
        row(v.group, "rougeL", value - 0.001 * i, verdict=verdict) for i, v in enumerate(variants)
    ]
    return comparison(rows=tuple(rows), variants=(variant("zero-shot"), *variants))


@pytest.mark.parametrize(
    ("one", "other", "way"),
    [
        (trained("a", 10), trained("b", 40), -1),
        (trained("a", 40), trained("b", 10), 1),
        (trained("a", 10), trained("b", 12), 0),
        (trained("a", 10, 0.9), trained("b", 40, 0.9), 0),
        (trained("a", 10, timed=(ONE,)), trained("b", 40), 0),
        (trained("a", 10, timed=(BUSY,)), trained("b", 40, timed=(BUSY,)), 0),
        (trained("a", 10, timed=(ONE, TWO)), trained("b", 40, timed=(ONE, TWO)), 0),
        (trained("a", 10, 0, seeds=(0,)), trained("b", 15, 0, seeds=(0,)), 0),
        (trained("a", 10, 0, seeds=(0,)), trained("b", 25, 0, seeds=(0,)), -1),
        (trained("a", 10, 0), trained("b", 12, 0), 0),
        (trained("a", 10, 0), trained("b", 13, 0), -1),
    ],
    ids=[
        "less",
        "more",
        "close",
        "ranges meet",
        "threads",
        "busy",
        "mixed",
        "lone",
        "lone, far",
        "within a quarter",
        "beyond a quarter",
    ],
)
def test_time_is_compared_beyond_its_noise_and_under_equal_conditions(
    one: VariantResult, other: VariantResult, way: int
) -> None:
    assert cheaper.compare_costs(one, other)["train_seconds"] == way
    assert cheaper.compare_costs(other, one)["train_seconds"] == -way


@pytest.mark.parametrize(("amount", "way"), [(1015.0, 0), (1025.0, -1), (985.0, 0), (975.0, 1)])
def test_counts_that_differ_by_less_than_a_fiftieth_are_as_good_as_equal(
    amount: float, way: int
) -> None:
    other = trained("b", 10, cost={"trainable_parameters": amount})
    assert cheaper.compare_costs(trained("a", 10), other)["trainable_parameters"] == way


def test_sixth_of_the_parameters_is_cheaper_whatever_the_clock_says() -> None:
    """Two seeds of one cell that took 148 s and 15 s tell nothing of time."""
    full = trained("full", 80, 0.8, cost={"trainable_parameters": 922_752.0, "state_bytes": 9e7})
    lora = trained("lora", 100, 0.8, cost={"trainable_parameters": 156_160.0, "state_bytes": 7e7})
    said = answer(told(full, lora))
    assert "Not shown to be worse by its interval, and cheaper, is lora" in said
    assert "trainable parameters (156,160 against 922,752)" in said
    assert "no difference beyond its noise is shown" in said
    assert "against full" not in said


def test_nothing_is_called_cheaper_where_nothing_is_shown_to_be() -> None:
    said = answer(told(trained("a", 10), trained("b", 11)))
    assert "Of those not shown to be worse by their interval, none is shown to cost less" in said
    assert "cheaper" not in said


def test_cheaper_in_one_respect_and_dearer_in_another_is_said_as_that() -> None:
    small = trained("small", 90, cost={"trainable_parameters": 10.0})
    said = answer(told(trained("big", 10), small))
    assert "at other costs, is small" in said
    assert "It takes less: trainable parameters (10 against 1,000)." in said
    assert "It takes more: training time (1 min 30 s against 10.0 s)." in said


def test_of_two_that_cost_less_the_one_that_costs_least_of_all_is_named() -> None:
    made = [
        trained(name, 10, cost={"trainable_parameters": amount})
        for name, amount in (("big", 900.0), ("middle", 90.0), ("small", 9.0))
    ]
    said = answer(told(*made))
    assert "cheaper, is small" in said
    assert "less too" not in said


@pytest.mark.parametrize(("others", "words"), [(1, "1 more costs"), (2, "2 more cost")])
def test_those_that_cost_less_in_other_ways_are_counted(others: int, words: str) -> None:
    """Each costs less than the best, and none less than another one."""
    made = [trained("big", 100, cost={"trainable_parameters": 900.0})] + [
        trained(f"small{i}", 60 / 2**i, cost={"trainable_parameters": 9.0 + 99 * i})
        for i in range(others + 1)
    ]
    assert f"{words} less too." in answer(told(*made))


def test_only_what_no_interval_reaches_does_best() -> None:
    far = told(trained("a", 10), trained("b", 10))
    rows = tuple(
        replace(r, estimate=replace(r.estimate, value=0.9, low=0.88, high=0.92))
        if r.group == "a" else r for r in far.rows
    )  # fmt: skip
    assert answer(replace(far, rows=rows)).startswith("a does best on")
    assert "No other interval reaches it. " in answer(replace(far, rows=rows))
    assert answer(far).startswith("a has the best estimate on")


def test_one_that_reaches_the_best_but_is_not_shown_better_is_not_as_good() -> None:
    """By the paired difference from the baseline, which tells more than two intervals."""
    good = told(trained("a", 40), trained("b", 10))
    rows = tuple(
        replace(r, verdict="no difference shown") if r.group == "b" else r for r in good.rows
    )
    said = answer(replace(good, rows=rows))
    assert said.startswith("a has the best estimate on")
    assert "No other whose interval reaches it is shown better than the baseline too" in said


def test_time_under_other_conditions_is_marked_everywhere() -> None:
    made = told(trained("a", 10), trained("b", 10), trained("c", 3, timed=(ONE,)))
    text = terminal_table(made)
    assert "3.00 s \u2020" in text
    assert "10.0 s \u2020" not in text
    assert cheaper.UNLIKE_NOTE.split(":")[0].lstrip("\u2020 ") in " ".join(text.split())
    sheet = results(made)
    cells = [cell.text for line in sheet.lines for cell in line.cells]
    assert "3.00 s \u2020" in cells
    assert cheaper.UNLIKE_NOTE in sheet.note
    assert "\u2020" in markdown.summary(made)
    time = next(m for m in payload(made)["measures"] if m["key"] == "train_seconds")
    assert time["values"] == [0.0, 10.0, 10.0, None]


def test_speed_under_other_conditions_is_marked_by_itself() -> None:
    made = told(*(trained(n, 10, answering=(c,)) for n, c in (("a", TWO), ("b", TWO), ("c", ONE))))
    cells = [[cell.text for cell in line.cells] for line in results(made).lines]
    rates = next(m for m in payload(made)["measures"] if m["key"] == "tokens_per_second")
    assert "10.0 s" in cells[3]
    assert rates["values"][3] is None
    assert [text.endswith(cheaper.UNLIKE) for text in cells[3]].count(True) == 1


def test_spread_of_a_cost_over_seeds_is_shown() -> None:
    made = told(trained("a", 10), trained("b", 40, 0))
    cells = {cell.text: cell.below for line in results(made).lines for cell in line.cells}
    assert cells["10.0 s"] == "9.00 s to 11.0 s"
    assert cells["40.0 s"] == ""


def record(**provenance: Any) -> Record:
    return Record(key="k", kind="train", label="l", status="ok", config={}, provenance=provenance)


def test_conditions_are_those_of_the_record() -> None:
    on_cpu = {"platform": "Linux x86_64", "threads": 2}
    assert conditions(record(**on_cpu)) == Conditions("Linux x86_64", 2)
    assert conditions(record(**on_cpu, processor="p", waited=0.3)) == Conditions("p", 2, True)
    assert conditions(record(**on_cpu, device_name="H100")) == Conditions("H100")
    assert str(Conditions("p", 1, True)) == "p, 1 thread, beside other work"


def test_every_machine_of_a_report_is_told() -> None:
    found = _machines([record(threads=1, cores=2), record(threads=2, cores=2), record(threads=2)])
    assert found == {"cores": "2", "threads": "2 (2 stages); 1 (1 stage)"}
    notes = list(_timings((trained("a", 1), trained("b", 1), trained("c", 1, timed=(ONE,)))))
    assert notes == [
        "Training times are compared only among variants trained alike: a, b on a processor,"
        " 2 threads; c on a processor, 1 thread."
    ]
    assert not list(_timings((trained("a", 1), trained("b", 1))))


def test_record_tells_the_processor_and_how_long_it_was_waited_for() -> None:
    ledger = Ledger()
    sum(i * i for i in range(300_000))
    waited = ledger.waited()
    assert waited is None or 0 <= waited < 1
    assert machine()["processor"]


def test_short_form_has_ten_columns_at_most_and_folds_what_is_long() -> None:
    names = [f"v{i}" for i in range(30)]
    rows = [row("zero-shot", "rougeL", 0.1, verdict="baseline")]
    rows += [row(name, f"metric-{m}", 0.3) for m in range(20) for name in names]
    rows += [row(name, "rougeL", 0.3) for name in names]
    many = comparison(
        rows=tuple(rows), variants=(variant("zero-shot"), *(variant(n, 1.0) for n in names))
    )
    text = markdown.summary(many)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.count(" | ") + 1 for line in lines} == {10}
    assert lines[0].startswith("| variant | verdict | rougeL")
    shown = text[: text.index("<details>")]
    assert sum(line.startswith("| v") for line in shown.splitlines()) <= 20
    assert all(f"| {name} |" in text for name in names)
    assert "17 more metrics stand in report.md." in text


def test_difference_that_the_adjustment_undid_is_starred_and_explained() -> None:
    rows = (
        row("zero-shot", "rougeL", 0.40, verdict="baseline"),
        row("full-sft", "rougeL", 0.5, verdict="no difference shown", p=0.01, p_holm=0.2),
        row("lora-sft", "rougeL", 0.4, verdict="no difference shown", p=0.4, p_holm=0.8),
    )
    text = terminal_table(comparison(rows=rows))
    assert text.count("no difference shown*") == 1
    assert "By itself the difference is clear of 0" in text
    assert "By itself" in markdown.summary(comparison(rows=rows))
    plain = terminal_table(comparison(rows=(rows[0], rows[2])))
    assert "By itself" not in plain


def test_one_measurement_of_one_model_is_told_as_that() -> None:
    rows = (
        row("zero-shot", "rougeL", 0.4, verdict="baseline"),
        row("full-sft", "rougeL", 0.4, verdict="same measurement", difference=None,
            note="same model, same rows"),
    )  # fmt: skip
    text = terminal_table(comparison(rows=rows))
    assert re.search("same model, same rows +same measurement", text)
    assert "no difference shown" not in text


def estimated(found: Comparison, **estimates: Estimate) -> Comparison:
    """The comparison with other figures of some variants."""
    rows = tuple(replace(r, estimate=estimates.get(r.group, r.estimate)) for r in found.rows)
    return replace(found, rows=rows)


def test_equal_figures_without_intervals_are_equally_good() -> None:
    """Where all is right there may be no interval: that is no proof of being the best."""
    found = told(trained("a", 10), trained("b", 10))
    said = answer(estimated(found, a=Estimate(1.0), b=Estimate(1.0)))
    assert said.startswith("a has the best estimate on")
    assert "Of those not shown to be worse by their estimate, none is shown to cost less" in said
    small = trained("b", 10, cost={"trainable_parameters": 10.0})
    said = answer(estimated(told(trained("a", 10), small), a=Estimate(1.0), b=Estimate(1.0)))
    assert "Not shown to be worse by its estimate, and cheaper, is b" in said


def test_without_intervals_it_is_not_known_who_is_as_good() -> None:
    found = told(trained("a", 10), trained("b", 10))
    said = answer(estimated(found, a=Estimate(1.0)))
    assert said.startswith("a has the best estimate on")
    assert "Who else is as good is not known, as intervals are missing" in said
    assert "No other interval" not in said


def test_with_several_models_the_answer_names_the_variants_own_baseline() -> None:
    found = told(trained("a", 10), trained("b", 10))
    rows = (*found.rows, row("zero-shot@b", "rougeL", 0.2, verdict="baseline"))
    several = replace(
        found, rows=rows, variants=(*found.variants, variant("zero-shot@b")),
        baseline="zero-shot of the same model",
        baselines={"zero-shot": "zero-shot", "a": "zero-shot", "zero-shot@b": "zero-shot@b",
                   "b": "zero-shot@b"},
    )  # fmt: skip
    assert "better than the baseline zero-shot by" in answer(several)
    best = answer(estimated(several, **{"zero-shot@b": Estimate(0.9, 0.88, 0.92)}))
    assert best.startswith("zero-shot@b does best on rougeL (higher is better): 0.900")
    assert "a baseline itself" in best
    assert "No variant beats" not in best


def test_figure_that_cannot_be_compared_is_not_called_the_best() -> None:
    found = told(trained("a", 10), trained("b", 10))
    rows = tuple(
        replace(r, verdict="incomparable", difference=None, note="not the same tokens")
        if r.group == "a" else r for r in found.rows
    )  # fmt: skip
    said = answer(estimated(replace(found, rows=rows), a=Estimate(0.9, 0.88, 0.92)))
    assert said.startswith("b does best on")
    assert "Not compared with the others: a (not the same tokens)." in said
    assert "and cheaper, is a" not in said
