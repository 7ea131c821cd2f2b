"""The headline metric, the variant with its best estimate, and how the others differ from it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.comparison.result import ALL, MAIN, Row
from harness.comparison.rows import AllScores, rows_of
from harness.comparison.scores import Column
from harness.comparison.verdicts import adjusted


def headline(rows: Sequence[Row]) -> Column | None:
    """The (metric, evaluation) that a report's answer is about; None where nothing was measured.

    It is about what was learnt: a metric of forgetting only where there is no other. And it is
    about what is known: the figures of a judge whose error is not known only where there are none
    else.
    """
    first = {(row.metric, row.evaluation): row for row in reversed(rows)}
    measured = list(dict.fromkeys((row.metric, row.evaluation) for row in rows))
    learnt = [column for column in measured if not first[column].forgetting]
    known = [column for column in learnt if not first[column].uncalibrated]
    candidates = known or learnt or measured
    for name in MAIN:
        for column in candidates:
            if column[0] == name:
                return column
    rising = [column for column in candidates if first[column].higher_is_better]
    return next(iter(rising or candidates), None)


def best_of(rows: Sequence[Row]) -> Row:
    """The row with the best estimate, of the rows of one metric; of equal ones the first."""
    # A variant that cannot be compared with the baseline cannot be called the best.
    comparable = [row for row in rows if row.verdict != "incomparable"] or rows
    numbered = [row for row in comparable if not math.isnan(row.estimate.value)] or comparable
    pick = max if rows[0].higher_is_better else min
    return pick(numbered, key=lambda row: row.estimate.value)


def beside_best(scores: AllScores, rows: Sequence[Row]) -> tuple[str, tuple[Row, ...]]:
    """The variant with the best estimate of the headline metric, and the others' rows against it.

    Two intervals that overlap do not say that two variants are equal, nor that they differ, as both
    answered the same examples. The difference from the best does, and each is paired.

    Returns:
        Its name, and a row for each other variant, over all examples, with the verdict that p gives
        after Holm's adjustment over them; "" and no rows where nothing was measured.
    """
    column = headline(rows)
    if column is None:
        return "", ()
    measured = [r for r in rows if (r.metric, r.evaluation) == column and r.slice == ALL]
    best = best_of(measured).group
    whole = {
        group: {
            seed: {column: columns[column].slice(ALL)}
            for seed, columns in seeds.items()
            if column in columns
        }
        for group, seeds in scores.items()
    }
    others = [r for r in rows_of(whole, best) if r.group != best and r.slice == ALL]
    return best, tuple(adjusted(others))
