"""Makes training rows from verdicts on pairs of answers, and measures how often they are right."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.data.cells import content
from harness.data.preferences import best
from harness.data.row import RowDict
from harness.labellers.base import Verdict

Outcome = int | None
"""1: the first answer is better; -1: the other; 0: a tie; None: not known."""
_CONFIDENCE = 0.95


def outcome_of(verdict: Verdict, tie: float) -> Outcome:
    """What a labeller's verdict says of a pair; within `tie` of a half neither is better."""
    if isinstance(verdict, str):
        return None
    if abs(verdict - 0.5) <= tie:
        return 0
    return 1 if verdict > 0.5 else -1


def usable(
    answers: Iterable[Mapping[str, Any]], unfinished: str, dropped: Counter[str]
) -> list[str]:
    """Different, whole answers in their order; the others are counted by reason."""
    kept: list[str] = []
    for answer in answers:
        if not answer["text"].strip():
            dropped["empty"] += 1
        elif answer["finish"] == "length" and unfinished == "drop":
            dropped["cut at max_new_tokens"] += 1
        elif answer["text"] in kept:
            dropped["equal to another"] += 1
        else:
            kept.append(answer["text"])
    return kept


def ranked_rows(
    row: Mapping[str, Any], answers: Sequence[Any], outcomes: Mapping[tuple[int, int], Outcome]
) -> list[RowDict]:
    """Rows of the layout `ranked` that say of each two answers just what the outcomes say.

    One row with a rank for each answer where the outcomes make a ranking with ties; where they go
    in a circle, or some are not known, one row for each pair in which one answer is better. Nothing
    where no answer is better than another.

    Args:
        row: id, cluster, group and prompt.
        outcomes: of each pair of places, the lower first.
    """
    goods = [0] * len(answers)
    for (i, j), outcome in outcomes.items():
        goods[i] += outcome or 0
        goods[j] -= outcome or 0
    if all(_sign(goods[i] - goods[j]) == outcome for (i, j), outcome in outcomes.items()):
        order = sorted(set(goods), reverse=True)
        if len(order) < 2:
            return []
        return [_row(row, "", answers, [order.index(good) + 1 for good in goods])]
    return [
        _row(row, f"/{i}-{j}", [answers[i], answers[j]], [1, 2] if outcome > 0 else [2, 1])
        for (i, j), outcome in outcomes.items()
        if outcome
    ]


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


def _row(row: Mapping[str, Any], mark: str, answers: Sequence[Any], ranks: list[int]) -> RowDict:
    ranked = {**row, "id": f"{row['id']}{mark}", "responses": list(answers), "ranks": ranks}
    return {**ranked, "references": [content(answer) for answer in best(ranked)]}


def reference_pairs(row: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """The better and the worse answer of each preference that a row holds itself."""
    if "chosen" in row:
        return [(row["chosen"], row["rejected"])]
    if "responses" not in row:
        return []
    goods = row["scores"] if row.get("scores") is not None else [-rank for rank in row["ranks"]]
    pairs = []
    for (one, good), (other, less) in itertools.combinations(
        zip(row["responses"], goods, strict=True), 2
    ):
        if good != less:
            pairs.append((one, other) if good > less else (other, one))
    return pairs


def agreement(pairs: Iterable[tuple[Outcome, Outcome]]) -> dict[str, Any] | None:
    """Of the pairs in which labels and truth both prefer an answer: the share in which it is the
    same one, with Wilson's 95% interval (Wilson, 1927), pairs taken as independent.

    Args:
        pairs: label and truth of each pair.

    Returns:
        share, low, high, n; pairs that only one of the two ties, and those that one knows nothing
        of; None where n would be 0.
    """
    counts: Counter[str] = Counter()
    for label, truth in pairs:
        if label is None or truth is None:
            counts["unknown"] += 1
        elif label and truth:
            counts["n"] += 1
            counts["same"] += label == truth
        elif label or truth:
            counts["tied_by_label" if truth else "tied_by_truth"] += 1
    if not counts["n"]:
        return None
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(
        counts["same"], counts["n"], alpha=1 - _CONFIDENCE, method="wilson"
    )
    return {
        "share": counts["same"] / counts["n"],
        "low": float(low),
        "high": float(high),
        **{name: counts[name] for name in ("n", "tied_by_label", "tied_by_truth", "unknown")},
    }


def agreements(metrics: Mapping[str, Any]) -> str:
    """The share of AI labels that agree with known preferences, with its 95% interval."""
    against = {"truth": "the truth", "rows": "the rows' own preferences"}
    return "".join(
        f"; agree with {against[name]} on {agreed['share']:.0%} ({agreed['low']:.0%} to"
        f" {agreed['high']:.0%}) of {agreed['n']}"
        for name, agreed in metrics["agreement"].items()
    )
