"""The answer in two sentences: which variant is best, and which cheap one is as good."""

from __future__ import annotations

import math

from harness.compare.result import Comparison, Row, VariantResult
from harness.report import numbers, tax
from harness.report.columns import Column, columns, forgetting, table
from harness.report.safe import label, line


def answer(comparison: Comparison) -> str:
    """The sentences in one."""
    return " ".join(sentences(comparison))


def sentences(comparison: Comparison) -> list[str]:
    """Best quality against the baseline, then the cheapest variant not shown worse, and forgetting.

    It reads estimates and verdicts; it computes none.
    """
    found = columns(comparison)
    if not found:
        failed = len(comparison.failed)
        return [f"No variant has a result: {failed} of {len(comparison.variants)} failed."]
    headline, rows = found[0], table(comparison)
    scored = [row for row in rows.values() if (row.metric, row.evaluation) == headline.key]
    best = _best(scored, headline)
    variants = {variant.group: variant for variant in comparison.variants}
    first = _quality(comparison, headline, best)
    cheapest = _cheapest(scored, best, variants)
    second = _cost(cheapest, best, variants, headline)
    kept = _kept(comparison, cheapest)
    aligned = tax.kept(comparison)
    elsewhere = _elsewhere(comparison, headline, cheapest)
    return [first, f"{second}{kept}.", *elsewhere, *([aligned] if aligned else [])]


def _best(scored: list[Row], headline: Column) -> Row:
    # Ties go to the suite's order, so that the answer does not change between runs.
    numbered = [row for row in scored if not math.isnan(row.estimate.value)] or scored
    pick = max if headline.up else min
    return pick(numbered, key=lambda row: row.estimate.value)


def _quality(comparison: Comparison, headline: Column, best: Row) -> str:
    base, unit = label(comparison.baseline), f" {headline.unit}" if headline.unit else ""
    where = f"{headline.name} ({'higher' if headline.up else 'lower'} is better)"
    sure = f"95% intervals, {_sure(best)}"
    name, estimate = label(best.group), f"{numbers.both(best.estimate)}{unit}"
    if best.group == comparison.baseline:
        return f"No variant beats the baseline {base} on {where}: it has {estimate} ({sure})."
    head = f"{name} does best on {where}: {estimate}"
    if best.difference is None:
        return f"{head}, not comparable with {base}: {line(best.note)} ({sure})."
    change = numbers.both(best.difference, signed=True)
    words = {
        "better": f"better than the baseline {base} by {change}",
        "worse": f"yet worse than the baseline {base}, by {change}",
    }
    open_ = f"but no difference from the baseline {base} is shown ({change})"
    return f"{head}, {words.get(best.verdict, open_)} ({sure})."


def _sure(row: Row) -> str:
    examples = f"n\u00a0=\u00a0{row.n:,}"
    if row.clusters != row.n:
        examples += f" in {row.clusters:,} clusters"
    if row.seeds == 1:
        return f"{examples}, 1 seed: about this checkpoint, not the method"
    return f"{examples}, {row.seeds} seeds"


def _cheapest(scored: list[Row], best: Row, variants: dict[str, VariantResult]) -> Row:
    """The least training among those whose interval overlaps with the best one's.

    Where the best is shown better than the baseline, so must the cheapest be: the paired difference
    tells more than two intervals side by side.
    """
    near = [
        row
        for row in scored
        if row is best
        or (_overlap(row, best) and (best.verdict != "better" or row.verdict == "better"))
    ]
    return min(near, key=lambda row: _price(variants[row.group]))


def _price(variant: VariantResult) -> tuple[float, float]:
    if not variant.trained:
        return 0.0, 0.0
    known = (variant.cost.get(key) for key in ("train_seconds", "trainable_parameters"))
    time, parameters = (float("inf") if amount is None else amount for amount in known)
    return time, parameters


def _overlap(row: Row, best: Row) -> bool:
    one, other = row.estimate, best.estimate
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low <= other.high and other.low <= one.high


def _cost(cheapest: Row, best: Row, variants: dict[str, VariantResult], headline: Column) -> str:
    if cheapest is best:
        return f"No cheaper interval overlaps with it; it {_spent(variants[best.group])}"
    return (
        f"The cheapest whose interval overlaps with it is {label(cheapest.group)}"
        f" ({headline.name} {numbers.both(cheapest.estimate)}); it"
        f" {_spent(variants[cheapest.group])}, while the best {_spent(variants[best.group])}"
    )


def _spent(variant: VariantResult) -> str:
    if not variant.trained:
        return "needs no training"
    if variant.elsewhere:
        return "was trained elsewhere"
    time, weights = (variant.cost.get(key) for key in ("train_seconds", "trainable_parameters"))
    what = "" if weights is None else f" {numbers.count(weights)} parameters"
    return f"trained{what} in {'a time not measured' if time is None else numbers.seconds(time)}"


def _kept(comparison: Comparison, chosen: Row) -> str:
    """What the chosen variant forgets, where a metric asks for it."""
    rows, parts = table(comparison), []
    for column in forgetting(comparison):
        row = rows.get((chosen.group, *column.key))
        if row is None or row.difference is None:
            continue
        words = "no change is shown" if row.verdict == "no difference shown" else row.verdict
        change = numbers.both(row.difference, signed=True)
        parts.append(f"its {column.name} {column.arrow} moves by {change}: {words}")
    return "; " + "; ".join(parts) if parts else ""


def _elsewhere(comparison: Comparison, headline: Column, chosen: Row) -> list[str]:
    """What the chosen variant does on rows that it was not trained for, in one sentence."""
    variant = next(v for v in comparison.variants if v.group == chosen.group)
    data, rows = variant.labels.get("data"), table(comparison)
    others = [c for c in columns(comparison) if c.metric == headline.metric]
    parts = []
    for column in others:
        row = rows.get((chosen.group, *column.key))
        if not variant.trained or column.evaluation == data or row is None or not row.difference:
            continue
        words = "no change is shown" if row.verdict == "no difference shown" else row.verdict
        change = numbers.both(row.difference, signed=True)
        parts.append(f"on {label(column.evaluation)} by {change} ({words})")
    if not parts or len(others) < 2:
        return []
    listed = ", ".join(parts)
    return [f"On rows it was not trained for, its {label(headline.metric)} moves {listed}."]
