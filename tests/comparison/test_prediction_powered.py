"""The mean with a judge's error in its interval: held to closed forms and to simulation."""

from __future__ import annotations

import numpy as np
import pytest

from harness.comparison.prediction_powered import Powered, powered_mean
from harness.comparison.statistics import Array, Clusters


def apart(count: int) -> Clusters:
    return Clusters([str(i) for i in range(max(count, 1))])


def powered(labels: Array, verdicts: Array, others: Array) -> Powered:
    return powered_mean(labels, verdicts, others, apart(len(labels)), apart(len(others)))


def judged(
    random: np.random.Generator, count: int, right: float, share: float
) -> tuple[Array, Array]:
    """Labels that win with this share, and verdicts that are right this often and else a win."""
    labels = (random.random(count) < share).astype(float)
    return labels, np.where(random.random(count) < right, labels, 1.0)


@pytest.mark.parametrize("right", [0.5, 0.8, 1.0])
def test_interval_covers_the_truth_where_the_judge_is_biased(right: float) -> None:
    random, tries, share = np.random.default_rng(0), 600, 0.4
    covered = naive = 0
    widths, alone = [], []
    for _ in range(tries):
        labels, verdicts = judged(random, 40, right, share)
        _, others = judged(random, 400, right, share)
        result = powered(labels, verdicts, others)
        low, high = result.estimate.low, result.estimate.high
        assert low is not None
        assert high is not None
        assert result.labels.low is not None
        assert result.labels.high is not None
        covered += low <= share <= high
        error = 1.96 * others.std() / np.sqrt(len(others))
        naive += abs(others.mean() - share) <= error
        widths.append(high - low)
        alone.append(result.labels.high - result.labels.low)
    assert 0.925 <= covered / tries <= 0.99
    if right < 1:
        assert naive / tries < 0.01, "the judge alone misses the truth"
    assert np.mean(widths) < np.mean(alone), "the judge narrows the interval"


@pytest.mark.parametrize("unlabelled", [1, 3, 7])
def test_a_few_examples_without_a_label_move_nothing_beyond_the_interval(unlabelled: int) -> None:
    """Where nearly all is labelled, the rest does not tell the spread of its own verdicts."""
    random, tries, share = np.random.default_rng(5), 800, 0.6
    covered = 0
    for _ in range(tries):
        labels, verdicts = judged(random, 17, 0.85, share)
        _, others = judged(random, unlabelled, 0.85, share)
        estimate = powered(labels, verdicts, others).estimate
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= share <= estimate.high
    assert 0.91 <= covered / tries <= 0.985


def test_a_judge_who_always_agrees_gives_the_interval_of_all_examples() -> None:
    random = np.random.default_rng(1)
    labels, others = (random.random(n) < 0.5 for n in (50, 5000))
    result = powered(labels.astype(float), labels.astype(float), others.astype(float))
    assert result.weight > 0.9
    assert result.estimate.value == pytest.approx(others.mean(), abs=0.01)


@pytest.mark.parametrize("judge", ["constant", "coin", "contrary", "absent"])
def test_a_useless_judge_leaves_the_labels_alone(judge: str) -> None:
    random = np.random.default_rng(2)
    labels = (random.random(200) < 0.3).astype(float)
    verdicts = {
        "constant": np.ones(200),
        "coin": (random.random(200) < 0.5).astype(float),
        "contrary": 1 - labels,
        "absent": labels,
    }[judge]
    others = np.zeros(0) if judge == "absent" else np.resize(verdicts, 1000)
    result = powered(labels, verdicts, others)
    assert result.weight < 0.15
    assert result.estimate.value == pytest.approx(labels.mean(), abs=0.01)
    assert result.estimate.low == pytest.approx(result.labels.low, abs=0.01)


def test_estimate_and_error_are_the_published_formulas() -> None:
    random = np.random.default_rng(3)
    labels, noise = random.random(30), random.random(30)
    verdicts, others = 0.7 * labels + 0.3 * noise, random.random(90)
    result = powered_mean(labels, verdicts, others, apart(30), apart(90), bounds=(-np.inf, np.inf))
    spread = (29 * np.var(verdicts, ddof=1) + 89 * np.var(others, ddof=1)) / (29 + 89)
    weight = np.cov(labels, verdicts)[0, 1] / ((1 + 30 / 90) * spread)
    assert result.weight == pytest.approx(weight)
    value = weight * others.mean() + (labels - weight * verdicts).mean()
    assert result.estimate.value == pytest.approx(value)
    error = np.sqrt(np.var(labels - weight * verdicts, ddof=1) / 30 + weight**2 * spread / 90)
    assert result.estimate.high is not None
    assert result.estimate.high - value == pytest.approx(2.04523 * error, rel=1e-5)  # t, 29


def test_labels_of_one_cluster_count_as_one() -> None:
    random = np.random.default_rng(4)
    labels, verdicts = judged(random, 20, 0.8, 0.5)
    _, others = judged(random, 100, 0.8, 0.5)
    once = powered(labels, verdicts, others)
    names = [str(i) for i in range(20)] * 3
    thrice = powered_mean(
        np.tile(labels, 3), np.tile(verdicts, 3), np.tile(others, 3),
        Clusters(names), Clusters([str(i) for i in range(100)] * 3),
    )  # fmt: skip
    assert thrice.estimate.value == pytest.approx(once.estimate.value)
    assert thrice.estimate.low == pytest.approx(once.estimate.low)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_labels_that_are_all_alike_still_leave_doubt(value: float) -> None:
    verdicts, others = np.asarray([1.0, 0.0] * 10), np.asarray([1.0, 0.0, 1.0] * 30)
    result = powered(np.full(20, value), verdicts, others)
    for estimate in (result.labels, result.estimate):
        assert estimate.value == value
        assert estimate.low is not None
        assert estimate.high is not None
        assert 0 <= estimate.low <= value <= estimate.high <= 1
        assert 0.05 < estimate.high - estimate.low < 0.25
    fewer = powered(np.full(10, value), verdicts[:10], others)
    assert fewer.labels.high is not None
    assert fewer.labels.low is not None
    assert result.labels.high is not None
    assert result.labels.low is not None
    assert fewer.labels.high - fewer.labels.low > result.labels.high - result.labels.low


def test_a_judge_that_agrees_on_all_labels_and_says_one_thing_of_the_rest_is_not_believed() -> None:
    """There is no spread left, and 10 labels do not say that it is right on 1,000 others."""
    labels = np.asarray([1.0, 0.0] * 5)
    result = powered(labels, labels, np.ones(1000))
    assert (result.weight, result.estimate) == (0.0, result.labels)
    assert result.estimate.low is not None


def test_intervals_of_labels_that_are_rarely_others_cover_the_truth() -> None:
    random, tries, share = np.random.default_rng(3), 400, 0.97
    covered = alike = 0
    for _ in range(tries):
        labels = (random.random(25) < share).astype(float)
        alone = powered(labels, labels, np.asarray([])).labels
        assert alone.low is not None
        assert alone.high is not None
        if labels.all():
            alike += 1
            covered += alone.low <= share <= alone.high
    assert alike > 100
    assert covered == alike


def test_verdicts_that_never_differ_leave_the_labels_alone() -> None:
    """Neither side's verdicts vary, so that nothing tells whether they go with the labels."""
    labels = np.asarray([1.0, 0, 1, 0, 1])
    result = powered(labels, np.ones(5), np.zeros(100))
    assert result.weight == 0.0
    assert result.estimate == result.labels
    assert result.estimate.value == pytest.approx(0.6)
    assert result.judged == pytest.approx(5 / 105)
