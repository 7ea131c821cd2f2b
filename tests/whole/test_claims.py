"""A suite's claims are decided when it has run, and claims that are added later run nothing."""

from __future__ import annotations

import pytest

from harness.commands import baseline
from harness.commands import report as reports
from harness.commands.plan import describe_plan
from harness.core.errors import SuiteError
from tests.conftest import Workspace


def test_claims_are_decided_from_scores_and_costs_and_added_without_a_run(
    workspace: Workspace,
) -> None:
    claim = "lora not_worse full on rougeL by 0.2"
    told = describe_plan(workspace.write(claims=[claim]) and workspace.open(), why=False)
    assert "by more than 0.2 (examples not read yet, 1 seed)" in told
    workspace.run()
    workspace.write(
        claims=[
            "lora at_most 90% of full on trainable_parameters",
            "full is at most 50% of lora on trainable parameters",
            "every variant at_least 0.0 on general",
            {"metric": "rougeL", "variant": "lora", "than": "full", "relation": "not_worse",
             "margin": 1.5, "source": "a paper"},
            {"metric": "rougeL", "variant": "lora-sft", "relation": "equal", "margin": "10%"},
        ],
        correction="bh",
    )  # fmt: skip
    opened = workspace.open()
    told = describe_plan(opened, why=False)
    assert "7 claims, each with the smallest difference" in told
    assert "(n 12, 1 seed): sees" in told
    assert "spread as lora-sft has it in the store" in told
    assert "2 about costs, which are not estimated" in told
    assert workspace.run().ran == []
    comparison = reports.compared(opened, reports.stored(opened))
    told = [(v.title.partition(" on ")[0], v.verdict) for v in comparison.claims]
    assert told[:3] == [
        ("lora-sft is at most 90% of full-sft", "supported"),
        ("full-sft is at most 50% of lora-sft", "refuted"),
        ("zero-shot is at least 0", "supported"),
    ]
    assert len(told) == 2 + 3 + 2
    margin = comparison.claims[5]
    assert (margin.verdict, margin.claim.source, margin.level) == (
        "supported", "a paper", "checkpoint",
    )  # fmt: skip
    assert margin.difference.value == pytest.approx(margin.estimate - margin.reference)
    assert comparison.correction == "bh"


def test_claim_about_a_variant_that_failed_is_failed_and_says_why(workspace: Workspace) -> None:
    bad = {"sft.learning_rate": 1e30, "sft.max_grad_norm": 0}
    workspace.write(
        overrides=[{"match": {"method": "lora"}, "set": bad}],
        claims=["lora not_worse full on rougeL by 0.1", "lora at_most full on state_bytes",
                "full at_least -1 on rougeL"],
    )  # fmt: skip
    assert workspace.run().failed
    opened = workspace.open()
    claims = reports.compared(opened, reports.stored(opened)).claims
    assert [claim.verdict for claim in claims] == ["failed", "failed", "supported"]
    assert "train of lora-sft" in claims[0].reason


def test_claim_may_compare_with_a_stored_baseline(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.folder)
    workspace.run()
    baseline.store("main", f"{workspace.path}:full-sft", workspace.store)
    lines = ["lora-sft not_worse stored:main on general by 90%",
             "full-sft equals stored:main on general within 50%"]  # fmt: skip
    workspace.write(claims=lines)
    opened = workspace.open()
    claims = reports.compared(opened, reports.stored(opened)).claims
    assert [claim.against for claim in claims] == ["stored:main"] * 2
    assert {claim.n for claim in claims} == {6}
    assert claims[1].difference.value == 0
    workspace.write(scorers=[{"perplexity": {"data": "general", "label": "general", "stride": 4}}],
                    claims=lines[:1])  # fmt: skip
    workspace.run()
    opened = workspace.open()
    (claim,) = reports.compared(opened, reports.stored(opened)).claims
    assert (claim.verdict, claim.reason.partition(":")[0]) == (
        "incomparable", "not the same scorer",
    )  # fmt: skip
    for line, told in (
        ("lora-sft better stored:mian on general", "did you mean 'main'?"),
        ("lora-sft better stored:../main on general", "unknown stored baseline '../main'"),
        ("lora-sft at_most stored:main on state_bytes", "a stored baseline has no costs"),
    ):
        workspace.write(claims=[line])
        with pytest.raises(SuiteError) as error:
            workspace.open()
        assert told in str(error.value)
