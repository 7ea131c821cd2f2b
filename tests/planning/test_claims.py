"""Plans resolve the names in claims, and refuse what nothing measures, before anything is spent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import SuiteError
from harness.planning.claims import Column, PlannedClaim, find_column, planned_claims
from harness.planning.columns import _columns
from harness.scorers.lm_eval import LmEval
from harness.suite.claims import Claim
from tests.conftest import Workspace

VARIANTS = {
    "zero-shot": {"model": "m", "method": "none", "objective": "zero-shot"},
    "full-sft": {"model": "m", "method": "full", "objective": "sft", "seed": "0"},
    "lora-sft": {"model": "m", "method": "lora", "objective": "sft", "seed": "0"},
    "lora-dpo": {"model": "m", "method": "lora", "objective": "dpo", "seed": "0"},
    "qlora-sft": {"model": "m", "method": "qlora", "objective": "sft", "seed": "0"},
}
BASELINES = dict.fromkeys(VARIANTS, "zero-shot")
ROUGE = Column("rouge", "rougeL", "tasks")
OTHER = Column("rouge", "rougeL", "other")
FORGETTING = Column("perplexity", "forgetting", "general")
WON = Column("preferred", "preferred", "tasks", even=0.5)
EXAM = Column("lm_eval", "", "pocket/exam", guessed=True)
COLUMNS = {
    name: [ROUGE, OTHER, FORGETTING, EXAM, *([WON] if name != "zero-shot" else [])]
    for name in VARIANTS
}


def test_every_variant_is_compared_with_the_nearest_of_several() -> None:
    """With a base for each of two models, which lie closer to one another than to what is
    trained."""
    base = {"method": "none", "objective": "zero-shot"}
    variants = {
        "zero-shot@m": {"model": "m"} | base, "zero-shot@n": {"model": "n"} | base,
        "full-sft": {"model": "m", "method": "full", "objective": "sft"},
        "lora-sft": {"model": "m", "method": "lora", "objective": "sft", "lora.r": "4"},
    }  # fmt: skip
    claim = Claim.model_validate("every variant is better than zero-shot on forgetting")
    columns = {name: [FORGETTING] for name in variants}
    found = planned_claims([claim], variants, columns, {})
    assert [(planned.variant, planned.against) for planned in found] == [
        ("full-sft", "zero-shot@m"), ("lora-sft", "zero-shot@m"),
    ]  # fmt: skip


def planned(*claims: str | dict[str, Any]) -> list[PlannedClaim]:
    read = [Claim.model_validate(claim) for claim in claims]
    return planned_claims(read, VARIANTS, COLUMNS, BASELINES)


@pytest.mark.parametrize(
    ("line", "pairs"),
    [
        ("lora not_worse full on forgetting", ["lora-sft full-sft"]),
        ("lora* better full-sft on forgetting", ["lora-sft full-sft", "lora-dpo full-sft"]),
        ("dpo better sft on forgetting", ["lora-dpo lora-sft"]),
        ("full better * on forgetting", ["full-sft lora-sft", "full-sft qlora-sft"]),
        ("qlora-sft better baseline on forgetting", ["qlora-sft zero-shot"]),
        ("*-sft better on forgetting", [f"{m}-sft zero-shot" for m in ("full", "lora", "qlora")]),
        ("every variant at_most 9 on forgetting", [f"{name} 9" for name in VARIANTS]),
        ("lora-dpo above chance on pocket/exam", ["lora-dpo chance"]),
        ("lora's state memory at_most 60% of full's", ["lora-sft full-sft"]),
    ],
)
def test_selectors_mean_the_pairs_that_differ_least(line: str, pairs: list[str]) -> None:
    assert [f"{claim.variant} {claim.against}" for claim in planned(line)] == pairs


@pytest.mark.parametrize(
    ("metric", "column"),
    [
        ("rougeL/tasks", ROUGE), ("rouge/rougeL/other", OTHER), ("forgetting", FORGETTING),
        ("perplexity/general", FORGETTING), ("pocket/exam", EXAM),
        ("pocket/exam/acc_norm", Column("lm_eval", "acc_norm", "pocket/exam", guessed=True)),
    ],
)  # fmt: skip
def test_metric_may_be_named_in_several_ways(metric: str, column: Column) -> None:
    (claim,) = planned({"metric": metric, "variant": "lora-sft", "relation": "better"})
    assert (claim.metric, claim.evaluation) == (column.metric, column.evaluation)


RAN = [Column("lm_eval", name, "pocket/exam", guessed=True, first=name == "acc")
       for name in ("acc", "acc_norm")]  # fmt: skip


@pytest.mark.parametrize("columns", [[*RAN], [EXAM, *RAN]], ids=["ran", "ran for some"])
@pytest.mark.parametrize(
    ("metric", "meant"),
    [("pocket/exam", "acc"), ("lm_eval/pocket/exam", "acc"), ("pocket/exam/acc_norm", "acc_norm"),
     ("acc_norm/pocket/exam", "acc_norm"), ("acc", "acc")],
)  # fmt: skip
def test_benchmark_is_called_the_same_once_it_has_run(
    columns: list[Column], metric: str, meant: str
) -> None:
    assert find_column(metric, columns, "claims[0]").metric == meant


@pytest.mark.parametrize("plain", [EXAM, RAN[0]], ids=["new", "ran"])
def test_benchmark_that_is_scored_twice_is_refused_before_it_has_run_and_after(
    plain: Column,
) -> None:
    two = Column("lm_eval", "two", "pocket/exam", guessed=True, first=True, label="two")
    with pytest.raises(SuiteError, match="two/pocket/exam"):
        find_column("pocket/exam", [plain, two], "claims[0]")
    assert find_column("two/pocket/exam", [plain, two], "claims[0]") == two
    assert find_column("acc/pocket/exam", [plain, two], "claims[0]").metric == "acc"


def test_the_first_metric_of_a_benchmark_is_told_by_its_record() -> None:
    told = SimpleNamespace(ok=True, metrics={"metrics": ["acc", "acc_norm"]})
    found = list(_columns(LmEval(tasks=["pocket/exam"]), "pocket/exam", told))
    assert [(column.metric, column.first) for column in found] == [
        ("acc", True),
        ("acc_norm", False),
    ]


def test_metric_that_compares_with_the_baseline_itself_is_held_against_its_even_value() -> None:
    (claim,) = planned("lora-dpo better baseline on preferred")
    assert (claim.against, claim.constant) == ("0.5", 0.5)
    (claim,) = planned("lora-dpo better lora-sft on preferred")
    assert (claim.against, claim.constant) == ("lora-sft", None)


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        ("lroa better full on forgetting", "claims[0].variant: unknown variant 'lroa'; did you"
         " mean 'lora'?"),
        ("lora better ful on forgetting", "claims[0].than: unknown variant 'ful'"),
        ("lora better full on rougeX/tasks", "claims[0].metric: unknown metric"),
        ("lora better full on pocket/exam/acc by -0.1", "claims[0].metric: unknown metric"),
        ("lora better full on rougeL", "say rougeL/other, rougeL/tasks"),
        ("lora better lora on forgetting", "would be compared with itself"),
        ("zero-shot better baseline on forgetting", "would be compared with itself"),
        ("lora better chance on rougeL/tasks", "what guessing reaches on rougeL/tasks"),
        ("lora at_most chance on state_bytes", "nobody guesses a state memory"),
        ("zero-shot better lora-sft on preferred", "zero-shot has no preferred"),
        ({"metric": "forgetting", "variant": {"methd": "lora"}, "relation": "better"},
         "unknown axis 'methd'; did you mean 'method'?"),
        ({"metric": "forgetting", "variant": {"method": "lorra"}, "relation": "better"},
         "claims[0].variant.method: unknown method 'lorra'"),
        ({"metric": "forgetting", "variant": {"method": "full", "objective": "dpo"},
          "relation": "better"}, "no variant has method full, objective dpo"),
    ],
)  # fmt: skip
def test_claim_about_what_is_not_there_is_refused(claim: Any, told: str) -> None:
    with pytest.raises(SuiteError) as error:
        planned(claim)
    assert told in str(error.value)


def test_claims_change_no_stage_and_are_refused_with_their_place(workspace: Workspace) -> None:
    before = [stage.key for stage in workspace.open().plan.stages()]
    workspace.write(claims=["lora not_worse full on rougeL by 0.1",
                            "lora's state memory is at most 90% of full's"])  # fmt: skip
    plan = workspace.open().plan
    assert [stage.key for stage in plan.stages()] == before
    assert [claim.place for claim in plan.claims] == ["claims[0]", "claims[1]"]
    for claim, told in (
        ("lora beter full on rougeL", "claims[0]: 'lora beter full on rougeL' is no claim"),
        ("lora better full on rougX", "claims[0].metric: unknown metric 'rougX'"),
        ({"metric": "rougeL", "variant": "lora", "relaton": "better"}, "did you mean 'relation'?"),
    ):
        workspace.write(claims=[claim])
        with pytest.raises(SuiteError) as error:
            workspace.open()
        assert told in str(error.value)
        assert str(error.value).startswith(str(workspace.path))


def test_claim_about_variants_that_only_leaves_out_is_named(workspace: Workspace) -> None:
    workspace.write(claims=["lora not_worse full on rougeL by 0.1", "lora better on rougeL"])
    plan = workspace.open(only="lora*").plan
    assert [claim.place for claim in plan.claims] == ["claims[1]"]
    assert any("claims[0] is not decided for full-sft" in warning for warning in plan.warnings)
