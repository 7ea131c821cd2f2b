"""What the small tables promise."""

from __future__ import annotations

import pytest

from harness.comparison.claims import ClaimVerdict
from harness.comparison.result import Estimate
from harness.report.check import words
from harness.report.tables.brief import brief
from harness.report.tables.trials import trials
from harness.suite.claims import parse_claim
from tests.comparisons import comparison, row


def test_the_brief_table_has_ten_columns_at_most() -> None:
    rows = [
        row(name, f"metric {k}", 0.1 * k, verdict=verdict)
        for k in range(12)
        for name, verdict in (("zero-shot", "baseline"), ("full-sft", "better"))
    ]
    sheet = brief(comparison(rows=tuple(rows)))
    assert sheet.headers[:2] == ("variant", "verdict")
    assert len(sheet.headers) == 10
    assert {len(line.cells) for line in sheet.lines if not line.reason} == {10}


def test_the_trial_that_won_is_named_and_a_failed_one_says_why() -> None:
    cost = {"seconds": 2.0, "steps": 30}
    made = [
        {"number": n, "set": {"rate": n / 10}, "status": "ok", "value": 0.1 * n, "cost": cost}
        for n in (1, 2)
    ]
    made.append({"number": 3, "set": {"rate": 9}, "status": "failed", "error": "loss is NaN"})
    tuned = {"group": "lora-sft", "metric": "rougeL", "higher_is_better": True, "total": 3,
             "winner": 2, "trials": made}  # fmt: skip
    lost, won, failed = trials(comparison(tuning=(tuned,))).lines
    assert [cells.cells[-1].text for cells in (lost, won)] == ["not chosen", "won"]
    assert [cells.cells[2].text for cells in (lost, won, failed)] == [
        "rate = 0.1", "rate = 0.2", "rate = 9"
    ]  # fmt: skip
    assert (won.reason, failed.reason) == ("", "loss is NaN")
    assert len(failed.cells) == 3


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("fell", [True, False])
def test_an_open_claim_says_whether_the_metric_fell(up: bool, fell: bool) -> None:
    claim = parse_claim("a not_worse b on m by 0.1")
    sign = 1 if up is not fell else -1
    ends = sorted((sign * 0.02, sign * 0.08))
    verdict = ClaimVerdict(claim, "a", "b", "m", "e", "inconclusive", higher_is_better=up,
                           difference=Estimate(sign * 0.05, *ends))  # fmt: skip
    assert ("it fell" in words.reason(verdict)) is fell
