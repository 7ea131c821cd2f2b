"""A check as Markdown for a pull request: the verdict, what got worse, and the rest folded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from harness.comparison.claims import ClaimVerdict
from harness.comparison.gate import Checked
from harness.core.text import Markdown, label, line, markdown, number_of, prose
from harness.report.check import words

LINES = 20
"""How many lines a summary has at most outside its folded part."""
MARKER = "<!-- finetune-harness check -->"
"""By this hidden mark a later run finds its comment and updates it."""
_HEADS = ("", "metric", "baseline", "candidate", "difference", "claimed", "n")
_SHOWN, _LONG = 8, 300
"""How many claims stand before the fold, and how long a reason may be."""


def summary(checked: Checked, *, name: str = "", folded: bool = True) -> str:
    """The summary: at most 20 lines of at most 7 columns before the folded part.

    Args:
        name: tells several checks of one pull request apart.
        folded: whether the rest stands in a folded part.
    """
    mark = MARKER if not name else MARKER.replace(" -->", f" {_token(name)} -->")
    verdicts = words.ordered(checked.verdicts)
    urgent = [v for v in verdicts if v.verdict != "supported"]
    parts = [
        f"{mark}\n{words.MARKS[checked.outcome]} **{prose(words.headline(checked))}**",
        _table(urgent[:_SHOWN]),
    ]
    rest = [_table([*urgent[_SHOWN:], *(v for v in verdicts if v.verdict == "supported")])]
    reasons = list(dict.fromkeys(
        f"- {markdown(words.metric(v))}: {prose(_cut(words.reason(v)))}" for v in urgent
        if words.reason(v)
    ))  # fmt: skip
    rest += ["\n".join(reasons), _worse(checked)]
    rest.append("\n".join(f"- {prose(note)}" for note in checked.notes))
    inner = "\n\n".join(part for part in rest if part)
    if inner and folded:
        count = len(verdicts)
        parts.append(
            f"<details><summary>{number_of(count, 'claim', 'claims, all of them')}, reasons,"
            f" examples</summary>\n\n{inner}\n\n"
            "</details>"
        )
    return "\n\n".join(part for part in parts if part) + "\n"


def _token(name: str) -> str:
    """The name as an HTML comment can hold it. If that is not the whole name, its digest follows,
    so that two names never mean one comment."""
    token = "".join(c for c in name if c.isalnum() or c in "._ ")[:60]
    if token == name:
        return token
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{token} {digest}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]} …"


def _table(verdicts: Sequence[ClaimVerdict]) -> str:
    if not verdicts:
        return ""
    rules = ["---", "---", "---:", "---:", "---:", "---:", "---:"]
    rows: list[Sequence[str]] = [_HEADS, rules, *map(_row, verdicts)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(verdict: ClaimVerdict) -> list[str]:
    cells = (
        words.OUTCOMES[verdict.verdict],
        words.metric(verdict),
        words.value(verdict.reference, verdict),
        words.value(verdict.estimate, verdict),
        words.difference(verdict),
        words.limit(verdict),
        f"{verdict.n:,}",
    )
    return [str(markdown(label(cell))) for cell in cells]


def _worse(checked: Checked) -> str:
    """The examples that got worse, of each metric the first three."""
    lines = []
    for worse in checked.worse:
        if worse.count:
            first = ", ".join(_code(identifier) for identifier, _, _ in worse.examples[:3])
            lines.append(
                f"- {markdown(worse.metric)}: {worse.count:,} of"
                f" {number_of(worse.of, 'example')} got worse,"
                f" {worse.better:,} better; first {first}"
            )
    return "\n".join(lines[:12])


def _code(identifier: str) -> Markdown:
    return markdown(line(identifier)[:60])
