"""What limits a verdict: few seeds, a margin that may be 0, and where the doubt comes from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.comparison.aligned import scores_of, scores_of_draws
from harness.comparison.caveats import about_margin, about_seeds, noise_of
from harness.comparison.claims import Question, decide
from harness.comparison.contrasts import Moved
from harness.comparison.differences import contrast_of
from harness.comparison.groups import Group
from harness.comparison.result import Noise
from harness.suite.claims import parse_claim

ONE = "about one checkpoint only, not the method: one seed"
VARIANT = "the variant is one checkpoint: another seed of it may differ"
OTHER = "the other side is one checkpoint: another seed of it may differ"
TWO = "only 2 seeds"


def runs(seeds: int, *, trained: bool = True, level: float = 0.0, spread: float = 1.0) -> Group:
    rng = np.random.default_rng(seeds)
    return Group.of({
        seed: replace(
            scores_of([str(i) for i in range(8)], {"value": level + spread * rng.normal(size=8)}),
            trained=trained,
        )
        for seed in range(seeds)
    })  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "theirs", "limit"),
    [
        (1, 1, ONE), (1, 2, VARIANT), (1, 3, VARIANT), (2, 1, OTHER), (3, 1, OTHER),
        (2, 2, TWO), (2, 3, TWO), (3, 2, TWO), (3, 3, ""), (4, 5, ""),
    ],
)  # fmt: skip
def test_a_verdict_says_what_the_number_of_seeds_keeps_it_from_saying(
    ours: int, theirs: int, limit: str
) -> None:
    assert about_seeds(runs(ours), runs(theirs)) == limit


@pytest.mark.parametrize(
    ("ours", "trained", "theirs", "base_trained", "limit"),
    [
        (1, False, 1, False, ""), (1, True, 1, False, ONE), (1, False, 1, True, ONE),
        (3, True, 1, False, ""), (1, False, 3, True, ""), (2, True, 1, False, TWO),
        (1, False, 2, True, TWO),
    ],
)  # fmt: skip
def test_a_model_that_was_not_trained_has_no_other_seeds(
    ours: int, trained: bool, theirs: int, base_trained: bool, limit: str
) -> None:
    assert about_seeds(runs(ours, trained=trained), runs(theirs, trained=base_trained)) == limit


@pytest.mark.parametrize(("seeds", "limit"), [(1, ONE), (2, TWO), (3, "")])
def test_against_a_number_the_variants_seeds_alone_count(seeds: int, limit: str) -> None:
    assert about_seeds(runs(seeds), 0.5) == limit


MAY_BE_0 = "its margin is a share of a value that may be 0"
BY_SHARE, BY_NUMBER = "a not_worse b on m by 5%", "a not_worse b on m by 0.05"


@pytest.mark.parametrize(
    ("level", "spread", "limit"),
    [
        (1.0, 0.1, ""), (-1.0, 0.1, ""), (0.0, 1.0, MAY_BE_0), (1.0, 0.0, ""), (0.0, 0.0, MAY_BE_0),
    ],
)  # fmt: skip
def test_a_share_of_a_value_is_a_margin_only_where_that_value_is_not_0(
    level: float, spread: float, limit: str
) -> None:
    """Also where all examples have one value, which has no interval: eight of them are sure."""
    base = runs(1, level=level, spread=spread)
    assert about_margin(parse_claim(BY_SHARE), base) == limit
    assert about_margin(parse_claim(BY_NUMBER), base) == ""
    assert about_margin(parse_claim(BY_SHARE), level) == ""


@pytest.mark.parametrize(("count", "limit"), [(1, MAY_BE_0), (5, MAY_BE_0), (6, "")])
def test_a_value_that_few_examples_share_may_be_0(count: int, limit: str) -> None:
    """Five of one sign have a p of 1/16, six one of 1/32."""
    base = Group.of({0: scores_of([str(i) for i in range(count)], {"value": np.ones(count)})})
    assert about_margin(parse_claim(BY_SHARE), base) == limit


# --- where the doubt comes from -------------------------------------------------------------------


def drawn(*seeds: int, level: float = 0.0, answers: float = 1.0, count: int = 50, draws: int = 4,
          apart: float = 0.5) -> Group:  # fmt: skip
    """Runs whose answers were drawn several times."""
    made = {}
    for seed in seeds:
        rng = np.random.default_rng([seed, count, draws])
        each = level + apart * rng.normal() + rng.normal(size=(count, 1))
        values = each + answers * rng.normal(size=(count, draws))
        made[seed] = scores_of_draws([str(i) for i in range(count)], values)
    return Group.of(made)


def redrawn(group: Group) -> float:
    """The variance of a mean over runs and examples whose answers are drawn anew."""
    parts = [run.drawn for run in group.scores.values()]
    return float(np.mean([part.mean() for part in parts]) / parts[0].size / len(parts))


@pytest.mark.parametrize("ratio", [1.0, 0.5, 3.0])
def test_of_single_runs_what_is_not_from_answers_is_from_examples(ratio: float) -> None:
    one, base = drawn(0), drawn(1, answers=0.3)
    values = [group.first.sample.columns["value"] for group in (one, base)]
    whole = np.var(values[0] - ratio * values[1], ddof=1) / 50
    answers = (redrawn(one) + ratio**2 * redrawn(base)) / whole
    noise = noise_of(contrast_of(one, base, ratio), one, base, ratio)
    assert noise.answers == pytest.approx(answers)
    assert noise.examples == pytest.approx(1 - answers)
    assert noise.seeds is None


def test_against_a_number_the_variants_answers_alone_are_drawn() -> None:
    one = drawn(0)
    noise = noise_of(contrast_of(one, 0.3), one, 0.3)
    whole = np.var(one.first.sample.columns["value"], ddof=1) / 50
    assert noise.answers == pytest.approx(redrawn(one) / whole)
    assert noise.examples == pytest.approx(1 - noise.answers)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_of_several_runs_the_answers_are_a_part_of_how_the_runs_differ(ratio: float) -> None:
    one, base = drawn(0, 1, 2), drawn(0, 1, 2, level=0.2, apart=4.0, answers=0.4)
    contrast = contrast_of(one, base, ratio)
    whole = contrast.error() ** 2
    between = np.var(one.runs.points - ratio * base.runs.points, ddof=1) / 3
    answers = redrawn(one) + ratio**2 * redrawn(base)
    noise = noise_of(contrast, one, base, ratio)
    assert noise.seeds == pytest.approx((between - answers) / whole)
    assert noise.answers == pytest.approx(answers / whole)
    assert noise.examples == pytest.approx(1 - between / whole)


def test_the_answers_of_a_lone_side_are_a_part_of_how_the_examples_differ() -> None:
    one, base = drawn(0, 1, 2), drawn(5)
    for ours, theirs in ((one, base), (base, one)):
        contrast = contrast_of(ours, theirs)
        whole = contrast.error() ** 2
        between = np.var(one.runs.points, ddof=1) / 3
        noise = noise_of(contrast, ours, theirs)
        assert noise.seeds == pytest.approx((between - redrawn(one)) / whole)
        assert noise.answers == pytest.approx((redrawn(one) + redrawn(base)) / whole)
        assert noise.examples == pytest.approx((whole - between - redrawn(base)) / whole)


def test_only_the_runs_that_are_compared_have_a_part_in_it() -> None:
    """The baseline's third seed has no partner, and answers that differ from draw to draw."""
    one, pair = drawn(0, 1), drawn(0, 1, level=0.2, apart=4.0)
    third = drawn(2, answers=20.0)
    base = Group.of({**pair.scores, **third.scores})
    alone = noise_of(contrast_of(one, pair), one, pair)
    assert noise_of(contrast_of(one, base), one, base) == alone


def test_answers_explain_no_more_than_what_there_is() -> None:
    """Runs that are alike but for what drawing their answers anew would change, and more."""
    count, rng = 60, np.random.default_rng(0)
    examples = rng.normal(size=count)
    wild = {
        seed: replace(
            scores_of([str(i) for i in range(count)], {"value": examples + 0.01 * seed}),
            drawn=np.full(count, 100.0),
        )
        for seed in range(3)
    }
    many = Group.of(wild)
    noise = noise_of(contrast_of(many, 0.0), many, 0.0)
    assert noise.seeds == 0
    assert noise.examples + noise.answers == pytest.approx(1)
    assert 0 < noise.answers < 0.1
    single = Group.of({0: wild[0]})
    assert noise_of(contrast_of(single, 0.0), single, 0.0) == Noise(0.0, 1.0, None)


def test_answers_that_are_the_same_in_every_draw_cause_nothing() -> None:
    one, base = drawn(0, answers=0.0), drawn(1, answers=0.0)
    assert noise_of(contrast_of(one, base), one, base) == Noise(1.0, 0.0, None)


def test_seeds_are_told_apart_where_one_answer_was_drawn_and_nothing_else_is() -> None:
    one, base = runs(4, level=0.4).only([0, 1, 2]), runs(3)
    base = Group.of({seed: replace(run, drawn=np.ones(8)) for seed, run in base.scores.items()})
    contrast = contrast_of(one, base)
    noise = noise_of(contrast, one, base)
    between = np.var(one.runs.points - base.runs.points, ddof=1) / 3
    assert noise.answers is None
    assert noise.seeds == pytest.approx(between / contrast.error() ** 2)
    assert noise.examples == pytest.approx(1 - noise.seeds)
    single = Group.of({0: one.first})
    assert noise_of(contrast_of(single, 0.1), single, 0.1) is None


def test_a_difference_without_an_error_has_no_sources_of_it() -> None:
    alike = replace(scores_of(["a", "b"], {"value": np.ones(2)}), drawn=np.ones(2), unit="points")
    one = Group.of({0: alike})
    assert contrast_of(one, 0.5).error() is None
    assert noise_of(contrast_of(one, 0.5), one, 0.5) is None


@settings(max_examples=40, deadline=None)
@given(
    ours=st.integers(1, 3), theirs=st.integers(1, 3), answers=st.floats(0.0, 9.0),
    apart=st.floats(0.0, 2.0), ratio=st.floats(0.1, 2.0),
)  # fmt: skip
def test_the_parts_are_shares_of_the_whole(
    ours: int, theirs: int, answers: float, apart: float, ratio: float
) -> None:
    one = drawn(*range(ours), answers=answers, apart=apart, count=12)
    base = drawn(*range(4, 4 + theirs), answers=answers, apart=apart, count=12)
    contrast = contrast_of(one, base, ratio)
    assert isinstance(contrast, Moved)
    noise = noise_of(contrast, one, base, ratio)
    assert sum(noise.known.values()) == pytest.approx(1)
    assert all(-1e-12 <= part <= 1 + 1e-12 for part in noise.known.values())
    assert ("seeds" in noise.known) is (ours > 1 or theirs > 1)


def test_a_claims_verdict_tells_what_limits_it() -> None:
    one, base = drawn(0), drawn(1)
    told = decide([
        Question(parse_claim(BY_SHARE), "a", "b", "m", "", one.scores, base.scores)
    ])[0]  # fmt: skip
    assert ONE in told.reason
    assert MAY_BE_0 in told.reason
    assert told.noise == noise_of(contrast_of(one, base), one, base)
