"""The answer in words: which variant is best, and which cheaper variant is as good."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.comparison.best import best_of
from harness.comparison.contaminated import severely
from harness.comparison.costs import comparable
from harness.comparison.result import Comparison, Row, VariantResult
from harness.core.text import label, line, number_of
from harness.report import cheaper, numbers
from harness.report.over_metrics import over_metrics
from harness.report.tables import alignment as tax
from harness.report.tables.columns import Column, columns, forgetting, table


def answer(comparison: Comparison) -> str:
    """The answer in one line."""
    return " ".join(paragraphs(comparison))


def paragraphs(comparison: Comparison) -> list[str]:
    """The answer in paragraphs of a few sentences each.

    Test rows that were trained on are told before all. Then, the first says which variant is best
    and how it differs from its baseline. The second says which variant is as good and costs less.
    Others follow if they apply: what these two forgot, variants that cannot be compared, rows of
    other data, and the alignment tax.

    It only reads estimates and verdicts of the comparison.
    """
    return [*severely(comparison.contamination), *_paragraphs(comparison)]


def _paragraphs(comparison: Comparison) -> list[str]:
    """As `paragraphs`, without what test rows in the training rows make of it."""
    metrics = columns(comparison)
    if not metrics:
        failed = len(comparison.failed)
        return [f"No variant has a result: {failed} of {len(comparison.variants)} failed."]
    headline, rows = metrics[0], table(comparison)
    every = [row for row in rows.values() if (row.metric, row.evaluation) == headline.key]
    # A variant that cannot be compared with the baseline cannot be called the best.
    scored = [row for row in every if row.verdict != "incomparable"] or every
    best = best_of(every)
    others = [row for row in scored if row is not best]
    no_overlap = all(row.estimate.meets(best.estimate) is False for row in others)
    if best.uncalibrated:
        apart = _not_compared([row for row in every if row not in scored])
        return [_no_winner(headline, best), *apart]
    best_in_words = _best_in_words(comparison, headline, best, others, no_overlap=no_overlap)
    first = " ".join((*_without_result(comparison, every), best_in_words))
    chosen, second = _as_good_for_less(others, best, comparison, headline)
    kept = _forgotten(comparison, chosen, best)
    aligned = tax.kept(comparison)
    elsewhere = _on_other_rows(comparison, headline, chosen)
    apart = _not_compared([row for row in every if row not in scored])
    overall = over_metrics(comparison, headline)
    return [*overall, first, second, *kept, *apart, *elsewhere, *([aligned] if aligned else [])]


def _without_result(comparison: Comparison, every: list[Row]) -> list[str]:
    """A sentence that names the trained variants, if none of them has a result."""
    trained = [variant.group for variant in comparison.variants if variant.trained]
    if not trained or {row.group for row in every} & set(trained):
        return []
    named = tax.named([label(group) for group in trained])
    return [f"Nothing can be said of {named}: no result."]


def _not_compared(rows: list[Row]) -> list[str]:
    """One sentence on the variants that cannot be compared, and why."""
    if not rows:
        return []
    reasons: dict[str, list[str]] = {}
    for row in rows:
        reasons.setdefault(line(row.note), []).append(label(row.group))
    listed = "; ".join(f"{tax.named(names)} ({reason})" for reason, names in reasons.items())
    return [f"Not compared with the others: {listed}."]


def _no_winner(headline: Column, best: Row) -> str:
    """The sentence where nothing but a judge's figures was measured, and its error is not known or
    as large as that of guesses."""
    which = "highest" if headline.up else "lowest"
    known = (
        "the judge is not shown to agree with people more than chance does"
        if best.credentials
        else "how well the judge agrees with people is not known"
    )
    return (
        f"No winner is called: the answers were only judged, and {known}."
        f" {label(best.group)} has the {which} {headline.name}: {numbers.both(best.estimate)}."
    )


def _best_in_words(
    comparison: Comparison, headline: Column, best: Row, others: list[Row], *, no_overlap: bool
) -> str:
    """The sentence on the best variant.

    Args:
        no_overlap: no other variant's interval overlaps with the best one's.
    """
    base = label(comparison.against(best.group))
    unit = f" {headline.unit}" if headline.unit else ""
    where = f"{headline.name} ({'higher' if headline.up else 'lower'} is better)"
    trained = next(v.trained for v in comparison.variants if v.group == best.group)
    sure = f"95% intervals, {_sample_size(best, trained=trained)}"
    name, estimate = label(best.group), f"{numbers.both(best.estimate)}{unit}"
    if best.group == comparison.baseline:
        if not others:
            return f"{base} has {estimate} on {where} ({sure}); no other variant was measured."
        if all(row.verdict == "worse" for row in others):
            each = "every other variant is" if others[1:] else f"{label(others[0].group)} is"
            return f"The baseline {base} is best on {where}: {estimate} ({sure}); {each} worse."
        if better := [label(row.group) for row in others if row.verdict == "better"]:
            return (
                f"The baseline {base} has the best estimate on {where}: {estimate} ({sure}); yet on"
                f" the same examples {tax.named(better)} did better."
            )
        return f"No variant beats the baseline {base} on {where}: it has {estimate} ({sure})."
    # If other intervals overlap with its own, or may overlap, it only has the best estimate.
    does = "does best" if no_overlap else "has the best estimate"
    head = f"{name} {does} on {where}: {estimate}"
    if comparison.is_baseline(best.group):  # one baseline for each model
        return f"{head}, a baseline itself ({sure})."
    if best.difference is None:
        return f"{head}, not comparable with {base}: {line(best.note)} ({sure})."
    change = numbers.both(best.difference, signed=True)
    words = {
        "better": f"better than the baseline {base} by {change}",
        "worse": f"yet worse than the baseline {base}, by {change}",
    }
    return f"{head}, {words.get(best.verdict, _no_verdict(best, base, change))} ({sure})."


def _no_verdict(best: Row, base: str, change: str) -> str:
    """The words for a best variant without a verdict: either Holm's adjustment undid the difference
    from the baseline, or none is shown, with the size that would have been detected."""
    if best.shown_alone:
        ps = " and ".join(numbers.probability(p) for p in (best.p, best.p_holm))
        return (
            f"apart from the baseline {base} by itself ({change}), but not once all comparisons of"
            f" the report are counted (p {ps})"
        )
    seen = ""
    if best.detectable is not None and best.difference is not None:
        places = numbers.decimals(best.difference)
        seen = f"; one of {numbers.number(best.detectable, places)} could have been seen"
    return f"but no difference from the baseline {base} is shown ({change}{seen})"


def _sample_size(row: Row, *, trained: bool) -> str:
    examples = f"n\u00a0=\u00a0{row.n:,}"
    if row.clusters != row.n:
        examples += f" in {number_of(row.clusters, 'cluster')}"
    if not trained:  # the untrained model has no training seed
        return examples
    if row.seeds == 1:
        return f"{examples}, 1 seed: about this checkpoint, not the method"
    return f"{examples}, {number_of(row.seeds, 'seed')}"


def _as_good_for_less(
    others: list[Row], best: Row, comparison: Comparison, headline: Column
) -> tuple[Row, str]:
    """Find the variant that is as good as the best one and costs less.

    Returns:
        Its row, or the row of the best if there is none; and the sentences on it.

    A variant is as good if no paired difference sets it apart from the best, whichever of the two
    is the other's baseline and whatever Holm's adjustment makes of it. Where the two were not
    compared on the same examples, their intervals must overlap, or both have the same value. These
    are excluded: a variant without the verdict `better`, if the best has it; and a variant that
    fell below its baseline, if the best did not.

    A variant costs less if it needs less in some respect (parameters, memory, tokens, time) and
    more in none.
    """
    beside = {
        r.group: r.difference for r in comparison.beside_best if r.difference and r.p is not None
    }
    apart = {o.group for o in others if comparison.sets_apart(o.group, best.group, *headline.key)}
    reaching = [
        row
        for row in others
        if (row.group not in apart if row.group in beside else _overlaps(row, best))
    ]
    near = [
        row
        for row in reaching
        if (best.verdict != "better" or row.verdict == "better")
        and (best.fell or not row.fell)
        and row.group not in apart
    ]
    variants = {variant.group: variant for variant in comparison.variants}
    top = variants[best.group]
    compared = {row.group: cheaper.compare_costs(variants[row.group], top) for row in near}
    below = [row for row in near if cheaper.is_cheaper(compared[row.group])]
    front = [
        row
        for row in below
        if not any(cheaper.is_cheaper(cheaper.compare_costs(variants[o.group], variants[row.group]))
                   for o in below)
    ]  # fmt: skip
    mixed = [row for row in near if -1 in compared[row.group].values() and row not in below]
    if all(variant.imported for variant in comparison.variants):
        return best, "What the runs cost is not known, so that none is called cheaper."
    if not front and not mixed:
        paired = bool(others) and all(row.group in beside for row in others)
        why = _none_as_good(others, reaching, near, best, paired=paired)
        return best, f"{why}{label(best.group)} {_training_cost(top)}."
    row = min(front or mixed, key=lambda row: _trained_size(variants[row.group]))
    by = "interval" if row.estimate.meets(best.estimate) else "estimate"
    if row.group in beside:
        by = f"paired difference from it, {numbers.both(beside[row.group], signed=True)}"
    cost = "cheaper" if front else "at other costs"
    more = f" {number_of(len(front) - 1, 'more costs', 'more cost')} less too." if front[1:] else ""
    return row, (
        f"Not shown to be worse by its {by}, and {cost}, is {label(row.group)} ({headline.name}"
        f" {numbers.both(row.estimate)})."
        f" {_differences(variants[row.group], top, compared[row.group])}{more}"
    )


def _overlaps(row: Row, best: Row) -> bool:
    meets = row.estimate.meets(best.estimate)
    return row.estimate.value == best.estimate.value if meets is None else meets


def _none_as_good(
    others: list[Row], reaching: list[Row], near: list[Row], best: Row, *, paired: bool
) -> str:
    """Why no variant is as good for less, as a sentence; empty where there is no other.

    Args:
        paired: all others have a paired difference from the best.
    """
    if paired and not reaching:
        return "On the same examples every other differs from it. "
    unknown = any(row.estimate.meets(best.estimate) is None for row in others)
    by = "interval" if any(row.estimate.meets(best.estimate) for row in reaching) else "estimate"
    by = "paired difference" if paired else by
    if near:
        return f"Of those not shown to be worse by their {by}, none is shown to cost less. "
    if reaching and (best.verdict != "better" or any(r.verdict == "better" for r in reaching)):
        return "Nothing else is known to be as good. "
    if reaching:
        return f"No other whose {by} reaches it is shown better than the baseline too. "
    if unknown:
        return "Who else is as good is not known, as intervals are missing. "
    return "No other interval reaches it. " if others else ""


def _trained_size(variant: VariantResult) -> tuple[bool, float]:
    amount = cheaper.column_of("trainable_parameters").amount(variant)
    return variant.trained, math.inf if amount is None else amount


def _differences(one: VariantResult, best: VariantResult, compared: Mapping[str, int]) -> str:
    """The costs in which a variant differs from the best, each with both amounts, as sentences."""
    if not one.trained:
        return f"It needs no training, while the best {_training_cost(best)}."
    parts = []
    for sign, word in ((-1, "less"), (1, "more")):
        costs = [
            f"{cost.name} ({cost.text(one)} against {cost.text(best)})"
            for key, way in compared.items()
            if way == sign and (cost := cheaper.column_of(key))
        ]
        parts += [f"It takes {word}: {', '.join(costs)}."] if costs else []
    if compared.get("train_seconds") == 0:
        same = comparable(one.timed, best.timed)
        parts.append(
            "In training time no difference beyond its noise is shown." if same else
            "Training times are not compared, as machine, threads or load differ."
        )  # fmt: skip
    return " ".join(parts)


def _training_cost(variant: VariantResult) -> str:
    if not variant.trained:
        return "needs no training"
    if variant.elsewhere:
        return "was trained elsewhere"
    time, weights = (variant.cost.get(key) for key in ("train_seconds", "trainable_parameters"))
    what = "" if weights is None else f" {numbers.count(weights)} parameters"
    return f"trained{what} in {'a time not measured' if time is None else numbers.seconds(time)}"


def _forgotten(comparison: Comparison, chosen: Row, best: Row) -> list[str]:
    """How much the chosen variant and the best one forgot, as a paragraph if a metric measures
    that: each metric on which one of them moved, or the first if none did, and how many others
    there are."""
    rows = table(comparison)
    parts: list[str] = []
    still: list[str] = []
    for column in forgetting(comparison):
        pair = [
            rows.get((group, *column.key)) for group in dict.fromkeys((chosen.group, best.group))
        ]
        measured = [row for row in pair if row is not None and row.difference is not None]
        if not measured:
            continue
        moves = tax.named([f"of {label(row.group)} by {_change(row)}" for row in measured])
        moved = any(row.set_apart for row in measured)
        (parts if moved else still).append(f"{column.name} {column.arrow} {moves}")
    if not parts:
        parts, still = still[:1], still[1:]
    if not parts:
        return []
    said = f"What was forgotten: {'; '.join(parts)}."
    if still:
        many = "one other measure" if len(still) == 1 else f"{len(still)} other measures"
        said += f" On {many} of forgetting no change is shown."
    return [said]


def _change(row: Row) -> str:
    """A difference with its verdict."""
    words = "no change is shown" if row.verdict == "no difference shown" else row.verdict
    if row.shown_alone:
        words += " once all comparisons are counted"
    change = numbers.both(row.difference, signed=True) if row.difference else numbers.MISSING
    return f"{change} ({words})"


def _on_other_rows(comparison: Comparison, headline: Column, chosen: Row) -> list[str]:
    """One sentence on how the chosen variant changed on rows that it was not trained for."""
    variant = next(v for v in comparison.variants if v.group == chosen.group)
    if not variant.trained or variant.elsewhere:  # there are no training rows, or unknown ones
        return []
    rows = table(comparison)
    others = [c for c in columns(comparison) if c.metric == headline.metric]
    parts = []
    for column in others:
        row = rows.get((chosen.group, *column.key))
        if variant.trained_on(column.evaluation) or row is None or not row.difference:
            continue
        parts.append(f"on {label(column.evaluation)} by {_change(row)}")
    if not parts or len(others) < 2:
        return []
    listed = ", ".join(parts)
    return [f"On rows it was not trained for, its {label(headline.metric)} moves {listed}."]
