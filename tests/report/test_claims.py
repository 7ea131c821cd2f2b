"""Every format of the report opens with the verdicts on the claims, and escapes their names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.comparison import Comparison
from harness.comparison.result import ClaimVerdict, Estimate
from harness.report.examples import shown
from harness.report.formats import html, latex, markdown
from harness.report.formats.terminal import WIDTH, terminal_table
from harness.suite.claims import parse_claim
from tests.comparisons import HOSTILE, comparison


def decided() -> Comparison:
    lora = ClaimVerdict(
        parse_claim("lora not_worse full on rougeL by 0.02"), "lora-sft", "full-sft", "rougeL",
        "tasks", "supported", 0.401, 0.412, Estimate(-0.011, -0.018, -0.004), 0.001, 0.003,
        300, 300, 1, "checkpoint", 0.012, None, "about one checkpoint only",
    )  # fmt: skip
    cost = replace(
        lora, claim=parse_claim("lora at_most 60% of full on state_bytes"), metric="state_bytes",
        verdict="refuted", estimate=9 * 2**20, reference=10 * 2**20, level="cost", p=None,
        p_adjusted=None, detectable=None, difference=Estimate(3e6, 3e6, 3e6), n=0, reason="",
    )  # fmt: skip
    close = replace(
        lora, claim=parse_claim("lora better full on rougeL"), verdict="inconclusive", needed=2345
    )
    return comparison(claims=(lora, cost, close))


FORMATS = {
    "terminal": terminal_table,
    "summary.md": markdown.summary,
    "report.md": markdown.report,
    "comparison.tex": latex.report,
    "index.html": lambda made: html.page(made, shown(made)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_report_opens_with_the_verdicts(name: str) -> None:
    text = FORMATS[name](decided())
    claim = text.index("lora-sft is not worse than full-sft on rougeL by more than 0.02")
    first_result = {"comparison.tex": r"\begin{tabular}{lll"}.get(
        name, "full-sft has the best estimate"
    )
    assert claim < text.index(first_result)
    for word in ("supported", "refuted", "inconclusive", "9.0 MiB against 10.0 MiB"):
        assert word in text
    assert "lora-sft is not worse than" not in FORMATS[name](comparison())


def test_terminal_says_how_many_more_examples_would_do_and_keeps_its_width() -> None:
    text = terminal_table(decided())
    assert text.startswith("Of 3 claims: 1 refuted, 1 inconclusive, 1 supported.\n")
    assert "some 2,400 more examples would decide it" in " ".join(text.split())
    claims = text.partition("\n\n")[0]
    assert max(map(len, claims.splitlines())) <= WIDTH


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_in_claims_do_nothing(text: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        pytest.skip("no YAML holds it")
    made = decided()
    hostile = replace(
        made.claims[0], variant=text, reason=text,
        claim=made.claims[0].claim.model_copy(update={"source": text}),
    )  # fmt: skip
    page = html.page(replace(made, claims=(hostile,)), None)
    assert "<script>document" not in page
    assert "<img src=x" not in page
    for form in FORMATS.values():
        form(replace(made, claims=(hostile,)))
