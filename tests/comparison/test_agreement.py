"""Agreement held to the published worked examples, to other libraries, and to simulation."""

from __future__ import annotations

import evalica
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.inter_rater import cohens_kappa

from harness.comparison.agreement import alpha, kappa, mean, proportion
from harness.comparison.binomial import share
from harness.comparison.statistics import Clusters

NAN = None
BOOKS = [  # Krippendorff (2011), example D: four observers, twelve units, some without a rating
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]


def apart(count: int) -> Clusters:
    return Clusters([str(i) for i in range(count)])


def units(raters: list[list[float | None]]) -> list[tuple[float | None, ...]]:
    return list(zip(*raters, strict=True))


@pytest.mark.parametrize(
    ("one", "other", "published"),
    [  # Krippendorff (2011), examples A (binary) and B (nominal)
        ("0100000010", "1110010000", 0.095),
        ("aabbdcccedda", "babbbccceddd", 0.692),
    ],
)
def test_alpha_of_two_observers_is_the_published_one(
    one: str, other: str, published: float
) -> None:
    codes = [[float(ord(letter)) for letter in word] for word in (one, other)]
    estimate = alpha(units(codes), apart(len(one)))
    assert estimate is not None
    assert round(estimate.value, 3) == published


@pytest.mark.parametrize(("distance", "published"), [("nominal", 0.743), ("interval", 0.849)])
def test_alpha_of_four_observers_with_missing_ratings_is_the_published_one(
    distance: str, published: float
) -> None:
    estimate = alpha(units(BOOKS), apart(12), distance)  # type: ignore[arg-type]
    assert estimate is not None
    assert round(estimate.value, 3) == published
    assert estimate.value == pytest.approx(evalica.alpha(pd.DataFrame(BOOKS), distance).alpha)  # type: ignore[arg-type]


def test_alpha_of_any_ratings_is_that_of_another_library() -> None:
    random = np.random.default_rng(0)
    for raters, rows in ((2, 5), (3, 20), (5, 40)):
        values = random.integers(0, 4, (raters, rows)).astype(float)
        values[random.random(values.shape) < 0.2] = np.nan
        rated = [[None if np.isnan(v) else float(v) for v in unit] for unit in values.T]
        for distance in ("nominal", "interval"):
            estimate = alpha(rated, apart(rows), distance)  # type: ignore[arg-type]
            assert estimate is not None
            other = evalica.alpha(pd.DataFrame(values), distance)  # type: ignore[arg-type]
            assert estimate.value == pytest.approx(other.alpha)


def labels_of(table: list[list[int]]) -> tuple[list[int], list[int]]:
    pairs = [(i, j) for i, row in enumerate(table) for j, n in enumerate(row) for _ in range(n)]
    one, other = zip(*pairs, strict=True)
    return list(one), list(other)


def test_kappa_is_the_published_one_with_the_asymptotic_error() -> None:
    table = [[88, 14, 18], [10, 40, 10], [2, 6, 12]]  # Cohen (1960), table 1
    estimate = kappa(*labels_of(table), apart(200))
    assert estimate is not None
    assert round(estimate.value, 3) == 0.492
    other = cohens_kappa(np.asarray(table))
    assert estimate.value == pytest.approx(other.kappa)
    assert estimate.low is not None
    assert estimate.high is not None
    # statsmodels has the error of Fleiss, Cohen & Everitt (1969), which holds for large samples.
    assert estimate.high - estimate.low == pytest.approx(other.kappa_upp - other.kappa_low, rel=0.1)


def test_labellers_who_agree_by_chance_alone_have_no_kappa_to_speak_of() -> None:
    random = np.random.default_rng(1)
    one, other = (random.choice(3, 20_000, p=[0.9, 0.05, 0.05]).tolist() for _ in range(2))
    estimate = kappa(one, other, apart(20_000))
    assert estimate is not None
    assert np.mean(np.asarray(one) == np.asarray(other)) > 0.8
    assert abs(estimate.value) < 0.02


def test_a_share_of_rows_in_clusters_is_that_of_fewer_rows() -> None:
    """Korn & Graubard (1998): as many as give the interval over clusters its width."""
    hits = np.asarray([1, 1, 1, 0, 0, 0, 1, 0], float)
    means = np.asarray([1, 0.5, 0, 0.5])  # of pairs of rows, without skew
    half = stats.t.ppf(0.975, 3) * stats.sem(means)
    rows = 1 + 0.25 * (stats.t.ppf(0.975, 7) / half) ** 2
    assert rows < 8
    found, wanted = proportion(hits, Clusters(list("aabbccdd"))), share(rows / 2, rows)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    alike = np.asarray([1, 0, 1, 0, 1, 0], float)  # each cluster the same: as many as there are
    assert proportion(alike, Clusters(list("aabbcc"))) == share(1.5, 3)


@pytest.mark.parametrize("half", [[1.0], [0.5, 2.0], [0.1, 0.3, 0.7, 4.0]])
def test_interval_of_a_mean_is_students(half: list[float]) -> None:
    values = 3 + np.asarray([*half, *(-v for v in half)])  # without skew, which would widen it
    found = mean(values, apart(len(values)))
    wanted = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((3, *wanted))
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


@pytest.mark.parametrize("labels", [[1, 1, 1], []])
def test_labels_that_are_all_alike_leave_nothing_to_agree_on(labels: list[int]) -> None:
    clusters = apart(max(len(labels), 1))
    assert kappa(labels, labels, clusters) is None
    assert alpha([(a, a) for a in labels], clusters) is None
    assert alpha([(1, None), (None, 2)], apart(2)) is None


def test_interval_of_kappa_covers_the_true_value_as_often_as_it_says() -> None:
    random = np.random.default_rng(2)
    covered, tries = 0, 400
    for _ in range(tries):
        one = random.integers(0, 3, 60)
        other = np.where(random.random(60) < 0.5, one, random.integers(0, 3, 60))
        estimate = kappa(one.tolist(), other.tolist(), apart(60))
        assert estimate is not None
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 0.5 <= estimate.high  # equal margins: kappa is the copied half
    assert 0.92 <= covered / tries <= 0.99


def test_rows_of_one_cluster_count_as_one() -> None:
    hits = np.repeat([1.0, 0.0, 1.0, 1.0, 0.0, 1.0], 10)
    names = np.repeat([str(i) for i in range(6)], 10).tolist()
    wide, narrow = proportion(hits, Clusters(names)), proportion(hits, apart(60))
    assert wide.value == narrow.value == pytest.approx(2 / 3)
    assert wide.low is not None
    assert narrow.low is not None
    assert wide.low < narrow.low
    assert narrow == share(40, 60)
    doubled = kappa([1, 2, 1, 2, 2, 1] * 2, [1, 2, 2, 2, 1, 1] * 2, Clusters(list("abcdef") * 2))
    once = kappa([1, 2, 1, 2, 2, 1], [1, 2, 2, 2, 1, 1], apart(6))
    assert doubled is not None
    assert once is not None
    assert (doubled.low, doubled.high) == pytest.approx((once.low, once.high))
