"""Which contrast two variants have: by what they measure, on which runs, and by how many looks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.comparison.aligned import scores_of
from harness.comparison.contrasts import Alike, Moved, Ranged, Untold, Watched
from harness.comparison.differences import contrast_of, same_measurement
from harness.comparison.groups import Group
from harness.comparison.intervals import infer
from harness.comparison.scores import Scores
from harness.comparison.share_contrasts import OneShare, PairedShares


def run(values: object, size: int = 1, **changes: object) -> Scores:
    """A run on clusters of so many examples."""
    column = np.asarray(values, float)
    ids = [str(i) for i in range(len(column))]
    clusters = None if size == 1 else [str(i // size) for i in range(len(column))]
    measured = changes.pop("measured", "")
    return replace(
        scores_of(ids, {"value": column}, clusters=clusters, **changes), measured=measured
    )


def group(*runs: Scores, first: int = 0) -> Group:
    return Group.of({first + place: one for place, one in enumerate(runs)})


def noise(seed: int, count: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.2, 0.8, count)


RIGHT, WRONG = np.ones(24), np.zeros(24)


def test_right_answers_of_single_runs_are_compared_by_the_rows_that_changed() -> None:
    one, base = np.arange(24) < 9, np.arange(24) >= 5
    contrast = contrast_of(group(run(one)), group(run(base)))
    assert contrast == PairedShares(5, 15, 24)


@pytest.mark.parametrize(
    ("ours", "theirs", "up", "down"), [(RIGHT, WRONG, 8, 0), (WRONG, RIGHT, 0, 8),
                                       (RIGHT, RIGHT, 0, 0)],
)  # fmt: skip
def test_examples_that_all_changed_alike_count_as_their_clusters(
    ours: np.ndarray, theirs: np.ndarray, up: int, down: int
) -> None:
    one, base = group(run(ours, 3)), group(run(theirs, 3))
    assert contrast_of(one, base) == PairedShares(up, down, 8)
    # No count of rows: of another share of the baseline's, or where one looks again and again.
    for other in (contrast_of(one, base, 0.5), contrast_of(one, base, looks="repeated")):
        assert isinstance(other, Alike)
        assert other.clusters == 8
    several = contrast_of(group(run(ours), run(ours)), group(run(theirs), run(theirs)))
    assert several == PairedShares(3 * up, 3 * down, 24)


def test_seeds_that_changed_apart_are_no_common_change() -> None:
    """In pairs nothing differs, run by run; crossed, a run that is right meets one that is not."""
    one = group(run(RIGHT), run(WRONG))
    assert contrast_of(one, group(run(RIGHT), run(WRONG))) == PairedShares(0, 0, 24)
    assert isinstance(contrast_of(one, group(run(RIGHT), run(WRONG), first=5)), Moved)


def test_graded_answers_that_are_alike_are_no_count_of_rows() -> None:
    """Their largest difference is the whole range of the metric, if a mean can have no other."""
    half = np.full(24, 0.5)
    for bounds, span in (((0.0, 1.0), 1.0), ((-3.0, 1.0), 4.0), ((0.0, math.inf), math.inf)):
        one, base = (group(run(half, bounds=bounds)) for _ in range(2))
        assert contrast_of(one, base) == Alike(0.0, 24, (-span, span))
    tokens = {"nll": half, "tokens": np.ones(24)}
    corpus = scores_of([str(i) for i in range(24)], tokens, aggregate="perplexity", bounds=(1, 9))
    assert contrast_of(group(corpus), group(corpus)) == Alike(0.0, 24)


def test_rounding_errors_are_no_difference() -> None:
    tenths = np.full(24, 0.1) * 3
    contrast = contrast_of(group(run(tenths)), group(run(np.full(24, 0.3))))
    assert contrast.value == 0
    assert contrast_of(group(run(tenths)), group(run(tenths - 1e-9))).value > 0


def test_one_independent_example_tells_nothing_about_others() -> None:
    contrast = contrast_of(group(run(noise(0), 24)), group(run(noise(1), 24)))
    assert isinstance(contrast, Untold)
    assert contrast.reason == "no interval: one independent example alone"
    assert contrast.value == pytest.approx(noise(0).mean() - noise(1).mean())


@pytest.mark.parametrize(
    ("bounds", "ratio", "ends"),
    [
        ((0.0, 1.0), 1.0, (-1.0, 1.0)), ((0.0, 1.0), 0.5, (-0.5, 1.0)),
        ((0.0, 1.0), -0.5, (0.0, 1.5)), ((0.0, 1.0), 0.0, (0.0, 1.0)),
        ((-2.0, 3.0), 2.0, (-8.0, 7.0)), ((-2.0, 3.0), -1.0, (-4.0, 6.0)),
        ((0.0, math.inf), 0.5, (-math.inf, math.inf)), ((0.0, math.inf), 0.0, (0.0, math.inf)),
        ((0.0, math.inf), -0.5, (0.0, math.inf)),
    ],
)  # fmt: skip
def test_a_difference_lies_between_what_the_two_values_can_be(
    bounds: tuple[float, float], ratio: float, ends: tuple[float, float]
) -> None:
    one, base = (group(run(noise(seed), bounds=bounds)) for seed in (0, 1))
    contrast = contrast_of(one, base, ratio)
    assert isinstance(contrast, Moved)
    assert contrast.bounds == pytest.approx(ends)
    assert contrast.value == pytest.approx(noise(0).mean() - ratio * noise(1).mean())
    assert contrast.error() == pytest.approx(
        (noise(0) - ratio * noise(1)).std(ddof=1) / math.sqrt(24)
    )


def test_a_share_of_right_answers_lies_between_none_and_all_though_nobody_says_so() -> None:
    one, base = (group(run(np.arange(24) % step == 0)) for step in (2, 3))
    assert contrast_of(one, base, 0.5).bounds == (-0.5, 1.0)


def test_many_looks_pay_for_the_number_of_independent_examples() -> None:
    one, base = group(run(noise(0), 2)), group(run(noise(1), 2))
    watched, once = contrast_of(one, base, looks="repeated"), contrast_of(one, base)
    assert watched == Watched(once, 12)


def test_a_share_against_a_number_is_that_of_its_rows() -> None:
    one = group(run(np.arange(24) < 9))
    assert contrast_of(one, 0.25) == OneShare(9.0, 24.0, 0.25)
    assert contrast_of(one, 0.25, 2.0) == OneShare(9.0, 24.0, 0.5)
    watched = contrast_of(one, 0.25, looks="repeated")
    assert isinstance(watched, Watched)
    assert watched.once.bounds == (-0.25, 0.75)
    assert watched.value == pytest.approx(9 / 24 - 0.25)


def test_a_share_in_clusters_against_a_number_is_that_of_fewer_rows() -> None:
    clustered = group(run(np.repeat(np.arange(8) < 3, 3), 3))
    contrast = contrast_of(clustered, 0.25)
    assert contrast.value == pytest.approx(3 / 8 - 0.25)
    assert contrast.rows < 12
    several = contrast_of(group(run(np.arange(24) < 9), run(np.arange(24) < 10)), 0.25)
    assert several.correct / several.rows == pytest.approx(9.5 / 24)


@pytest.mark.parametrize("ratio", [1.0, 1.5])
def test_a_mean_against_a_number_is_moved_by_it_with_its_bounds(ratio: float) -> None:
    one = group(run(noise(0), bounds=(0.0, 1.0)))
    contrast, known = contrast_of(one, 0.4, ratio), 0.4 * ratio
    alone = infer(one.runs, one.independent)
    assert contrast.value == pytest.approx(alone.value - known)
    assert contrast.interval(0.05) == pytest.approx((alone.low - known, alone.high - known))
    assert contrast.bounds == pytest.approx((-known, 1 - known))
    alike = contrast_of(group(run(np.full(9, 0.4), bounds=(0.0, 1.0))), 0.4)
    assert alike == Alike(0.0, 9, (-0.4, 0.6))
    assert alike.interval(0.05) == (
        max(-0.4, -0.6 * (1 - 0.025 ** (1 / 9))),
        0.6 * (1 - 0.025 ** (1 / 9)),
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        (["k"], ["k"], True), (["k", "k"], ["k"], True), (["k"], ["l"], False),
        (["k", "l"], ["k"], False), (["k"], ["k", "l"], False), ([""], [""], False),
        (["k"], [""], False),
    ],
)  # fmt: skip
def test_variants_that_one_stage_measured_are_one_measurement(
    ours: list[str], theirs: list[str], same: bool
) -> None:
    one, base = (group(*(run(noise(0), measured=key) for key in keys)) for keys in (ours, theirs))
    assert same_measurement(one, base) is same
    contrast = contrast_of(one, base)
    assert isinstance(contrast, Ranged) is same
    if same:
        assert contrast.interval(0.05) == (0.0, 0.0)
        assert contrast.value == 0
        assert isinstance(contrast_of(one, base, 0.5), Moved), "half of it is another value"
