"""What the small tables promise."""

from __future__ import annotations

from harness.report.tables.brief import brief
from harness.report.tables.trials import trials
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
