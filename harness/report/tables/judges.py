"""The tables of a suite's judges: how well they agree with labels, and what that does to rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from harness.comparison.powered_rates import LEAST_LABELS
from harness.comparison.result import (
    Comparison,
    Estimate,
    JudgedRank,
    JudgedRate,
    PoweredRate,
    SuiteJudge,
)
from harness.core.text import line
from harness.report import numbers
from harness.report.tables.sheets import Cell, Line, Sheet, figure, name_cell


def judges(comparison: Comparison) -> Sheet:
    """A line for each judge and set of labels that it was held to."""
    return Sheet(
        "judges",
        "Judges",
        ("judge", "labels", "pairs", "agreement", "by chance", "Cohen's kappa",
         "Krippendorff's alpha", "position bias", "flip rate", "verbosity bias", "attacks won"),
        tuple(Line(tuple(_cells(judge))) for judge in comparison.judges),
        "How well each judge agrees with labels of answers (harness judge calibrate), and how often"
        " attacks win over it (harness judge attack). Agreement counts what chance reaches too;"
        " kappa and alpha do not. A judge that is uncalibrated, or not shown to be better than"
        " chance, decides no winner.",
    )  # fmt: skip


def _cells(judge: SuiteJudge) -> Iterator[Cell]:
    yield name_cell(judge.name)
    yield name_cell(judge.source) if judge.source else Cell("uncalibrated")
    yield figure(f"{judge.pairs:,}", judge.pairs) if judge.source else Cell(numbers.MISSING)
    yield _estimate(judge.agreement)
    chance = judge.by_chance
    yield Cell(numbers.MISSING) if chance is None else figure(f"{chance:.2f}", chance)
    yield _estimate(judge.kappa)
    yield _estimate(judge.alpha)
    yield _estimate(judge.position, signed=True)
    yield _estimate(judge.flips)
    yield _estimate(judge.verbosity, signed=True)
    yield _estimate(judge.attacked)


def _estimate(estimate: Estimate | None, *, signed: bool = False) -> Cell:
    if estimate is None:
        return Cell(numbers.MISSING)
    shown = numbers.value(estimate, signed=signed)
    return Cell(shown, numbers.interval(estimate, signed=signed), sort=estimate.value)


def judged(comparison: Comparison) -> Sheet:
    """A line for each variant whose answers a judge compared with others."""
    return Sheet(
        "judged",
        "Judged win rates",
        ("variant", "against", "on", "judge", "win rate", "length-controlled", "won", "tied",
         "lost", "missing", "strength", "rank"),
        tuple(Line(tuple(_rate(rate))) for rate in comparison.judged_rates),
        "Length-controlled: the win rate if all answers were as long as those they are compared"
        " with, by AlpacaEval 2's logistic model (Dubois et al., 2024), with difficulties and the"
        " judge's liking for length fitted over these variants. Strength: log-odds of Bradley and"
        " Terry (1952); a rank is a range where intervals overlap. How far the judge can be trusted"
        " stands in the table of judges.",
    )  # fmt: skip


def _rate(rate: JudgedRate) -> Iterator[Cell]:
    for name in (rate.variant, rate.other, rate.evaluation, rate.judge):
        yield name_cell(name)
    yield _estimate(rate.rate)
    yield _estimate(rate.controlled)
    for count in (rate.wins, rate.ties, rate.losses, rate.missing):
        yield figure(f"{count:,}", count)
    yield _estimate(rate.strength, signed=True)
    yield Cell(rate.rank or numbers.MISSING)


def ranks(comparison: Comparison) -> Sheet:
    """A line for each variant that a judge compared with all others, and its win rates."""
    others = list(dict.fromkeys(rank.variant for rank in comparison.judged_ranks))
    return Sheet(
        "judged_ranks",
        "Rankings by judges",
        ("variant", "on", "judge", "rank", "strength", *(f"against {line(o)}" for o in others)),
        tuple(Line(tuple(_rank(rank, others))) for rank in comparison.judged_ranks),
        "Variants whose answers were compared with one another: how often the answers of the line's"
        " variant are preferred to the column's, half for a tie. Strength: log-odds of Bradley and"
        " Terry (1952) from all these pairs, with an interval over clusters of examples; a rank is"
        " a range where intervals overlap.",
    )  # fmt: skip


def _rank(rank: JudgedRank, others: Sequence[str]) -> Iterator[Cell]:
    for name in (rank.variant, rank.evaluation, rank.judge):
        yield name_cell(name)
    yield Cell(rank.rank)
    yield _estimate(rank.strength, signed=True)
    for other in others:
        won = rank.won.get(other)
        yield Cell(numbers.MISSING) if won is None else figure(f"{won[0]:.3f}", won[0])


def rates(comparison: Comparison) -> Sheet:
    """Win rates whose answers were labelled, with the judge's error in their intervals."""
    lines = [
        Line(tuple(cells))
        for judge in comparison.judges
        if judge.rates
        for cells in (
            *map(partial(_corrected, judge), judge.rates),
            *map(partial(_uncorrected, judge), _unlabelled(comparison, judge)),
        )
    ]
    return Sheet(
        "judged_rates",
        "Win rates with the judge's error",
        ("variant", "against", "on", "judge", "labels", "by the judge alone",
         "by the labels alone", "by both"),
        tuple(lines),
        "By both: prediction-powered inference (Angelopoulos et al., 2023), which corrects the"
        " judge's figure by its error on the labelled answers, and has that error in the interval."
        f" It needs {LEAST_LABELS} labelled examples of a pair of variants: the others are listed"
        " by the judge alone, without a correction.",
    )  # fmt: skip


def _corrected(judge: SuiteJudge, rate: PoweredRate) -> Iterator[Cell]:
    yield from _contest(judge, rate)
    yield Cell(f"{rate.labelled:,} of {rate.examples:,}")
    yield figure(f"{rate.judged:.3f}", rate.judged)
    yield _estimate(rate.labels)
    yield _estimate(rate.both)


def _uncorrected(judge: SuiteJudge, rate: JudgedRate) -> Iterator[Cell]:
    """The cells of a win rate with too few labels."""
    yield from _contest(judge, rate)
    yield Cell(f"fewer than {LEAST_LABELS} of {rate.examples:,}")
    yield figure(f"{rate.rate.value:.3f}", rate.rate.value)
    yield from (Cell(numbers.MISSING), Cell(numbers.MISSING))


def _contest(judge: SuiteJudge, rate: PoweredRate | JudgedRate) -> Iterator[Cell]:
    for name in (rate.variant, rate.other, rate.evaluation):
        yield name_cell(name)
    yield name_cell(f"{judge.name} ({line(judge.source)})")


def _unlabelled(comparison: Comparison, judge: SuiteJudge) -> list[JudgedRate]:
    """The judge's other win rates, which have too few labels for a correction."""
    known = {(rate.variant, rate.other, rate.evaluation) for rate in judge.rates}
    return [
        rate
        for rate in comparison.judged_rates
        if rate.judge == judge.name and (rate.variant, rate.other, rate.evaluation) not in known
    ]
