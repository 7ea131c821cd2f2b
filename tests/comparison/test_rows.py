"""Which rows a comparison has, what each is compared with, and what limits it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.comparison.judges import Trust
from harness.comparison.result import ALL, Row
from harness.comparison.rows import against_constant, rows_of, why_incomparable
from harness.comparison.scores import Keys, Scores
from harness.comparison.statistics import Sample

COUNT = 24
NAMES = tuple(map(str, range(COUNT)))
ONE = ("f1", "tasks")


def scores(seed: int = 0, groups: str = "", **changes: object) -> Scores:
    """Graded answers; `groups` are the families of the examples, in turn."""
    values = np.random.default_rng(seed).uniform(size=COUNT)
    families = tuple((groups or " ")[i % max(len(groups), 1)].strip() for i in range(COUNT))
    made = Scores(Keys(NAMES, NAMES, families), Sample("mean", {"value": values}), True, "", "v1")
    return replace(made, **changes)


def runs(*seeds: int, **changes: object) -> dict[int, dict[tuple[str, str], Scores]]:
    return {seed: {ONE: scores(seed, **changes)} for seed in seeds}


def rows(scored: dict[str, object], **baselines: str) -> dict[tuple[str, str], Row]:
    """(Variant, slice) -> its row; `base` is the baseline."""
    made = rows_of(scored, "base", baselines)
    found = {(row.group, row.slice): row for row in made}
    assert len(found) == len(made), "no row occurs twice"
    return found


@pytest.mark.parametrize(
    ("groups", "slices"),
    [("", [ALL]), ("x", [ALL]), ("yx", [ALL, "x", "y"]), ("x ", [ALL]), ("y x", [ALL, "x", "y"])],
)
def test_there_are_slices_where_there_are_several_named_families(
    groups: str, slices: list[str]
) -> None:
    made = rows({"base": runs(0, groups=groups)})
    assert [part for _, part in made] == slices
    for part in slices[1:]:
        assert made["base", part].n == sum(NAMES[i] != "" for i in range(COUNT)) // len(groups)


def test_a_slice_has_rows_of_those_whose_metric_counts_an_example_of_it() -> None:
    """A class that no example of the slice belongs to has no value there, but one over all."""
    x_or_y = np.arange(COUNT) % 2
    columns = {"hits": np.ones(COUNT), "of": 1.0 - x_or_y}
    half = scores(0, "xy", sample=Sample("share", columns))
    made = rows({"base": runs(0, groups="xy"), "half": {0: {ONE: half}}})
    assert [part for name, part in made if name == "half"] == [ALL, "x"]
    assert [part for name, part in made if name == "base"] == [ALL, "x", "y"]


def test_each_variant_is_compared_with_its_own_baseline_or_with_the_suites() -> None:
    made = rows({"base": runs(0), "one": runs(1), "two": runs(2)}, two="one")
    values = {name: scores(seed).sample.point() for seed, name in enumerate(("base", "one", "two"))}
    assert made["base", ALL].difference is None
    assert made["base", ALL].verdict == "baseline"
    assert made["one", ALL].difference.value == pytest.approx(values["one"] - values["base"])
    assert made["two", ALL].difference.value == pytest.approx(values["two"] - values["one"])


def test_seeds_without_a_result_are_counted_and_a_lost_baseline_is_told() -> None:
    lost = {**runs(0, 1), 2: {}, 3: {("other", "tasks"): scores(3)}}
    made = rows_of({"base": runs(5), "own": lost}, "base")
    own = next(row for row in made if (row.group, row.metric) == ("own", "f1"))
    assert "2 of 4 seeds have no result here" in own.note
    assert (own.seeds, own.level) == (2, "method")
    assert [seed for seed, _ in own.by_seed] == [0, 1]
    (alone,) = (row for row in made if row.metric == "other")
    assert (alone.verdict, alone.note) == ("incomparable", "the baseline has no result here")
    (base,) = (row for row in made if row.group == "base")
    assert (base.seeds, base.level, base.note) == (1, "checkpoint", "")


ONE_OF = "one checkpoint against the baseline's {} seeds: another seed of it may differ"
BASE_ONE = "the baseline is one checkpoint: how its seeds would differ is unknown"


@pytest.mark.parametrize(
    ("ours", "theirs", "notes"),
    [
        ((0,), (9,), []), ((0,), (8, 9), ["only 2 seeds", ONE_OF.format(2)]),
        ((0,), (7, 8, 9), [ONE_OF.format(3)]), ((0, 1, 2), (9,), [BASE_ONE]),
        ((0, 1), (9,), ["only 2 seeds", BASE_ONE]), ((0, 1), (7, 8, 9), ["only 2 seeds"]),
        ((0, 1, 2), (7, 8), ["only 2 seeds"]), ((0, 1, 2), (7, 8, 9), []),
        ((0, 1), (0, 1), ["only 2 seeds"]),
        ((2, 0, 1), (0, 1, 2, 3),
         ["against the baseline's seeds 0 and 1 and 2 alone, which this one has too"]),
        ((0, 1, 2), (0, 1, 2), []),
    ],
)  # fmt: skip
def test_a_row_says_what_its_seeds_keep_it_from_showing(
    ours: tuple[int, ...], theirs: tuple[int, ...], notes: list[str]
) -> None:
    def noted(trained: bool = True) -> str:
        own = {seed: {ONE: scores(50 + seed, trained=trained or len(ours) > 1)} for seed in ours}
        base = runs(*theirs, trained=trained or len(theirs) > 1)
        return rows({"base": base, "own": own})["own", ALL].note

    assert noted() == "; ".join(notes)
    assert "one checkpoint" not in noted(trained=False), "a model without seeds is no lucky one"


def test_a_row_carries_what_its_scores_say_of_themselves() -> None:
    own = scores(1, unit="bits", higher_is_better=False, forgetting=True, chance=0.25, judged=True,
                 trust=Trust("kappa 0.6", True))  # fmt: skip
    made = rows({"base": {0: {ONE: own}}})["base", ALL]
    assert (made.metric, made.evaluation, made.unit) == ("f1", "tasks", "bits")
    assert (made.higher_is_better, made.forgetting, made.chance) == (False, True, 0.25)
    assert (made.judged, made.trusted, made.credentials) == (True, True, "kappa 0.6")
    assert (made.n, made.clusters) == (COUNT, COUNT)
    assert made.by_seed == ((0, own.sample.point()),)
    plain = rows({"base": runs(0)})["base", ALL]
    assert (plain.judged, plain.trusted, plain.credentials) == (False, False, "")
    doubted = rows({"base": {0: {ONE: replace(own, trust=Trust("kappa 0"))}}})["base", ALL]
    assert (doubted.judged, doubted.trusted) == (True, False)


def test_a_row_against_a_number_has_the_difference_from_it_over_all_examples() -> None:
    made = against_constant("a", ONE, {seed: scores(seed, "xy") for seed in (0, 1)}, 0.25)
    mean = np.mean([scores(seed).sample.point() for seed in (0, 1)])
    assert (made.group, made.slice, made.seeds) == ("a", ALL, 2)
    assert made.difference.value == pytest.approx(mean - 0.25)
    assert made.estimate.value == pytest.approx(mean)


def test_every_example_alike_has_no_interval_and_says_why() -> None:
    half = scores(0, sample=Sample("mean", {"value": np.full(COUNT, 0.5)}))
    made = rows({"base": {0: {ONE: half}}})["base", ALL]
    assert (made.estimate.low, made.note) == (None, "no interval: every example is alike")


def test_templates_differ_only_for_one_model_and_lists_of_names_may_be_told_twice() -> None:
    own = scores(0, model="m", template="t")
    assert why_incomparable(own, replace(own, template="u")) == "not the same chat template"
    assert why_incomparable(own, replace(own, template="u", model="n")) == ""
    again = replace(own, keys=Keys(tuple(NAMES), tuple(NAMES), own.keys.groups))
    assert why_incomparable(own, again) == ""
    tokens = np.arange(1.0, COUNT + 1)
    counted = replace(own, sample=Sample("perplexity", {"nll": tokens, "tokens": tokens}))
    assert why_incomparable(own, counted) == why_incomparable(counted, own) == ""
    assert why_incomparable(counted, replace(counted)) == ""
