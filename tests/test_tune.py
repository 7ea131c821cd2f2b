"""Tuning on validation rows, budgets, and which checkpoint is kept."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Workspace, chat_rows, write_jsonl
from test_run import kinds, labels

from harness import session
from harness.errors import SuiteError
from harness.schedule import Outcome
from harness.stage import Stage

TUNE: dict[str, Any] = {
    "trials": 2,
    "search": "grid",
    "space": {"sft.learning_rate": [1e-3, 1e-2], "lora.lora_dropout": [0.0]},
    "metric": "answers",
}


@pytest.fixture
def tuned(workspace: Workspace) -> Workspace:
    """Full and LoRA, two rates each, judged by the perplexity of validation answers."""
    write_jsonl(workspace.folder / "validation.jsonl", chat_rows(200, 8))
    splits = {"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl"}
    workspace.write(
        data={"letters": splits},
        matrix={
            "method": ["full", {"lora": {"r": 2}}],
            "objective": [{"sft": {"per_device_train_batch_size": 8, "max_length": 64}}],
        },
        scorers=["exact_match", {"perplexity": {"label": "answers"}}],
        tune=TUNE,
    )
    return workspace


def selected(outcome: Outcome) -> dict[str, dict[str, Any]]:
    return {r.label: r.metrics for r in outcome.records.values() if r.kind == "select" and r.ok}


def ancestors(stage: Stage) -> set[Stage]:
    return {stage}.union(*(ancestors(source) for source in stage.inputs.values()))


def test_every_method_gets_as_many_trials_and_the_winner_is_not_trained_again(
    tuned: Workspace,
) -> None:
    tuned.write(seeds=[0, 1])
    opened = tuned.open()
    assert {path.train for path in opened.plan.paths} == {None}
    assert "planned once `select` has chosen" in session.describe_plan(opened, why=False)
    outcome = session.run(opened)
    assert not outcome.failed
    chosen = selected(outcome)
    assert {name: len(found["trials"]) for name, found in chosen.items()} == {
        "full-sft": 2,
        "lora-sft": 2,
    }
    # Two trials for each of two methods, and seed 1 of each winner; seed 0 was a trial.
    assert sorted(labels(outcome, "train")) == [
        "full-sft trial 1", "full-sft trial 2", "full-sft#1",
        "lora-sft trial 1", "lora-sft trial 2", "lora-sft#1",
    ]  # fmt: skip
    for path in opened.plan.paths:
        if path.train is not None and path.tuning is not None:
            found = chosen[path.variant.group]
            values = [trial["value"] for trial in found["trials"]]
            assert found["winner"]["value"] == min(values)
            assert path.train.config["objective"] == found["winner"]["config"]["objective"]
            if path.variant.seed == 0:
                trial = path.tuning.trials[found["winner"]["number"] - 1]
                assert path.train in ancestors(trial.scores[0])
    again = tuned.run()
    assert again.ran == []


def test_selection_depends_on_no_test_row(tuned: Workspace) -> None:
    opened = tuned.open()
    tests = {stage for (_, split), stage in opened.plan.data.items() if split == "test"}
    assert tests
    for tuning in opened.plan.tunings():
        assert tuning.select is not None
        assert {stage.kind for stage in tuning.select.inputs.values()} == {"score"}
        assert not tests & ancestors(tuning.select)
    session.run(opened)
    write_jsonl(tuned.folder / "test.jsonl", chat_rows(500, 5))
    assert set(kinds(tuned.run())) == {"contamination", "generate", "score"}
    tuned.tree["data"]["letters"]["validation"] = "test.jsonl"
    with pytest.raises(SuiteError, match="are the test rows"):
        tuned.open()
