"""Shares and their differences, each number held to its formula by another way to compute it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.comparison import binomial
from harness.comparison.binomial import difference, effective_rows, paired, share, share_against
from harness.comparison.statistics import Clusters, Sample

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
    found, rows = share_against(correct, 20, known), 20
    above = stats.binom.sf(correct, rows, known) + stats.binom.pmf(correct, rows, known) / 2
    assert found.p == pytest.approx(2 * min(above, 1 - above))
    own = share(correct, rows)
    assert (found.value, found.low, found.high) == pytest.approx(
        (own.value - known, (own.low or 0) - known, (own.high or 0) - known)
    )
    error = math.sqrt(known * (1 - known) / rows)
    assert found.detectable == pytest.approx((Z + POWER_Z) * error)


def test_effective_rows_are_korn_and_graubards() -> None:
    for value, half, freedom in ((0.3, 0.2, 99), (0.5, 0.3, 20), (0.9, 0.15, 7)):
        t = stats.t.ppf(0.975, freedom)
        wanted = 1 + value * (1 - value) * (t / half) ** 2
        assert effective_rows(value, half, freedom, 1000) == pytest.approx(wanted)
        assert effective_rows(value, half, freedom, 5) == 5


def exact(count: int, rows: int, tail: float) -> tuple[float, float]:
    """Clopper and Pearson's interval by scipy."""
    if tail >= 0.5:
        low = stats.beta.ppf(tail, count, rows - count + 1) if count else 0.0
        high = stats.beta.ppf(1 - tail, count + 1, rows - count) if count < rows else 1.0
        return float(low), float(high)
    found = stats.binomtest(count, rows).proportion_ci(1 - 2 * tail) if rows else (0.0, 1.0)
    return float(found[0]), float(found[1])


@pytest.mark.parametrize(("up", "down", "rows"), [(3, 1, 20), (0, 4, 9), (12, 2, 60), (5, 5, 10)])
def test_interval_of_paired_shares_is_newcombes_farthest_product(
    up: int, down: int, rows: int
) -> None:
    found, ends = paired(up, down, rows), []
    for angle in np.linspace(0, np.pi / 2, 181):
        few, many = exact(up + down, rows, stats.norm.cdf(-Z * math.cos(angle)))
        least, most = (
            2 * end - 1 for end in exact(up, up + down, stats.norm.cdf(-Z * math.sin(angle)))
        )
        ends.append((min(few * least, many * least), max(few * most, many * most)))
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert found.value == (up - down) / rows
    error = math.sqrt((up + down + 1) / (rows + 2) / rows)
    assert found.detectable == pytest.approx((Z + POWER_Z) * error)


@pytest.mark.parametrize("counts", [(7, 20, 3, 25), (0, 9, 2, 9), (30, 30, 11, 40)])
def test_difference_of_independent_shares_is_agresti_and_caffos(
    counts: tuple[int, int, int, int],
) -> None:
    correct, rows, base_correct, base_rows = counts
    found = difference(*counts)
    p, q = (correct + 1) / (rows + 2), (base_correct + 1) / (base_rows + 2)
    error = math.sqrt(p * (1 - p) / (rows + 2) + q * (1 - q) / (base_rows + 2))
    assert found.value == pytest.approx(correct / rows - base_correct / base_rows)
    assert (found.low, found.high) == pytest.approx(
        (max(p - q - Z * error, -1), min(p - q + Z * error, 1))
    )
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(p - q) / error))
    assert found.detectable == pytest.approx((Z + POWER_Z) * error)


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
