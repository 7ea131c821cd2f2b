"""What the report says of judges and of preferences over a variant's own start."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from harness.comparison.result import (
    Comparison,
    Estimate,
    JudgedRate,
    Measured,
    PoweredRate,
    SuiteJudge,
    Tax,
)
from harness.core.text import rewrite
from harness.report.formats import markdown
from harness.report.formats.terminal import terminal_table
from harness.report.numbers import MISSING
from harness.report.tables import judges
from harness.report.tables.columns import STAR_NOTE
from harness.report.tables.families import sliced
from harness.report.tables.sheets import results
from tests.comparisons import comparison, row

HALF = Estimate(0.5, 0.4, 0.6)


def test_win_rates_without_a_correction_are_listed_too_and_say_why() -> None:
    known = PoweredRate("lora-sft", "zero-shot", "tasks", 12, 120, 0.7, HALF, HALF, 0.5)
    rates = tuple(
        JudgedRate("judge", one, "zero-shot", "tasks", 120, 0, 60, 0, 60, HALF, HALF)
        for one in ("lora-sft", "full-sft")
    )
    judge = SuiteJudge("judge", "labels.jsonl", 40, rates=(known,))
    sheet = judges.rates(comparison(judges=(judge,), judged_rates=rates))
    told = {line.cells[0].text: [cell.text for cell in line.cells[4:]] for line in sheet.lines}
    assert told["lora-sft"] == ["12 of 120", "0.700", "0.50", "0.50"]
    assert told["full-sft"] == ["fewer than 10 of 120", "0.500", MISSING, MISSING]
    assert "needs 10 labelled examples" in sheet.note
    other = replace(judge, rates=())  # its labels are of no answers of the suite
    assert not judges.rates(comparison(judges=(other,), judged_rates=rates)).lines


def test_a_preference_over_the_start_has_its_verdict_among_the_results() -> None:
    made = comparison()
    lacking = row("lora-sft", "win_rate", 0.6, verdict="incomparable", note="its own start")
    bare = replace(lacking, difference=None)
    over = row("lora-sft", "win_rate", 0.6, verdict="better")
    over = replace(over, difference=Estimate(0.1, 0.05, 0.15))
    tax = Tax("lora-sft", "full-sft", (Measured("preference", over),))
    made = replace(made, rows=(*made.rows, bare), taxes=(tax,))
    sheet = results(made)
    (line,) = (line for line in sheet.lines if line.cells[1].text == "lora-sft")
    cell = line.cells[sheet.headers.index("win_rate\u00a0↑")]
    assert (cell.verdict, cell.change) == ("better", "+0.100 over its start full-sft")
    assert "against one half" in sheet.note
    plain = results(replace(made, taxes=()))
    assert "against one half" not in plain.note


def test_the_star_of_a_preference_over_the_start_is_explained() -> None:
    over = row("lora-sft", "win_rate", 0.6, verdict="no difference shown", note="only 2 seeds")
    rows = (
        row("zero-shot", "rougeL", 0.1, verdict="baseline"), row("lora-sft", "rougeL", 0.4),
        replace(over, difference=None, verdict="incomparable"),
    )  # fmt: skip
    for p, said in ((0.01, "over its start full-sft (*)"),
                    (0.2, "over its start full-sft (only 2 seeds)")):  # fmt: skip
        tax = Tax("lora-sft", "full-sft", (Measured("preference", replace(over, p=p)),))
        sheet = results(comparison(rows=rows, taxes=(tax,)))
        assert said in [cell.change for line in sheet.lines for cell in line.cells]
        assert (STAR_NOTE in sheet.note) == (p < 0.05)


@pytest.mark.parametrize("measured", [("rougeL", "win_rate"), ("win_rate",)])
@pytest.mark.parametrize("p", [0.0001, 0.01])
def test_short_tables_have_the_verdict_of_a_preference_over_the_start(
    measured: tuple[str, ...], p: float
) -> None:
    """As the complete report has it, whether it is the headline or not."""
    verdict = "better" if p < 0.001 else "no difference shown"
    over = row("lora-sft", "win_rate", 0.6, verdict=verdict, p=p)
    rows = [replace(over, difference=None, verdict="incomparable", note="its own start")]
    for metric in measured[:-1]:
        rows = [row("zero-shot", metric, 0.1, verdict="baseline"), row("lora-sft", metric, 0.4),
                *rows]  # fmt: skip
    made = comparison(
        rows=tuple(rows), taxes=(Tax("lora-sft", "full-sft", (Measured("preference", over),)),)
    )
    told = f"{verdict} over its start{'' if p < 0.001 else ' (*)'}"
    summary, printed = markdown.summary(made), terminal_table(made)
    assert told.replace("*", "\\*") in summary
    assert told.replace(" over its start (*)", "* over its start") in printed
    for text in (summary, printed):
        assert "incomparable" not in text
        assert (STAR_NOTE[2:20] in text) == (p > 0.001)


def test_a_table_by_family_has_no_line_of_a_variant_that_was_not_measured() -> None:
    made = comparison()
    rows = tuple(r for r in made.rows if not (r.slice and r.group == "full-sft"))
    (sheet,) = sliced(replace(made, rows=rows))
    assert [line.cells[0].text for line in sheet.lines] == ["zero-shot", "lora-sft"]


def test_the_contents_of_the_markdown_lead_to_each_section() -> None:
    text = markdown.report(comparison())
    contents = next(line for line in text.splitlines() if line.startswith("Contents: "))
    named = re.findall(r"\[([^\]]+)\]\(#([^)]+)\)", contents)
    heads = re.findall(r"^## (.*)$", text, flags=re.M)
    assert [head for head, _ in named] == heads
    assert dict(named)["Differences from zero-shot"] == "differences-from-zero-shot"
    assert "[summary.md](summary.md)" in text.partition("## ")[0]


@pytest.mark.parametrize(("name", "anchor"), [
    ("a&b", "ab"), ("R&D <v2>", "rd-v2"), ("x\u00b2", "x"), ("base_model.1", "base_model1"),
    ("\u0939\u093f\u0928", "\u0939\u093f\u0928"),
])  # fmt: skip
def test_a_section_named_after_a_variant_has_its_anchor_whatever_the_name(
    name: str, anchor: str
) -> None:
    text = markdown.report(renamed(comparison(), "zero-shot", name))
    assert f"(#differences-from-{anchor})" in text


def test_a_section_whose_name_was_used_before_has_the_anchor_of_its_number() -> None:
    assert "[Results](#results-1)" in markdown.report(comparison(suite="Results"))


def renamed(made: Comparison, name: str, other: str) -> Comparison:
    return rewrite(made, lambda text: other if text == name else text)
