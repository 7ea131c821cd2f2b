"""A scorer asks for what it reads, and gets that and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from toy_asking import Everything

from harness.core.errors import HarnessError, StageFailed, SuiteError
from harness.planning.graph import Plan
from harness.scorers.base import Asked, ScoreJob, Subject
from harness.stages._predictions import read_predictions
from harness.store.stage import Record, Stage
from tests.conftest import DPO, SFT, Workspace, preferences, write_jsonl
from tests.labellers.test_judges import longer

RULE = f"{__file__.replace('scorers/test_asks', 'labellers/test_judges')}:longer"


def scores(planned: Plan, variant: str, scorer: str) -> list[Stage]:
    (path,) = (p for p in planned.paths if p.variant.id == variant)
    return [s.stage for s in path.scores if s.scorer == scorer]


def answers(planned: Plan, variant: str, entry: str = "letters") -> Stage:
    (path,) = (p for p in planned.paths if p.variant.id == variant)
    return path.generate[entry]


@pytest.fixture
def asking(aligned: Workspace) -> Workspace:
    """Full SFT and DPO beside the base, and a scorer that asks for everything."""
    rows = aligned.tree["data"]["preferences"]
    aligned.tree["data"]["preferences"] = {**rows, "test": "asked.jsonl"}
    write_jsonl(aligned.folder / "asked.jsonl", preferences(4))
    objectives = [{"sft": SFT}, {"dpo": DPO}]
    aligned.write(
        matrix={"data": ["letters"], "method": ["full"], "objective": objectives},
        base={"zero-shot": {"max_new_tokens": 4}}, evaluate=["preferences"],
        scorers=["length", {"everything": {"rule": RULE}}],
    )  # fmt: skip
    return aligned


def test_all_that_a_scorer_asks_for_arrives(asking: Workspace) -> None:
    outcome, opened = asking.run(), asking.open()
    assert not outcome.failed, [record.error for record in outcome.failed]
    (scored,) = scores(opened.plan, "full-dpo", "everything")
    values = {n: m["value"] for n, m in outcome.records[scored.key].metrics["metrics"].items()}
    assert values["from_base"] == values["from_baseline"] > 0
    assert values["from_start"] > 0
    assert values["from_start"] != values["from_base"]
    said = {
        name: read_predictions(stage.path(opened.store.root))
        for name, stage in scored.inputs.items()
        if stage.kind == "generate"
    }
    assert said["other"] == said["plain"]  # the baseline is the untrained model
    pairs = list(zip(said["predictions"], said["other"], strict=True))
    signs = [longer({}, one.text, other.text) for one, other in pairs]
    assert values["by_rule"] == sum(0.5 + 0.5 * sign for sign in signs) / len(signs)
    assert 0 <= values["by_judge"] <= 1
    assert scores(opened.plan, "full-sft", "everything") == []
    assert scores(opened.plan, "zero-shot", "everything") == []


def test_what_is_asked_for_are_inputs_by_the_names_that_the_scorer_gave(asking: Workspace) -> None:
    planned = asking.open().plan
    (scored,) = scores(planned, "full-dpo", "everything")
    trained = {p.variant.id: p.train for p in planned.paths}
    entry = "preferences"
    assert scored.inputs["predictions"] == answers(planned, "full-dpo", entry)
    assert scored.inputs["before"] == answers(planned, "full-sft", entry)
    assert scored.inputs["other"] == answers(planned, "zero-shot", entry)
    assert scored.inputs["checkpoint"] == trained["full-dpo"]
    assert scored.inputs["start"] == trained["full-sft"]
    assert scored.inputs["reward"].config["objective"]["name"] == "reward"
    # The base's model is known by the checkpoint, the baseline's is no input: nothing made it.
    assert set(scored.inputs) == {
        "predictions", "before", "plain", "other", "data", "checkpoint", "start", "reward",
    }  # fmt: skip
    assert set(scored.config["others"]) == {"baseline"}


@pytest.mark.parametrize(
    ("judge", "inputs"), [("longest", set()), ("reward", {"judge.reward"}), ("judge", set())]
)
def test_a_labeller_of_a_scorer_brings_the_models_that_it_reads(
    asking: Workspace, judge: str, inputs: set[str]
) -> None:
    asking.write(scorers=["length", {"everything": {"rule": RULE, "judge": judge}}])
    planned = asking.open().plan
    (scored,) = scores(planned, "full-dpo", "everything")
    assert {role for role in scored.inputs if role.startswith("judge")} == inputs
    assert scored.config["scorer"]["judge"]["name"] == judge
    assert ("judge" in scored.config["others"]) == (judge == "judge")


def test_a_labeller_of_a_scorer_reads_the_suites_reward_model(asking: Workspace) -> None:
    asking.write(scorers=["length", {"everything": {"rule": RULE, "judge": "reward"}}])
    outcome = asking.run()
    assert not outcome.failed, [record.error for record in outcome.failed]
    (scored,) = scores(asking.open().plan, "full-dpo", "everything")
    record: Record = outcome.records[scored.key]
    assert 0 < record.metrics["metrics"]["by_judge"]["value"] < 1


@pytest.mark.parametrize(
    ("judge", "told"),
    [("longst", "did you mean 'longest'"), ({"judge": {"model": "tny"}}, "did you mean 'tiny'")],
)
def test_a_labeller_that_is_not_there_is_refused_with_its_place(
    asking: Workspace, judge: Any, told: str
) -> None:
    asking.write(scorers=["length", {"everything": {"rule": RULE, "judge": judge}}])
    with pytest.raises(SuiteError, match=told) as refused:
        asking.open()
    assert "scorers[1].everything.judge" in str(refused.value)


def test_what_was_not_asked_for_is_not_there() -> None:
    with pytest.raises(StageFailed, match="did you mean 'answers'"):
        ScoreJob({"answers": []}).answers("answer")


@pytest.mark.parametrize(
    ("asks", "told"),
    [
        ({}, "asks for no rows and for no answers"),
        ({"data": Subject().start().answers()}, "cannot call what it asks for 'data'"),
        ({"a.b": Subject().answers()}, "cannot call what it asks for 'a.b'"),
    ],
)
def test_names_that_a_stage_has_of_its_own_are_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, asks: dict[str, Asked], told: str
) -> None:
    from toy_scorer import Length

    monkeypatch.setattr(Length, "asks", lambda self, of: asks)
    workspace.write(scorers=["exact_match", "length"])
    with pytest.raises(HarnessError, match=told):
        workspace.open()


def test_the_baselines_model_can_be_asked_for_on_rows_that_nobody_answers(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toy_scorer import Length

    of = Subject()
    asks = {"model": of.model(), "rows": of.rows(), "baseline": of.baseline().model()}
    monkeypatch.setattr(Length, "asks", lambda self, of: asks)
    workspace.write(scorers=["exact_match", {"length": {"data": "general"}}], baseline="lora-sft")
    planned = workspace.open().plan
    trained = {path.variant.id: path.train for path in planned.paths}
    for variant in ("zero-shot", "full-sft"):
        (scored,) = scores(planned, variant, "length")
        assert scored.inputs["baseline"] == trained["lora-sft"]
    assert scores(planned, "lora-sft", "length") == []


@pytest.mark.parametrize("kind", ["rule", "function", "folder"])
def test_a_file_that_a_scorer_names_must_be_there_though_no_variant_is_scored(
    asking: Workspace, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    named = "nowhere" if kind == "folder" else "nowhere.py:better"

    def asks(self: Everything, of: Subject) -> dict[str, Asked]:
        return {"before": of.start().answers(), "named": getattr(of, kind)(named)}

    monkeypatch.setattr(Everything, "asks", asks)
    asking.tree["matrix"]["objective"] = [{"sft": SFT}]  # which has no start
    asking.tree.pop("reward_model")
    with pytest.raises(SuiteError, match=r"suite.yaml: scorers\[1\].everything.named: .*nowhere"):
        asking.open()


def test_divergence_is_from_the_start_or_from_the_base_as_it_is_asked(asking: Workspace) -> None:
    kinds = [{"kl": {"to": to, "data": "preferences"}} for to in ("start", "base")]
    del asking.tree["reward_model"]  # nothing reads one here
    asking.write(scorers=kinds)
    planned = asking.open().plan
    trained = {p.variant.id: p.train for p in planned.paths}
    to_start, to_base = scores(planned, "full-dpo", "kl")
    assert to_start.inputs["start"] == trained["full-sft"]
    assert "start" not in to_base.inputs
    (alone,) = scores(planned, "full-sft", "kl")  # it starts from the base
    assert "start" not in alone.inputs
