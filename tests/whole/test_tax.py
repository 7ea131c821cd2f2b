"""What alignment cost: measured against each variant's start, and by one reward model."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import comparison as compare
from harness.commands.session import open_suite
from harness.comparison.result import ALL, Comparison
from harness.core.errors import SuiteError
from harness.planning.graph import Plan
from harness.report.tables import alignment as tax
from harness.scheduling.progress import ConsoleReporter
from harness.scheduling.schedule import execute
from harness.scorers.kl import Kl
from harness.store.stage import Stage
from tests.conftest import DPO, PPO, REWARD, SFT, Workspace, chat_rows, preferences, write_jsonl
from tests.labellers.test_judges import longer

JUDGES = f"{Path(__file__).parents[1] / 'labellers/test_judges.py'}:longer"
SCORERS = [
    "exact_match",
    {"reward": {"data": "preferences"}},
    {"win_rate": {"data": "preferences", "rule": JUDGES}},
    {"perplexity": {"data": "general", "label": "forgetting"}},
    {"kl": {"data": "general"}},
    {"kl": {"data": "general", "to": "start"}},
]


def judged(workspace: Workspace, **changes: Any) -> Workspace:
    """The aligned suite with every scorer of what alignment cost."""
    rows = workspace.tree["data"]["preferences"]
    workspace.tree["data"]["preferences"] = {**rows, "test": "asked.jsonl"}
    write_jsonl(workspace.folder / "asked.jsonl", preferences(8))
    workspace.write(evaluate=["letters", "preferences"], scorers=SCORERS, **changes)
    return workspace


# --- what is planned ------------------------------------------------------------------------------


def scores(planned: Plan, variant: str, scorer: str) -> list[Stage]:
    (path,) = (p for p in planned.paths if p.variant.id == variant)
    return [s.stage for s in path.scores if scorer in (s.scorer, s.label)]


def test_kl_to_the_start_is_to_the_sft_and_an_sft_that_began_at_the_base_has_none(
    aligned: Workspace,
) -> None:
    planned = judged(aligned).open().plan
    trained = {p.variant.id: p.train for p in planned.paths}
    assert scores(planned, "lora-sft", "kl_to_start") == []
    (started,) = scores(planned, "lora-ppo", "kl_to_start")
    assert started.inputs["start"] == trained["lora-sft"]
    assert started.inputs["checkpoint"] == trained["lora-ppo"]
    (based,) = scores(planned, "lora-ppo", "kl_to_base")
    assert set(based.inputs) == {"data", "checkpoint"}
    assert Kl().label == "kl_to_base"
    assert Kl(to="start", label="drift").label == "drift"


@pytest.mark.parametrize("rule", [{}, {"lora.r": 2}])
def test_every_answer_is_rewarded_by_the_policies_own_reward_model(
    aligned: Workspace, rule: dict[str, Any]
) -> None:
    judged(aligned, overrides=[{"match": rule, "set": {"sft.learning_rate": 0.5}}])
    planned = aligned.open("matrix.lora.r=[2,4]").plan
    (policy,) = (p.train for p in planned.paths if p.variant.id == "full-ppo")
    assert policy is not None
    judges = {s.inputs["reward"] for p in planned.paths for s in scores(planned, p.variant.id,
                                                                        "reward")}  # fmt: skip
    assert judges == {policy.inputs["reward"]}
    assert all(len(scores(planned, p.variant.id, "reward")) == 1 for p in planned.paths)


def test_reward_model_is_trained_for_the_scorer_where_no_policy_needs_one(
    aligned: Workspace,
) -> None:
    whole = scores(judged(aligned).open().plan, "lora-dpo", "reward")[0].inputs["reward"]
    aligned.tree["matrix"] |= {"objective": [{"sft": SFT}, {"dpo": DPO}]}
    planned = aligned.open().plan
    assert scores(planned, "lora-dpo", "reward")[0].inputs["reward"] == whole
    assert [judge.recipe.objective.name for judge in planned.judges] == ["reward"]
    with pytest.raises(SuiteError, match="needs a reward model, and no scorer"):
        aligned.open("scorers=[exact_match]")


def test_a_start_that_is_no_variant_is_scored_all_the_same(aligned: Workspace) -> None:
    judged(aligned)
    (listed,) = (p for p in aligned.open().plan.paths if p.variant.id == "lora-sft")
    aligned.tree["matrix"] |= {"objective": [{"dpo": DPO}]}
    own = [f"sft.{name}={value}" for name, value in SFT.items()]
    planned = aligned.open(*own).plan
    assert [p.variant.id for p in planned.starts] == ["full-sft", "lora-sft"]
    assert [s.stage for s in planned.starts[1].scores] == [s.stage for s in listed.scores]
    assert set(planned.starts[1].results()) <= set(planned.stages())
    (won,) = scores(planned, "lora-dpo", "win_rate")
    assert won.inputs["start"] == listed.generate["preferences"]


def test_a_start_that_an_override_changed_is_told_from_the_variant_of_its_name(
    aligned: Workspace,
) -> None:
    judged(aligned, overrides=[{"match": {"objective": "dpo"}, "set": {"sft.learning_rate": 0.5}}])
    aligned.tree["matrix"] |= {"objective": [{"sft": SFT}, {"dpo": DPO}, {"ppo": PPO}],
                               "method": ["full"]}  # fmt: skip
    planned = aligned.open("seeds=[0,1]").plan
    paths = {p.variant.id: p for p in planned.paths}
    starts = {name: p.start for name, p in paths.items() if p.start is not None}
    for seed in (0, 1):
        plain, own = starts[f"full-ppo#{seed}"], starts[f"full-dpo#{seed}"]
        assert plain.train == paths[f"full-sft#{seed}"].train != own.train
        assert plain.variant.group == "full-sft"
        assert own.variant.group == "full-sft (start of full-dpo)"
        assert own.variant.id == f"full-sft (start of full-dpo)#{seed}"
    assert [p.variant.id for p in planned.starts] == [
        f"full-sft (start of full-dpo)#{seed}" for seed in (0, 1)
    ]
    assert set(planned.starts[0].results()) <= set(planned.stages())


@pytest.mark.parametrize(
    ("scorer", "setting", "told"),
    [
        ({"win_rate": {"rule": "nowhere.py:f"}}, "", "there is no file 'nowhere.py'"),
        ({"win_rate": {"rule": "better"}}, "", "rule"),
        ({"reward": {"data": "general"}}, "", "add 'general' to `evaluate:`"),
        ("reward", "matrix.reward.learning_rate=[0.1,0.2]", "several reward models"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_spent(
    aligned: Workspace, scorer: Any, setting: str, told: str
) -> None:
    judged(aligned)
    aligned.write(scorers=["exact_match", scorer])
    with pytest.raises(SuiteError) as found:
        aligned.open(*([setting] if setting else []))
    assert told in f"{found.value}"


def test_pocket_alignment_plans_what_alignment_costs(tmp_path: Path) -> None:
    planned = open_suite("pocket/alignment", (), tmp_path, None, None).plan
    for path in planned.paths:
        measured = {s.shows for s in path.scores}
        assert {"reward", "from_base", "language", "diversity"} <= measured
        of_start = {"preference", "from_start"} & measured
        assert of_start == ({"preference", "from_start"} if path.start is not None else set())
    assert {p.variant.id for p in planned.paths if p.start is None} == {
        f"{method}-sft" for method in ("full", "lora", "qlora", "bottleneck")
    }
    assert planned.starts == ()


# --- what is measured -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Any:
    """A base, an SFT and a DPO of full fine-tuning, scored: the baseline is the untrained model."""
    folder = tmp_path_factory.mktemp("aligned")
    write_jsonl(folder / "train.jsonl", chat_rows(0, 24))
    write_jsonl(folder / "test.jsonl", chat_rows(100, 12))
    write_jsonl(folder / "general.jsonl", [{"text": f"text number {i}"} for i in range(8)])
    write_jsonl(folder / "preferences.jsonl", preferences(24))
    write_jsonl(folder / "asked.jsonl", preferences(8))
    tree = {
        "name": "tiny",
        "models": {"tiny": str(tiny_model)},
        "data": {
            "letters": {"train": "train.jsonl", "test": "test.jsonl"},
            "general": {"test": "general.jsonl"},
            "preferences": {"train": "preferences.jsonl", "test": "asked.jsonl"},
        },
        "matrix": {
            "data": ["letters"],
            "method": ["full"],
            "objective": [{"sft": SFT}, {"dpo": DPO}],
        },
        "reward_model": {**REWARD, "method": "full"},
        "base": {"zero-shot": {"max_new_tokens": 4}},
        "evaluate": ["letters", "preferences"],
        "scorers": SCORERS,
        "generate": {"max_new_tokens": 4},
        "executor": "inline",
    }
    workspace = Workspace(folder, tree)
    outcome = workspace.run()
    assert not outcome.failed, [r.error for r in outcome.failed]
    opened = workspace.open()
    made = compare.compare(opened.plan, outcome.records, opened.store)
    return SimpleNamespace(workspace=workspace, opened=opened, outcome=outcome, comparison=made)


def table(ran: Any, stage: Stage) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(stage.path(ran.opened.store.root) / "scores.parquet").to_pylist()


def predictions(ran: Any, variant: str) -> list[dict[str, Any]]:
    (path,) = (p for p in ran.opened.plan.paths if p.variant.id == variant)
    file = path.generate["preferences"].path(ran.opened.store.root) / "predictions.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_rewards_are_those_of_the_reward_models_own_forward_pass(ran: Any) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    (stage,) = scores(ran.opened.plan, "full-dpo", "reward")
    checkpoint = stage.inputs["reward"].path(ran.opened.store.root) / "checkpoint"
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    found = table(ran, stage)
    assert len({line["reward"] for line in found}) > 1
    for line, said, asked in zip(found, predictions(ran, "full-dpo"), preferences(8), strict=True):
        assert line["example_id"] == said["id"] == asked["id"]
        prompt = asked["prompt"]
        text = prompt if isinstance(prompt, str) else tokenizer.apply_chat_template(
            prompt, tokenize=False, add_generation_prompt=True
        )  # fmt: skip
        text += said["text"] + ("" if said["finish"] == "length" else "<|end|>")
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            assert line["reward"] == pytest.approx(model(ids).logits.item(), abs=1e-5)


def test_a_variant_that_is_its_start_has_not_moved_from_it(ran: Any) -> None:
    (moved,) = scores(ran.opened.plan, "full-dpo", "kl_to_start")
    still = replace(
        moved, inputs={**moved.inputs, "checkpoint": moved.inputs["start"]}, label="still"
    )
    with open(os.devnull, "w") as nowhere:
        outcome = execute(
            [still], [still], ran.opened.plan.executor, ran.opened.store,
            ConsoleReporter(nowhere), ran.workspace.folder / "log.txt",
        )  # fmt: skip
    assert not outcome.failed, [r.error for r in outcome.failed]
    assert [line["kl"] for line in table(ran, still)] == [0.0] * 8
    assert sum(line["kl"] for line in table(ran, moved)) > 0


def test_win_rate_counts_each_prompt_and_half_a_tie(ran: Any) -> None:
    (stage,) = scores(ran.opened.plan, "full-dpo", "win_rate")
    own, start = (predictions(ran, name) for name in ("full-dpo", "full-sft"))
    wanted = [
        0.5 + longer({}, mine["text"], theirs["text"]) / 2
        for mine, theirs in zip(own, start, strict=True)
    ]
    assert [line["win_rate"] for line in table(ran, stage)] == wanted
    made = ran.outcome.records[stage.key].provenance["scorer"]
    assert made["tied"] == wanted.count(0.5)
    assert sum(made.values()) == 8


def test_differences_are_from_the_start_and_not_from_the_baseline(ran: Any) -> None:
    made: Comparison = ran.comparison
    (cost,) = made.taxes
    assert (cost.group, cost.start, made.baseline) == ("full-dpo", "full-sft", "zero-shot")
    found = {(m.kind, m.row.metric): m.row for m in cost.measures if m.row.slice == ALL}
    assert list(found) == [
        ("reward", "reward"), ("preference", "win_rate"), ("from_start", "kl_to_start"),
        ("from_base", "kl_to_base"), ("language", "forgetting"), ("answers", "exact_match"),
    ]  # fmt: skip
    for kind, metric in (("reward", "reward"), ("from_base", "kl_to_base"),
                         ("language", "forgetting"), ("answers", "exact_match")):  # fmt: skip
        got = found[kind, metric]
        own, start, base = (
            made.row(name, metric, got.evaluation).estimate.value
            for name in ("full-dpo", "full-sft", "zero-shot")
        )
        assert got.difference is not None
        assert got.difference.value == pytest.approx(own - start, abs=1e-9)
        assert metric == "exact_match" or start != pytest.approx(base)
    won = found["preference", "win_rate"]
    assert won.difference is not None
    assert won.difference.value == pytest.approx(won.estimate.value - 0.5)
    assert found["from_start", "kl_to_start"].difference is None
    # Aligned on preferences: what it lost is told of the other rows, family by family.
    families = [m.row for m in cost.measures if m.kind == "answers" and m.row.slice != ALL]
    assert {(r.evaluation, r.slice) for r in families} == {("letters", "even"), ("letters", "odd")}


def test_start_that_failed_leaves_figures_without_differences(ran: Any) -> None:
    (path,) = (p for p in ran.opened.plan.paths if p.variant.id == "full-sft")
    lost = {s.stage.key for s in path.scores if s.scorer == "reward"}
    records = {
        k: r.model_copy(update={"status": "failed", "error": {"message": "lost"}})
        if k in lost else r
        for k, r in ran.outcome.records.items()
    }  # fmt: skip
    made = compare.compare(ran.opened.plan, records, ran.opened.store)
    found = {m.kind: m.row for m in made.taxes[0].measures}
    assert found["reward"].difference is None
    assert found["reward"].note == "its start has no result here"
    assert found["language"].difference is not None
    shown = tax.sheet(made).lines[0].cells[3]
    assert (shown.verdict, shown.change) == ("incomparable", "its start has no result here")
