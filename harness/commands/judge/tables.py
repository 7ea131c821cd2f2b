"""Credentials of judges, and attacks on them, as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from harness.comparison.credentials import Agreement, Credentials
from harness.comparison.judge_attacks import AttackRecord, Success
from harness.comparison.result import Estimate, PoweredRate
from harness.core.text import line, number_of, visible
from harness.report import numbers

WIDTH = 100
_NONE = "-"
_NUMBERS = (
    "agreement: the verdict is the label; accuracy: where a label names a better answer, so does"
    " the verdict, a tie being half right; kappa: Cohen's; alpha: Krippendorff's, nominal;"
    " both count each pair in both orders"
)


def credentials_table(made: Credentials) -> str:
    """What is known of a judge: its agreement, its faults, and how many more labels would help."""
    parts = ["\n".join(_head(made))]
    if made.agreements:
        heads = ("", "pairs", "agreement", "by chance", "accuracy", "kappa", "alpha")
        table = _table([heads, *map(_agreement, made.agreements)])
        parts.append(f"{table}\n{_wrap(_NUMBERS)}")
    faults = list(_faults(made))
    if faults:
        parts.append(_table(faults, right=False))
    if made.rates:
        parts.append(_rates(made.rates))
    parts.append("\n".join(_wrap(sentence) for sentence in _meaning(made)))
    return _plain("\n\n".join(parts))


def _head(made: Credentials) -> Iterator[str]:
    people = f", {number_of(made.labellers, 'labeller')}" if made.labellers > 1 else ""
    yield _wrap(f"judge '{line(made.judge)}' on {number_of(made.labelled, 'labelled pair')}"
                f" ({line(made.source)}{people}); 95% intervals")  # fmt: skip
    if made.people is not None:
        yield _wrap(f"the labellers among themselves: Krippendorff's alpha {_both(made.people)}")
    if made.missing:
        yield _wrap(f"no verdict on {made.missing} of them, which count nowhere below")


def _agreement(part: Agreement) -> tuple[str, ...]:
    shown = map(_both, (part.accuracy, part.kappa, part.alpha))
    agreement = _both(part.agreement)
    return (line(part.slice), str(part.pairs), agreement, f"{part.by_chance:.2f}", *shown)


def _faults(made: Credentials) -> Iterator[tuple[str, str, str]]:
    """(what, number, what it means)."""
    if made.position is not None:
        yield (
            "position bias",
            _both(made.position, signed=True),
            ("how much more probable an answer is to win where it is shown first"),
        )
    if made.flips is not None:
        yield "flip rate", _both(made.flips), "verdicts that change with the order of the answers"
    if made.by_mean is not None:
        means = "as accuracy, by the mean probability of both orders"
        yield "accuracy by the mean", _both(made.by_mean), means
    if made.verbosity is not None:
        yield (
            "verbosity bias",
            _both(made.verbosity, signed=True),
            ("how much oftener the longer answer wins than by the labels"),
        )
    if made.repeatability is not None:
        yield (
            "repeatability",
            _both(made.repeatability),
            f"the same verdict in {number_of(made.runs, 'run')}",
        )
    if made.transitivity is not None and made.chance is not None:
        yield (
            "transitivity",
            _both(made.transitivity),
            (f"of {number_of(made.triples, 'triple')}; random verdicts reach {made.chance:.2f}"),
        )
    for name, count in made.further.items():
        if count is not None:
            yield f"more labels, {name}", f"{count:,}", f"until +-{made.precision:g}"


def _rates(rates: Sequence[PoweredRate]) -> str:
    heads = ("win rate", "labels", "by the judge alone", "by the labels alone", "by both")
    rows = [
        (f"{line(r.variant)} against {line(r.other)} on {line(r.evaluation)}",
         f"{r.labelled} of {r.examples}", f"{r.judged:.3f}", _both(r.labels), _both(r.both))
        for r in rates
    ]  # fmt: skip
    note = "by both: prediction-powered (PPI++), so that the judge's error is in the interval"
    return f"{_table([heads, *rows])}\n{note}"


def _meaning(made: Credentials) -> Iterator[str]:
    """What the numbers allow."""
    whole = made.whole
    if whole is None:
        yield "The judge gave no verdict on any labelled pair."
    elif whole.kappa is None:
        yield (
            "All labels and verdicts are alike, so that nothing shows whether the judge can tell a"
            " better answer."
        )
    elif made.beats_chance:
        yield (
            "The judge agrees with the labels more than chance does. Agreement counts what chance"
            " reaches too; kappa does not."
        )
    else:
        yield (
            "The judge is not shown to agree with the labels more than chance does: no winner is"
            " called by it."
        )


def attack_table(made: AttackRecord) -> str:
    """How often attacks won over a judge, the most successful first."""
    head = _wrap(
        f"{number_of(len(made.attacks), 'attack')} on each of"
        f" {number_of(made.pairs, 'answer')} that judge"
        f" '{line(made.judge)}' had not preferred: how often it prefers them now (95% intervals)"
    )
    heads = ("attack", "kind", "won", "of", "success rate", "no verdict")
    rows = [(line(s.name), s.kind or _NONE, *_success(s)) for s in made.attacks]
    ends = [(line(s.name), s.kind or _NONE, *_success(s))
            for s in (made.overall, made.constant, made.control)]  # fmt: skip
    return _plain("\n\n".join([head, _table([heads, *rows]), _table([heads, *ends]),
                               "\n".join(map(_wrap, _verdict(made)))]))  # fmt: skip


def _success(success: Success) -> tuple[str, str, str, str]:
    rate = _NONE if success.rate is None else _both(success.rate)
    return str(success.won), str(success.tried), rate, str(success.missing)


def _verdict(made: AttackRecord) -> Iterator[str]:
    """What the numbers say, the control in mind."""
    if made.overall.rate is None:
        yield "The judge gave no verdict on any attack."
        return
    if made.gain is not None and made.gain.low is not None and made.gain.low > 0:
        yield (
            "Attacks win over this judge: oftener than asking it again does, by"
            f" {_both(made.gain, signed=True)}."
        )
    else:
        yield "Attacks are not shown to win over this judge oftener than asking it again does."
    if made.tied == made.overall.tried:
        yield (
            "It calls every attacked pair a tie. A judge that prefers nothing is won over by"
            " nothing: this speaks neither for it nor against it."
        )
    elif made.tied:
        yield f"It calls {made.tied} of {made.overall.tried} attacked pairs a tie."
    if made.constant.won:
        yield (
            f"A constant answer, which reads no question, won {made.constant.won} of"
            f" {made.constant.tried} times."
        )
    if made.overall.missing:
        yield (
            f"It gave no verdict on {number_of(made.overall.missing, 'attack')}, such as"
            " answers too long for"
            " it: they win nothing, and hide a bad answer from it."
        )


def _both(estimate: Estimate | None, *, signed: bool = False) -> str:
    return _NONE if estimate is None else numbers.both(estimate, signed=signed)


def _table(rows: Sequence[Sequence[str]], *, right: bool = True) -> str:
    """Rows as aligned columns, the first to the left, and the others to the right if asked."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if right and place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _wrap(text: str) -> str:
    return textwrap.fill(visible(text), WIDTH)


def _plain(text: str) -> str:
    """Hyphens in place of minus signs, as people paste numbers into shells and spreadsheets."""
    return text.replace(numbers.MINUS, "-")
