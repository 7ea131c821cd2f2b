"""Plans resolve the names in claims, and refuse what nothing measures, before anything is spent."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import SuiteError
from harness.planning.claims import (
    Asked,
    Column,
    PlannedClaim,
    about_these,
    find_column,
    planned_claims,
)
from harness.planning.columns import _columns
from harness.planning.selectors import select
from harness.scorers.base import Scorer
from harness.scorers.lm_eval import LmEval
from harness.suite.claims import COSTS, Claim
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
    asked = planned_claims([claim], variants, columns, {})
    assert [(planned.variant, planned.against) for planned in asked.claims] == [
        ("full-sft", "zero-shot@m"), ("lora-sft", "zero-shot@m"),
    ]  # fmt: skip
    assert asked.notes[0].startswith("claims[0] says nothing of zero-shot@n: ")


def asked(*claims: str | dict[str, Any]) -> Asked:
    read = [Claim.model_validate(claim) for claim in claims]
    return planned_claims(read, VARIANTS, COLUMNS, BASELINES)


def planned(*claims: str | dict[str, Any]) -> tuple[PlannedClaim, ...]:
    return asked(*claims).claims


SELECTORS = (
    *VARIANTS, "lora", "sft", "dpo", "none", "*", "lora*", "*-sft", "[fl]*", "?ora-*", "zero*",
    {"method": ["lora"]}, {"objective": ["sft", "dpo"]}, {"method": ["lora", "qlora"]},
    {"method": ["*lora"], "objective": ["sft"]},
)  # fmt: skip


@pytest.mark.parametrize("than", [*SELECTORS, "baseline"], ids=str)
@pytest.mark.parametrize("variant", SELECTORS, ids=str)
def test_each_variant_that_a_claim_means_is_compared_or_named(variant: Any, than: Any) -> None:
    claim = {"metric": "forgetting", "variant": variant, "relation": "better", "than": than}
    sides = [select(variant, VARIANTS, ""), *([] if than == "baseline" else
                                              [select(than, VARIANTS, "")])]  # fmt: skip
    alone = than == "baseline" and sides[0] == ["zero-shot"]
    if alone or (than != "*" and sides[0] == sides[-1] and len(sides) == 2):
        with pytest.raises(SuiteError, match="would be compared with itself"):
            asked(claim)
        return
    plan = asked(claim)
    paired = {name for one in plan.claims for name in (one.variant, one.against)}
    assert all(one.variant != one.against for one in plan.claims)
    for name in {name for side in sides for name in side} - paired:
        assert re.search(rf"says nothing of .*\b{name}\b", " ".join(plan.notes)), name
    every = [side for side, selector in zip(sides, (variant, than), strict=False)
             if selector == "*"]  # fmt: skip
    assert not every or not plan.notes, "every variant leaves none out"


def test_variants_that_the_suite_does_not_score_by_a_claims_metric_are_named() -> None:
    (note,) = asked("* better lora-sft on preferred").notes
    assert note == "claims[0] says nothing of zero-shot: the suite does not score them by preferred"


@pytest.mark.parametrize(
    ("line", "pairs"),
    [
        ("lora not_worse full on forgetting", ["lora-sft full-sft"]),
        ("lora* better full-sft on forgetting", ["lora-sft full-sft", "lora-dpo full-sft"]),
        ("dpo better sft on forgetting", ["lora-dpo lora-sft"]),
        (
            "full better * on forgetting",
            [f"full-sft {name}" for name in VARIANTS if name != "full-sft"],
        ),
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
    scorer, name = LmEval(tasks=["pocket/exam"]), "pocket/exam"
    found = list(_columns(scorer, name, told, lambda *_: (), guessed=True))
    assert [(column.metric, column.first) for column in found] == [
        ("acc", True),
        ("acc_norm", False),
    ]


def columns_before(task: str, record: object = None, label: str | None = None) -> list[Column]:
    """Of lm-eval's own task, whose file is read."""
    scorer = LmEval(tasks=[task], label=label)

    def reported(scorer: Scorer, task: str) -> Sequence[str]:
        return scorer.reported(task, {})

    return list(_columns(scorer, task, record, reported, guessed=True))


@pytest.mark.parametrize(
    ("task", "wrong", "meant"),
    [
        ("mmlu_anatomy", "accc/mmlu_anatomy", "acc/mmlu_anatomy"),
        ("arc_easy", "arc_easy/acc_nrm", "arc_easy/acc_norm"),
        ("gsm8k", "exact_match,strict/gsm8k", "exact_match,strict-match/gsm8k"),
        ("lambada_openai", "perplexty/lambada_openai", "perplexity/lambada_openai"),
    ],
)  # fmt: skip
def test_metric_that_a_benchmark_will_not_have_is_refused_before_it_runs(
    task: str, wrong: str, meant: str
) -> None:
    columns = columns_before(task)
    with pytest.raises(SuiteError, match=re.escape(f"did you mean '{meant}'?")):
        find_column(wrong, columns, "claims[0]")
    assert find_column(meant, columns, "claims[0]").metric in meant


@pytest.mark.parametrize("label", [None, "five shots"])
@pytest.mark.parametrize("task", ["arc_easy", "gsm8k"])
def test_benchmark_has_the_same_names_before_it_has_run_and_after(
    task: str, label: str | None
) -> None:
    """All names of its metrics, and those that mean the first of them."""
    before = columns_before(task, label=label)
    names = [column.metric for column in columns_before(task) if column.metric]
    ran = SimpleNamespace(ok=True, metrics={"metrics": names})
    after = columns_before(task, ran, label)
    assert [column.metric for column in before if column.metric] == [c.metric for c in after]
    for name in {name for column in [*before, *after] for name in column.names()}:
        one, other = (find_column(name, columns, "claims[0]") for columns in (before, after))
        assert one.metric in ("", other.metric), name
        assert (one.metric == "") <= bool(other.first), name


def test_task_whose_function_makes_its_metrics_may_have_any() -> None:
    """What truthfulqa_mc2 has is told by its code alone."""
    (column,) = columns_before("truthfulqa_mc2")
    assert not column.told
    assert find_column("acc/truthfulqa_mc2", [column], "claims[0]").metric == "acc"


def test_message_on_an_unknown_metric_names_each_cost_once() -> None:
    for name in ("nothing_like_it", "train_secs"):
        with pytest.raises(SuiteError) as error:
            planned(f"lora better full on {name}")
        listed = str(error.value).partition("known: ")[2]
        assert all(len(re.findall(rf"\b{cost}\b", listed)) == 1 for cost in COSTS), listed


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
        ("lora better full on rougeX/tasks", "unknown metric 'rougeX/tasks'; did you mean"
         " 'rougeL/tasks'?"),
        ("lora better full on train_secs", "unknown metric 'train_secs'; did you mean"
         " 'train_seconds'?"),
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


def test_variants_with_the_names_of_what_else_is_compared_are_meant_by_these_names() -> None:
    labels = {"model": "m", "objective": "sft"}
    variants = {name: labels | {"method": name} for name in ("lora", "chance", "baseline")}
    for metric, columns in (("forgetting", [FORGETTING]), ("state_bytes", [])):
        for than in ("chance", "baseline"):
            (one,) = planned_claims(
                [Claim(metric=metric, variant="lora", relation="at_most", than=than)],
                variants, {name: columns for name in variants}, {"lora": "chance"},
            ).claims  # fmt: skip
            assert (one.variant, one.against, one.constant) == ("lora", than, None)


def test_claim_about_a_cost_needs_a_variant_or_a_number_on_the_other_side() -> None:
    (one,) = planned("lora-sft's state memory is at most 9")
    assert (one.metric, one.evaluation, one.cost, one.column) == ("state_bytes", "", True, None)
    assert (one.against, one.constant) == ("9", 9.0)
    with pytest.raises(
        SuiteError, match=re.escape("claims[0].than: a stored baseline has no costs")
    ):
        planned("lora-sft at_most stored:v1 on cost/joules")
    (scored,) = planned("lora-sft at_least stored:v1 on forgetting")
    assert (scored.against, scored.constant, scored.cost) == ("stored:v1", None, False)
    assert scored.column == FORGETTING


def asked_of(columns: dict[str, list[Column]], baselines: dict[str, str], claim: str) -> Asked:
    return planned_claims([Claim.model_validate(claim)], VARIANTS, columns, baselines)


def test_both_sides_must_be_scored_by_the_metric_unless_it_compares_with_the_baseline_itself() -> (
    None
):
    with_it = {name: [ROUGE, WON] if name != "zero-shot" else [] for name in VARIANTS}
    for claim, baselines in (
        ("lora-sft better baseline on rougeL/tasks", BASELINES),
        ("lora-sft better zero-shot on rougeL/tasks", {}),
        ("lora-sft better zero-shot on preferred", {}),
        ("zero-shot better 0.5 on preferred", BASELINES),
    ):
        with pytest.raises(SuiteError, match=r"^claims\[0\].metric: zero-shot has no "):
            asked_of(with_it, baselines, claim)
    (one,) = asked_of(with_it, BASELINES, "lora-sft better zero-shot on preferred").claims
    assert one.constant == 0.5
    (one,) = asked_of(with_it, BASELINES, "lora-sft at_least 0.4 on preferred").claims
    assert one.constant == 0.4
    everyone = {name: [WON] for name in VARIANTS}
    (one,) = asked_of(everyone, BASELINES, "lora-sft better baseline on preferred").claims
    assert (one.against, one.constant) == ("zero-shot", None), "the baseline has a score to compare"


def test_what_is_left_out_as_unscored_is_named_beside_what_is_compared() -> None:
    with_it = {name: [ROUGE] if "sft" in name or name == "zero-shot" else [] for name in VARIANTS}
    plan = asked_of(with_it, BASELINES, "lora* better zero-shot on rougeL/tasks")
    assert [one.variant for one in plan.claims] == ["lora-sft"]
    assert plan.notes == (
        "claims[0] says nothing of lora-dpo: the suite does not score them by rougeL/tasks",
    )


def test_sides_that_mean_the_same_variants_are_one_side() -> None:
    for variant, than in (("sft", "*-sft"), ("lora-sft", "lora-sft"), ("full", "full-sft")):
        with pytest.raises(SuiteError, match="would be compared with itself"):
            planned({"metric": "forgetting", "variant": variant, "relation": "worse", "than": than})
    pairs = {(one.variant, one.against) for one in planned("* better * on forgetting")}
    assert {one for one, _ in pairs} == {*VARIANTS}


BENCHMARK_NAMES = {
    "first, ran": (
        Column("lm_eval", "acc", "t", first=True),
        ["t/acc", "t", "lm_eval/t", "lm_eval/acc/t", "acc/t", "lm_eval/acc", "acc"],
    ),
    "another, ran": (
        Column("lm_eval", "f1", "t", first=False),
        ["t/f1", "lm_eval/f1/t", "f1/t", "lm_eval/f1", "f1"],
    ),
    "first, not ran": (Column("lm_eval", "", "t"), ["t", "lm_eval/t"]),
    "first, labelled, not ran": (
        Column("lm_eval", "", "t", label="few"),
        ["few/t", "few", "t", "lm_eval/t"],
    ),
    "first, labelled, ran": (
        Column("lm_eval", "acc", "t", first=True, label="few"),
        ["few/t", "few", "t/acc", "t", "lm_eval/t", "lm_eval/acc/t", "acc/t", "lm_eval/acc", "acc"],
    ),
    "another, labelled": (
        Column("lm_eval", "f1", "t", first=False, label="few"),
        ["t/f1", "lm_eval/f1/t", "f1/t", "lm_eval/f1", "f1"],
    ),
    "of no benchmark": (
        Column("rouge", "rougeL", "t", label="mine"),
        ["rouge/t", "rouge/rougeL/t", "rougeL/t", "rouge/rougeL", "rougeL"],
    ),
}


@pytest.mark.parametrize(("column", "names"), BENCHMARK_NAMES.values(), ids=BENCHMARK_NAMES)
def test_column_has_the_names_of_the_docs_and_no_others(column: Column, names: list[str]) -> None:
    assert list(column.names()) == names
    others = {name for _, listed in BENCHMARK_NAMES.values() for name in listed} - {*names}
    for name in names:
        assert find_column(name, [column], "claims[0]") == column
    for name in others if column.metric else ():
        with pytest.raises(SuiteError):
            find_column(name, [column], "claims[0]")


def test_benchmark_that_ran_for_some_variants_alone_is_named_by_its_first_metric() -> None:
    """In whichever order its columns come."""
    for columns in itertools.permutations([EXAM, *RAN]):
        assert find_column("pocket/exam", columns, "claims[0]").metric == "acc"
    # Of another run of the same benchmark nothing is known yet.
    again = Column("lm_eval", "", "pocket/exam", guessed=True, label="again")
    assert find_column("again", [*RAN, again], "claims[0]") == again
    with pytest.raises(SuiteError, match=re.escape("say again/pocket/exam, acc/pocket/exam")):
        find_column("pocket/exam", [*RAN, again], "claims[0]")
    with pytest.raises(SuiteError, match=re.escape("METRIC/pocket/exam, again/pocket/exam")):
        find_column("pocket/exam", [EXAM, again], "claims[0]")


def test_metric_that_is_first_for_one_of_two_variants_keeps_the_benchmarks_name() -> None:
    first, second = (Column("lm_eval", "acc", "t", first=place) for place in (True, False))
    for columns in ([first, second], [second, first]):
        assert find_column("t", columns, "claims[0]") == first


def test_half_a_claim_is_no_metric_of_a_benchmark_that_may_have_any() -> None:
    open_ended = Column("lm_eval", "", "t")
    assert find_column("t/exact match", [open_ended], "claims[0]").metric == "exact match"
    for name in ("t/acc by -0.1", "acc within x/t", "t/acc at most", "acc with doubt/t"):
        with pytest.raises(SuiteError, match="unknown metric"):
            find_column(name, [open_ended], "claims[0]")


def test_message_on_an_unknown_metric_lists_the_shortest_name_of_each() -> None:
    with pytest.raises(SuiteError) as error:
        find_column("nothing like it", [ROUGE, OTHER, FORGETTING, *RAN], "claims[0]")
    known = str(error.value).partition("known: ")[2].partition("(")[0]
    assert {*re.split(r"[,;\s]+", known.strip())} >= {"acc", "acc_norm", "forgetting", "rougeL"}
    assert "/" not in known


def test_each_claim_is_decided_for_the_variants_that_are_run_alone() -> None:
    plan = asked("lora* better zero-shot on forgetting", "full-sft at_most 9 on forgetting")
    run = {name: {} for name in VARIANTS if name != "lora-dpo"}
    kept, warnings = about_these(plan.claims, run, VARIANTS)
    assert [(one.variant, one.against) for one in kept] == [
        ("lora-sft", "zero-shot"), ("full-sft", "9"),
    ]  # fmt: skip
    assert warnings == ("claims[0] is not decided for lora-dpo, which --only leaves out",)
    assert about_these(plan.claims, VARIANTS, VARIANTS) == (plan.claims, ())
    assert about_these(plan.claims, {"lora-sft": {}, "lora-dpo": {}}, VARIANTS)[1] == (
        "claims[0] is not decided for zero-shot, which --only leaves out",
        "claims[1] is not decided for full-sft, which --only leaves out",
    )


def test_variants_are_selected_by_axes_but_for_their_seed() -> None:
    assert select({"method": ["full", "lora"], "objective": ["sft"]}, VARIANTS, "") == [
        "full-sft", "lora-sft",
    ]  # fmt: skip
    assert select("m", VARIANTS, "") == [*VARIANTS]
    for selector, told in (({"seed": ["0"]}, "unknown axis 'seed'"), ("0", "unknown variant '0'")):
        with pytest.raises(SuiteError, match=re.escape(told)):
            select(selector, VARIANTS, "claims[0].variant")  # type: ignore[arg-type]
    with pytest.raises(SuiteError, match=r"^claims\[0\].variant: no variant has"):
        select({"method": ["full"], "objective": ["dpo"]}, VARIANTS, "claims[0].variant")


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
    # The metric may be theirs alone, as a win rate over a start is.
    workspace.write(claims=["full better lora on theirs", "lora better on rougeL"])
    plan = workspace.open(only="lora*").plan
    assert [claim.place for claim in plan.claims] == ["claims[1]"]
    assert any("claims[0] is not decided for full-sft" in warning for warning in plan.warnings)
    with pytest.raises(SuiteError, match="unknown metric 'theirs'"):
        workspace.open()
