"""Shares and their differences, each number held to its formula by another way to compute it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.comparison import binomial
from harness.comparison.binomial import effective_rows, share
from harness.comparison.measured import Measured
from harness.comparison.share_contrasts import OneShare
from harness.comparison.statistics import Clusters, Sample
from harness.comparison.unpaired import Figure, contrast_of

Z, POWER_Z = stats.norm.ppf([0.975, 0.8])


@pytest.mark.parametrize(("correct", "rows"), [(0, 9), (3, 9), (9, 9), (7, 40)])
def test_share_is_what_it_says_within_its_interval(correct: int, rows: int) -> None:
    found = share(correct, rows)
    assert found.value == correct / rows
    assert (found.low == 0, found.high == 1) == (correct == 0, correct == rows)
    between = share(correct + 0.5, rows + 1.0)
    assert between.low is not None
    assert between.high is not None
    assert between.low < between.value < between.high


@pytest.mark.parametrize(("correct", "known"), [(0, 0.1), (3, 0.5), (12, 0.25), (20, 0.9)])
def test_share_against_a_known_one_has_the_mid_p_of_both_tails(correct: int, known: float) -> None:
    against, rows = OneShare(correct, 20, known), 20
    above = stats.binom.sf(correct, rows, known) + stats.binom.pmf(correct, rows, known) / 2
    assert against.p(0) == pytest.approx(2 * min(above, 1 - above))
    alone = share(correct, rows)
    assert (against.value, *against.interval(0.05)) == pytest.approx(
        (alone.value - known, (alone.low or 0) - known, (alone.high or 0) - known)
    )
    error = math.sqrt(known * (1 - known) / rows)
    assert against.detectable(0.05) == pytest.approx((Z + POWER_Z) * error, rel=0.1)


def test_effective_rows_are_korn_and_graubards() -> None:
    for value, half, freedom in ((0.3, 0.2, 99), (0.5, 0.3, 20), (0.9, 0.15, 7)):
        t = stats.t.ppf(0.975, freedom)
        wanted = 1 + value * (1 - value) * (t / half) ** 2
        assert effective_rows(value, half, freedom, 1000) == pytest.approx(wanted)
        assert effective_rows(value, half, freedom, 5) == 5


def figure(right: int, rows: int) -> Figure:
    """A published share."""
    share = right / rows
    error = math.sqrt(share * (1 - share) / (rows - 1))
    return Figure.of([Measured("m", "e", share, n=rows, stderr=error)])


@pytest.mark.parametrize("counts", [(7, 20, 3, 25), (0, 9, 2, 9), (30, 30, 11, 40)])
def test_difference_of_independent_shares_is_agresti_and_caffos(
    counts: tuple[int, int, int, int],
) -> None:
    correct, rows, base_correct, base_rows = counts
    apart = contrast_of(figure(correct, rows), figure(base_correct, base_rows))
    low, high = apart.interval(0.05)
    p, q = (correct + 1) / (rows + 2), (base_correct + 1) / (base_rows + 2)
    error = math.sqrt(p * (1 - p) / (rows + 2) + q * (1 - q) / (base_rows + 2))
    assert apart.value == pytest.approx(correct / rows - base_correct / base_rows)
    assert (low, high) == pytest.approx((max(p - q - Z * error, -1), min(p - q + Z * error, 1)))
    assert apart.p(0) == pytest.approx(2 * stats.norm.sf(abs(p - q) / error))
    assert apart.detectable(0.05) == pytest.approx((Z + POWER_Z) * error)


def test_chance_of_more_rows_counts_half_of_just_as_many() -> None:
    assert binomial._above(0.25, 8, 8, 0.0) == pytest.approx(0.25**8 / 2)
    assert binomial._above(0.25, 0, 8, 0.0) == pytest.approx(1 - 0.75**8 / 2)
    assert binomial._above(0.25, 3, 8, 0.1) == pytest.approx(
        stats.binom.sf(3, 8, 0.25) + stats.binom.pmf(3, 8, 0.25) / 2 - 0.1
    )


# --- what a metric is made of ---------------------------------------------------------------------


def sample(aggregate: str, **columns: list[float]) -> Sample:
    return Sample(aggregate, {name: np.asarray(own, float) for name, own in columns.items()})


def test_shares_of_single_rows_are_ones_and_zeros() -> None:
    right = [1.0, 0.0, 1.0]
    for found in (sample("mean", value=right), sample("share", hits=right, of=[1, 1, 1])):
        assert found.binary is not None
        assert found.binary.tolist() == right
    for other in (sample("mean", value=[1, 0.5, 0]), sample("share", hits=right, of=[1, 2, 1]),
                  sample("share", hits=right, of=[1, 0, 1]), sample("mean", value=[2, 0, 1]),
                  sample("perplexity", nll=right, tokens=[1, 1, 1])):  # fmt: skip
        assert other.binary is None


def test_metric_is_about_rows_that_count_in_it() -> None:
    found = sample("share", hits=[1, 0, 1, 0], of=[2, 0, 1, 0])
    assert found.about(np.arange(4)).tolist() == [0, 2]
    assert found.about(np.asarray([1, 2])).tolist() == [2]
    assert found.about(np.asarray([1, 3])).tolist() == []
    assert sample("mean", value=[0, 1]).about(np.arange(2)).tolist() == [0, 1]
    assert sample("share", hits=[0, 0], of=[0, 0]).about(np.arange(2)).tolist() == []


def test_independent_clusters_are_those_of_the_smallest_class() -> None:
    clusters = Clusters(["a", "a", "b", "c"])
    assert sample("share", hits=[1, 0, 1, 0], of=[1, 1, 1, 0]).independent(clusters) == 2
    assert sample("mean", value=[1, 2, 3, 4]).independent(clusters) == 3
    assert (clusters.count, clusters.single) == (3, False)
    assert Clusters(["b", "a"]).single
    assert clusters.sums(np.asarray([[1.0], [2.0], [4.0], [8.0]])).tolist() == [[3], [4], [8]]


def test_moves_of_a_mean_are_the_distances_from_it() -> None:
    alone = Clusters(["a", "b", "c"])
    for found in (sample("share", hits=[1, 0, 1], of=[1, 1, 1]), sample("mean", value=[1, 0, 1])):
        assert found.moves(alone) == pytest.approx(np.asarray([1, 0, 1]) - 2 / 3)


@pytest.mark.parametrize("alpha", [0.4, 0.05, 0.001])
@pytest.mark.parametrize(("correct", "rows"), [(0, 7), (2, 7), (7, 7), (30, 90)])
def test_ends_of_a_share_are_where_its_mid_p_is_half_of_the_level(
    correct: int, rows: int, alpha: float
) -> None:
    found = share(correct, rows, alpha)
    for end, edge, tail in ((found.low, 0.0, alpha / 2), (found.high, 1.0, 1 - alpha / 2)):
        if correct == rows * edge:
            assert end == edge
            continue
        above = stats.binom.sf(correct, rows, end) + stats.binom.pmf(correct, rows, end) / 2
        assert above == pytest.approx(tail)
        assert binomial.share_p(correct, rows, end) == pytest.approx(alpha)


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_a_share_is_never_less_likely_than_impossible_nor_more_than_sure(rows: int) -> None:
    """Of what is seen and of what is known: the smaller tail, twice."""
    for correct in range(rows + 1):
        for known in (0.0, 0.1, 0.5, 0.75, 1.0):
            above = stats.binom.sf(correct, rows, known)
            above += stats.binom.pmf(correct, rows, known) / 2
            wanted = 2 * min(above, 1 - above)
            found = binomial.share_p(correct, rows, known)
            assert found == pytest.approx(wanted, abs=1e-12)
            assert 0 <= found <= 1


@pytest.mark.parametrize("rows", [1, 6, 14, 50, 300])
def test_intervals_of_a_share_hold_it_as_often_as_is_said(rows: int) -> None:
    """Exactly, by the chance of each count. Coverage falls where a share leaves an interval."""
    found = [share(correct, rows) for correct in range(rows + 1)]
    ends = np.asarray([(one.low, one.high) for one in found], float)
    beside = np.concatenate([ends.ravel() + 1e-9, ends.ravel() - 1e-9])

    def coverage(shares: np.ndarray) -> np.ndarray:
        holds = (ends[:, 0] <= shares[:, None]) & (shares[:, None] <= ends[:, 1])
        chance = stats.binom.pmf(np.arange(rows + 1), rows, shares[:, None])
        return np.where(holds, chance, 0.0).sum(axis=1)

    assert coverage(beside.clip(0, 1)).min() >= 0.912
    assert coverage(np.linspace(0, 1, 501)).mean() >= 0.95
