"""A check on the terminal: the outcome, a line for each claim, and why."""

from __future__ import annotations

import textwrap
from collections import Counter

from harness.comparison.gate import Checked, Worse
from harness.comparison.result import ALL, Comparison, Row
from harness.core.text import line, number_of
from harness.report import numbers
from harness.report.check import words

WIDTH = 110
_FIRST, _FEW = {"worse": 0, "better": 1}, 5
"""The verdicts that a reader looks for, and from how many metrics on they are counted."""
_MOST, _REASONS, _FALLEN, _NAME = 20, 8, 3, 38
"""How many claims, reasons and metrics with examples it shows, and how wide the name of a metric
is."""


def table(checked: Checked) -> str:
    """The check in at most 110 columns; claims that hold come last, and only the first of them."""
    shown = words.ordered(checked.verdicts)
    kept = shown[:_MOST]
    parts = [words.headline(checked)]
    if kept:
        heads = ("", "metric", "baseline", "candidate", "difference", "claimed", "n")
        rows = [
            (
                words.OUTCOMES[v.verdict],
                _short(words.metric(v)),
                words.value(v.reference, v),
                words.value(v.estimate, v),
                words.difference(v),
                words.limit(v),
                f"{v.n:,}" if v.n else numbers.MISSING,
            )
            for v in kept
        ]
        parts.append(aligned([heads, *rows]))
    if len(shown) > len(kept):
        rest = Counter(words.OUTCOMES[v.verdict] for v in shown[_MOST:])
        told = ", ".join(f"{count} {outcome}" for outcome, count in rest.items())
        parts.append(f"and {len(shown) - len(kept)} more: {told}")
    reasons = [f"{words.metric(v)}: {words.reason(v)}" for v in kept if words.reason(v)]
    parts += _folded(reasons)
    fallen = [w for w in checked.worse if _refuted(checked, w.metric)]
    parts += [_wrap(f"got worse on {line(w.metric)}: {_examples(w)}") for w in fallen[:_FALLEN]]
    parts += [_wrap(f"note: {line(note)}") for note in checked.notes]
    return "\n\n".join(parts).replace(numbers.MINUS, "-").replace("\u00a0", " ")


def rows_table(comparison: Comparison, variant: str) -> str:
    """A line for each metric of one variant against the baseline, those first that differ, and why
    some are not compared."""
    rows = [row for row in comparison.rows if row.group == variant and row.slice == ALL]
    rows.sort(key=lambda row: _FIRST.get(row.verdict, len(_FIRST)))
    base = {(r.metric, r.evaluation): r for r in comparison.rows
            if r.group == comparison.baseline and r.slice == ALL}  # fmt: skip
    heads = ("metric", "baseline", "this", "difference", "p", "p (Holm)", "verdict", "n")
    lines = [heads, *(_line(row, base.get((row.metric, row.evaluation))) for row in rows)]
    parts = [aligned(lines)]
    if len(rows) > _FEW:
        counts = Counter(row.verdict for row in rows)
        told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if verdict)
        parts.insert(0, f"of {number_of(len(rows), 'metric')}: {told}")
    parts += _folded([f"{_metric(row)}: {line(row.note)}" for row in rows if row.note])
    parts += [_wrap(f"note: {line(note)}") for note in comparison.notes]
    return "\n\n".join(parts).replace(numbers.MINUS, "-").replace("\u00a0", " ")


def _metric(row: Row) -> str:
    name = f"{row.metric}/{row.evaluation}" if row.evaluation else row.metric
    return f"{line(name)} {'↑' if row.higher_is_better else '↓'}"


def _line(row: Row, base: Row | None) -> tuple[str, ...]:
    places = numbers.decimals(row.difference or row.estimate)
    gap = numbers.MISSING if row.difference is None else numbers.both(row.difference, signed=True)
    p, holm = (numbers.MISSING if v is None else f"{v:.2g}" for v in (row.p, row.p_holm))
    before = numbers.MISSING if base is None else numbers.number(base.estimate.value, places)
    return (
        _short(_metric(row)), before, numbers.number(row.estimate.value, places), gap, p, holm,
        row.verdict, f"{row.n:,}" if row.n else numbers.MISSING,
    )  # fmt: skip


def _refuted(checked: Checked, metric: str) -> bool:
    return any(
        v.verdict == "refuted" and metric in (v.metric, f"{v.metric}/{v.evaluation}")
        for v in checked.verdicts
    )


def _examples(worse: Worse) -> str:
    first = ", ".join(line(identifier)[:40] for identifier, _, _ in worse.examples[:5])
    return (
        f"{worse.count:,} of {number_of(worse.of, 'example')}, and {worse.better:,} got"
        f" better: {first} ..."
    )


def _folded(reasons: list[str]) -> list[str]:
    """Each reason once, with how many other claims share it."""
    by_text: dict[str, list[str]] = {}
    for reason in reasons:
        name, _, text = reason.partition(": ")
        by_text.setdefault(text, []).append(name)
    parts = []
    for text, names in list(by_text.items())[:_REASONS]:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        parts.append(_wrap(f"{names[0]}{more}: {text}"))
    return parts


def _short(text: str) -> str:
    if len(text) <= _NAME:
        return text
    half = (_NAME - 1) // 2
    return f"{text[:half]}…{text[half + 1 - _NAME :]}"


def aligned(rows: list[tuple[str, ...]]) -> str:
    """The rows as lines, each column as wide as its widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _wrap(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
