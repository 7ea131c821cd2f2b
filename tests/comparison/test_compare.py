"""Intervals hold what they promise, verdicts agree with them, pairs are paired, seeds a level."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from harness.comparison.binomial import effective_rows, share
from harness.comparison.intervals import Inference, Runs, infer
from harness.comparison.share_contrasts import OneShare, PairedShares
from harness.comparison.statistics import Clusters, Sample
from harness.comparison.verdicts import holm


def mean_sample(values: np.ndarray) -> Sample:
    return Sample("mean", {"value": np.asarray(values, float)})


def alone(count: int) -> Clusters:
    return Clusters([str(i) for i in range(count)])


def runs(values: np.ndarray, clusters: Clusters | None = None) -> Runs:
    """Runs of a mean: values of shape (S, n)."""
    rows = np.atleast_2d(np.asarray(values, float))
    clusters = clusters or alone(rows.shape[1])
    moves = np.stack([mean_sample(row).moves(clusters) for row in rows])
    return Runs(rows.mean(axis=1), moves)


def test_interval_of_symmetric_examples_is_students() -> None:
    half = np.random.default_rng(1).normal(1, 1, 20)
    values = np.concatenate([0.3 + half, 0.3 - half])
    found = infer(runs(values), 40)
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_skewed_examples_move_the_end_that_they_hide() -> None:
    """Hall's transformation (1992, section 2), from its own formula."""
    values = np.random.default_rng(2).exponential(size=30)
    found = infer(runs(values), 30)
    error, skew = values.std(ddof=1) / math.sqrt(30), float(stats.skew(values))

    def hall(t: float) -> float:
        a = skew / math.sqrt(30)
        return t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6

    plain = stats.t.ppf(0.975, 29)
    assert found.low == pytest.approx(values.mean() - plain * error)
    assert found.high is not None
    assert found.high > values.mean() + plain * error
    assert hall((values.mean() - found.high) / error) == pytest.approx(-plain)


@pytest.mark.parametrize("shift", [0.6, 1.4])
def test_turned_examples_have_the_turned_interval_and_the_same_p(shift: float) -> None:
    """Of skewed examples too, whichever side of zero the skew lies on."""
    values = np.random.default_rng(2).exponential(size=30) - shift
    found, turned = infer(runs(values), 30), infer(runs(-values), 30)
    assert found.p == pytest.approx(turned.p, rel=1e-6)
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low))
    plain = stats.ttest_1samp(values, 0).pvalue
    assert bool(found.p > plain * 1.01) is (found.value < 0)  # the long tail is above


def test_an_interval_is_cut_to_what_can_be_unless_its_value_cannot() -> None:
    found = Inference(0.9, 0.7, 1.1, 0.01, 0.1)
    assert (found.within(-1, 1).low, found.within(-1, 1).high) == (0.7, 1)
    assert (found.within(0.8, 2).low, found.within(0.8, 2).high) == (0.8, 1.1)
    assert found.within(-0.5, 0.5) == found  # what it should lie in is not what it measures


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=12), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_interval_holds_zero_just_where_p_is_not_below_the_level(
    values: list[float], seeds: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    own = np.asarray(values) + rng.normal(0.4, 0.3, (seeds, 1)) + rng.normal(size=(seeds, 1)) * 0.1
    for base in (None, runs(rng.normal(size=(seeds, len(values))))):
        found = infer(runs(own), len(values), base)
        if found.low is not None:
            assert (found.p < 0.05) is not (found.low <= 0 <= found.high)
            assert found.low <= found.value <= found.high
        else:
            assert found.reason


@pytest.mark.parametrize("rows", [1, 5, 6, 20])
@pytest.mark.parametrize("alpha", [0.5, 0.05, 0.01, 0.0005, 1e-5])
def test_interval_of_paired_shares_holds_zero_just_where_exact_mcnemar_does(
    rows: int, alpha: float
) -> None:
    for up in range(rows + 1):
        for down in range(rows + 1 - up):
            shares = PairedShares(up, down, rows)
            low, high = shares.interval(alpha)
            oracle = stats.binomtest(up, up + down).pvalue if up + down else 1.0
            assert shares.p(0) == pytest.approx(oracle)
            assert (shares.p(0) < alpha) is not (low <= 0 <= high)
            assert -1 <= low <= shares.value + 1e-12
            assert shares.value <= high + 1e-12 <= 1 + 1e-9
            mirrored = PairedShares(down, up, rows).interval(alpha)
            assert mirrored == pytest.approx((-high, -low))


def test_interval_of_paired_shares_is_the_published_one_up_to_zero() -> None:
    """Fagerland, Lydersen & Laake (2014), airway reactivity of 21 children: Tango's interval is
    -0.517 to -0.026, where McNemar's exact p is 0.070, so that zero belongs to it."""
    shares = PairedShares(1, 7, 21)
    assert shares.p(0) == pytest.approx(0.070, abs=5e-4)
    assert shares.interval(0.05) == pytest.approx((-0.517, 0.0), abs=5e-4)
    assert shares.p(-0.026) == pytest.approx(shares.p(0)), "none before zero is rejected sooner"
    assert shares.p(-0.517) == pytest.approx(0.05, abs=1e-3)


def test_no_changed_row_of_fifty_still_leaves_room_for_a_difference() -> None:
    shares = PairedShares(0, 0, 50)
    low, high = shares.interval(0.05)
    assert (shares.value, shares.p(0)) == (0.0, 1.0)
    assert high == pytest.approx(1.96**2 / (50 + 1.96**2), abs=1e-4)
    assert low == pytest.approx(-high)


@pytest.mark.parametrize(("correct", "rows"), [(0, 50), (1, 50), (25, 50), (50, 50), (0, 1)])
def test_interval_of_a_share_is_where_its_mid_p_is_at_the_level(correct: int, rows: int) -> None:
    found = share(correct, rows)
    for end, wanted in ((found.low, 0.025), (found.high, 0.975)):
        if end in (0.0, 1.0):
            continue
        more = stats.binom.sf(correct, rows, end) + stats.binom.pmf(correct, rows, end) / 2
        assert more == pytest.approx(wanted)
    assert found.low < found.high
    assert found.low <= correct / rows <= found.high


def test_share_against_a_known_one_agrees_with_its_interval() -> None:
    for correct in range(31):
        against = OneShare(correct, 30, 0.5)
        low, high = against.interval(0.05)
        assert (against.p(0) < 0.05) is not (low <= 0 <= high)


def test_share_in_clusters_counts_as_fewer_rows() -> None:
    assert effective_rows(0.3, stats.t.ppf(0.975, 99) * math.sqrt(0.3 * 0.7 / 99), 99, 100) == (
        pytest.approx(100)
    )
    assert effective_rows(0.3, 0.2, 99, 100) < 30


@given(st.integers(0, 99), st.integers(2, 9))
@settings(max_examples=30, deadline=None)
def test_moves_are_those_of_the_metric_without_each_cluster(seed: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    names = [*(str(i) for i in range(groups)), *map(str, rng.integers(0, groups, 20))]
    columns = {"nll": rng.uniform(1, 9, len(names)), "tokens": rng.integers(1, 9, len(names)) * 1.0}
    found = Sample("perplexity", columns).moves(Clusters(names))
    kept = [np.asarray(names) != str(group) for group in range(groups)]
    rest = [{name: own[keep] for name, own in columns.items()} for keep in kept]
    without = np.asarray([Sample("perplexity", own).point() for own in rest])
    assert found == pytest.approx((groups - 1) * (without.mean() - without))


def test_clusters_are_left_out_whole() -> None:
    """Ten copies of each example say no more than one of each."""
    values = np.random.default_rng(0).normal(size=60)
    single = infer(runs(values), 60)
    clusters = Clusters([str(i) for i in range(60) for _ in range(10)])
    whole = infer(runs(np.repeat(values, 10), clusters), 60)
    assert (whole.low, whole.high) == pytest.approx((single.low, single.high))


def test_the_same_answers_make_no_difference() -> None:
    found = infer(runs(np.zeros(50)), 50)
    assert (found.value, found.low, found.p, found.detectable) == (0.0, None, 1.0, None)


def test_a_move_of_every_example_alike_is_a_difference_without_an_interval() -> None:
    found = infer(runs(np.full(6, 0.444)), 6)
    assert (found.low, found.high, found.p) == (None, None, 2 * 0.5**6)
    assert "sign test" in found.reason


def test_no_interval_of_one_example_and_it_says_why() -> None:
    found = infer(runs(np.asarray([0.4])), 1)
    assert (found.low, found.p) == (None, None)
    assert found.reason == "no interval: one independent example alone"


def test_seeds_that_are_not_the_baselines_count_with_its_spread() -> None:
    rng = np.random.default_rng(5)
    own = rng.normal(0.3, 0.05, (3, 200))
    own += np.asarray([[-0.01], [0.0], [0.01]])
    steady, spread = (np.zeros((3, 200)) + np.asarray([[-s], [0.0], [s]]) for s in (0.01, 0.9))
    beside = [infer(runs(own), 200, runs(base + rng.normal(0, 0.05, (3, 200)))) for base in
              (steady, spread)]  # fmt: skip
    assert beside[0].p < 0.05 < beside[1].p


def test_variance_between_seeds_is_divided_by_their_number() -> None:
    """Where seeds alone differ, the interval is Student's over the seeds' means."""
    offsets = np.asarray([0.1, 0.4, 0.3, 0.7, 0.2])
    values = offsets[:, None] + np.random.default_rng(1).normal(0, 1e-6, (5, 50))
    found = infer(runs(values), 50)
    low, high = stats.ttest_1samp(offsets, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-3)
    assert found.p == pytest.approx(stats.ttest_1samp(offsets, 0).pvalue, rel=1e-3)


def test_what_seeds_and_examples_share_counts_once() -> None:
    """Each reach is the root of both parts' squares, from the mean squares of a two-way table."""
    rng = np.random.default_rng(3)
    seeds, items = 4, 30
    half = rng.normal(0, 0.5, 15) + rng.normal(0, 1, (seeds, 15))
    offsets = np.asarray([[0.3], [-0.4], [0.5], [-0.2]])
    values = offsets + np.concatenate([half, -half], axis=1)  # mirrored, so without skew
    found = infer(runs(values), items)
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    both = (rest**2).sum() / ((seeds - 1) * (items - 1))
    clusters = (seeds * values.mean(0).var(ddof=1) - both) / (seeds * items)
    between = values.mean(1).var(ddof=1) / seeds
    parts = stats.t.ppf(0.975, [seeds - 1, items - 1]) ** 2
    reach = math.sqrt(parts @ [between, clusters])
    assert (found.low, found.high) == pytest.approx((found.value - reach, found.value + reach))


def test_method_is_never_surer_than_its_checkpoints() -> None:
    """Two seeds that happen to agree tell nothing of examples that do not."""
    rng = np.random.default_rng(4)
    values = rng.normal(0, 1, (2, 40))
    values[1] += values[0].mean() - values[1].mean()
    method, these = infer(runs(values), 40), infer(runs(values.mean(0)), 40)
    assert (method.low, method.high) == pytest.approx((these.low, these.high))


def test_two_seeds_that_disagree_support_no_claim() -> None:
    values = np.asarray([[0.01], [0.09]]) + np.random.default_rng(0).normal(0, 0.01, (2, 200))
    found = infer(runs(values), 200)
    assert found.low < 0 < found.high


def test_holm_is_the_step_down_rule() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    values = [0.03, 0.2, 0.0004, 0.03, 1.0, 0.01]
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])


def test_what_could_have_been_seen_is_seen_in_four_of_five() -> None:
    rng, seen = np.random.default_rng(0), infer(runs(np.random.default_rng(1).normal(size=60)), 60)
    assert isinstance(seen, Inference)
    assert seen.detectable is not None
    size = seen.detectable / runs(np.random.default_rng(1).normal(size=60)).moves.std()
    hits = [infer(runs(rng.normal(size, 1, 60)), 60).p < 0.05 for _ in range(400)]
    assert np.mean(hits) == pytest.approx(0.8, abs=0.06)
