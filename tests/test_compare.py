"""Intervals cover, pairs are paired, seeds are a level of their own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.compare.statistics import RESAMPLES, Resampler, Sample, holm, infer


def mean_sample(values: np.ndarray) -> Sample:
    return Sample("mean", {"value": values.astype(float)})


def test_bootstrap_of_a_mean_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.3, 1.0, 400)
    weights = Resampler([str(i) for i in range(400)])
    found = infer([values.mean()], [mean_sample(values).resampled(weights)], 400)
    oracle = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=2
    ).confidence_interval
    assert found.low == pytest.approx(oracle.low, abs=0.015)
    assert found.high == pytest.approx(oracle.high, abs=0.015)
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=0.5, abs=1e-6)


def test_interval_of_one_checkpoint_is_numpys_percentiles() -> None:
    draws = np.random.default_rng(4).normal(size=RESAMPLES)
    found = infer([0.0], [draws], 50)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))


def test_many_samples_resample_as_each_does_alone() -> None:
    rng = np.random.default_rng(6)
    weights = Resampler([str(i // 2) for i in range(40)])
    samples = [mean_sample(rng.normal(size=40)) for _ in range(5)]
    nll = {"nll": rng.uniform(1, 9, 40), "tokens": rng.integers(1, 9, 40).astype(float)}
    samples.insert(2, Sample("perplexity", nll))
    for together, sample in zip(weights.resampled(samples), samples, strict=True):
        assert together == pytest.approx(sample.resampled(weights))


def test_perplexity_is_resampled_through_its_sums() -> None:
    nll, tokens = np.array([2.0, 30.0, 5.0]), np.array([1.0, 10.0, 5.0])
    sample = Sample("perplexity", {"nll": nll, "tokens": tokens})
    assert sample.point() == pytest.approx(np.exp(37 / 16))
    weights = Resampler(["a", "b", "c"])
    draws = sample.resampled(weights)
    assert draws.min() >= np.exp(1.0) - 1e-9
    assert draws.max() <= np.exp(3.0) + 1e-9


def test_clusters_are_drawn_whole() -> None:
    """Ten copies of each example say no more than one of each."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=60)
    single = infer(
        [values.mean()], [mean_sample(values).resampled(Resampler([str(i) for i in range(60)]))], 60
    )
    repeated = np.repeat(values, 10)
    clusters = [str(i) for i in range(60) for _ in range(10)]
    whole = infer([values.mean()], [mean_sample(repeated).resampled(Resampler(clusters))], 60)
    assert whole.high - whole.low == pytest.approx(single.high - single.low, rel=0.1)


def test_the_same_answers_make_no_difference() -> None:
    values = np.linspace(0, 1, 50)
    draws = mean_sample(values).resampled(Resampler([str(i) for i in range(50)]))
    found = infer([0.0], [draws - draws], 50)
    assert (found.value, found.p, found.detectable) == (0.0, 1.0, None)


def test_a_move_of_every_example_alike_is_a_difference() -> None:
    zeros, ones = np.zeros(20), np.ones(20)
    weights = Resampler([str(i) for i in range(20)])
    draws = mean_sample(ones).resampled(weights) - mean_sample(zeros).resampled(weights)
    found = infer([1.0], [draws], 20)
    assert (found.low, found.high) == (1.0, 1.0)
    assert found.p == 2 * 0.5**20  # the sign test's


def test_seeds_that_are_not_the_baselines_count_with_its_spread() -> None:
    rng = np.random.default_rng(5)
    weights = Resampler([str(i) for i in range(200)])
    draws = [mean_sample(rng.normal(0.05, 0.05, 200)).resampled(weights) for _ in range(3)]
    points = [0.04, 0.05, 0.06]
    alone = infer(points, draws, 200)
    beside = infer(points, draws, 200, unpaired=[-0.3, 0.0, 0.3])
    assert alone.p is not None
    assert beside.p is not None
    assert alone.p < 0.05 < beside.p


def test_seed_noise_widens_a_claim_about_a_method() -> None:
    """Coverage of the true difference over simulated experiments of 5 seeds."""
    rng = np.random.default_rng(3)
    items, seeds, hits, runs = 60, 5, 0, 300
    weights = Resampler([str(i) for i in range(items)])
    for _ in range(runs):
        item = rng.normal(0, 0.5, items)
        points, draws = [], []
        for _ in range(seeds):
            values = 0.2 + item + rng.normal(0, 0.1) + rng.normal(0, 0.2, items)
            points.append(values.mean())
            draws.append(mean_sample(values).resampled(weights))
        found = infer(points, draws, items)
        assert found.low is not None
        hits += found.low <= 0.2 <= found.high
    assert 0.92 <= hits / runs <= 0.99


def test_two_seeds_that_disagree_support_no_claim() -> None:
    weights = Resampler([str(i) for i in range(200)])
    steady = np.full(200, 1.0)
    draws = [mean_sample(steady * s).resampled(weights) for s in (0.01, 0.09)]
    found = infer([0.01, 0.09], draws, 200)
    assert found.low is not None
    assert found.low < 0 < found.high


def test_holm_is_the_step_down_rule() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_large_sets_are_resampled_in_parts_with_the_same_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from harness.compare import statistics

    values = np.random.default_rng(0).normal(size=100)
    ids = [str(i) for i in range(100)]
    whole = mean_sample(values).resampled(Resampler(ids))
    monkeypatch.setattr(statistics, "_CHUNK", 30_000)
    assert mean_sample(values).resampled(Resampler(ids)) == pytest.approx(whole)
