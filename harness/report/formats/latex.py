"""The results as a LaTeX table for a paper, with booktabs."""

from __future__ import annotations

from collections.abc import Iterator

from harness.comparison.result import Comparison, Row, VariantResult
from harness.core.text import label, line
from harness.report import numbers
from harness.report.tables import claims
from harness.report.tables.columns import MAIN_COSTS, Column, main, table

_METRICS = 4
_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}", "⟨": "[", "⟩": "]", numbers.MINUS: "$-$", "\u00a0": "~",
    numbers.MISSING: "--", "∞": r"$\infty$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "…": r"\dots{}", "·": r"$\cdot$",
}  # fmt: skip
_MARKS = {"better": r"$^{\blacktriangle}$", "worse": r"$^{\blacktriangledown}$"}


def escape(text: object) -> str:
    """The text as one line without TeX commands, groups, comments or cell separators."""
    return "".join(_SPECIAL.get(character, character) for character in line(text))


def report(comparison: Comparison) -> str:
    """`table` environments, first that of the claims if there are any; they need
    \\usepackage{booktabs,amssymb,textcomp}."""
    head = "% \\usepackage{booktabs,amssymb,textcomp}\n"
    return head + (_claims(comparison) if comparison.claims else "") + _results(comparison)


def _claims(comparison: Comparison) -> str:
    """The verdicts on the claims."""
    heads = ("claim", "verdict", "difference", "p (adjusted)")
    rows = [
        (line(verdict.title), verdict.verdict, claims.difference(verdict),
         numbers.probability(verdict.p_adjusted))
        for verdict in comparison.claims
    ]  # fmt: skip
    lines = [
        r"\begin{table}",
        r"\centering\small",
        r"\begin{tabular}{p{0.45\textwidth}lll}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
        # In braces, as TeX would read a bracket after \\ as a length.
        *(" & ".join(f"{{{escape(cell)}}}" for cell in row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{escape(claims.sheet(comparison).note)}}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n\n"


def _results(comparison: Comparison) -> str:
    metrics, rows = main(comparison, _METRICS), table(comparison)
    heads = ["variant", *(f"{column.name} {column.arrow}" for column in metrics)]
    heads += [cost.name for cost in MAIN_COSTS]
    body = [" & ".join(_cells(v, metrics, rows)) + r" \\" for v in comparison.variants]
    columns = "l" * (1 + len(metrics)) + "r" * len(MAIN_COSTS)
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(escape(head) for head in heads) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{_caption(comparison)}}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _cells(
    variant: VariantResult, metrics: list[Column], rows: dict[tuple[str, str, str], Row]
) -> Iterator[str]:
    width = len(metrics) + len(MAIN_COSTS)
    yield escape(label(variant.group))
    if not variant.has_result:
        reason = label("; ".join(variant.reasons) or "no reason is known")
        yield rf"\multicolumn{{{width}}}{{l}}{{failed: {escape(reason)}}}"
        return
    for column in metrics:
        row = rows.get((variant.group, *column.key))
        if row is None:
            yield "--"
        else:
            # In braces, as TeX would read a bracket after \\ as a length.
            yield f"{{{escape(numbers.both(row.estimate))}}}{_MARKS.get(row.verdict, '')}"
    for cost in MAIN_COSTS:
        yield escape(cost.text(variant))


def _caption(comparison: Comparison) -> str:
    return (
        f"{escape(label(comparison.suite))}: 95\\% intervals;"
        r" $^{\blacktriangle}$ better, $^{\blacktriangledown}$ worse than"
        f" {escape(label(comparison.baseline))}. {escape(comparison.tests)}"
    )
