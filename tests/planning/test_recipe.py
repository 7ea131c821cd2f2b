"""A recipe that is told in one method: what is named, planned and trained follows from it alone."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest

from harness.commands.list import members
from harness.core import registry
from harness.core.errors import SuiteError
from harness.objectives.base import Objective
from harness.planning.recipe import trainings
from harness.store.stage import Stage
from harness.variants.names import Names
from tests.conftest import DPO, PPO, REWARD, SFT, Workspace


@pytest.fixture
def best(aligned: Workspace) -> Workspace:
    """The toy plugin's rejection sampling alone, on prompts of the preferences."""
    aligned.tree["matrix"] = {
        "data": ["letters"], "method": [{"lora": {"r": 4}}],
        "objective": [{"best_of": {"data": "preferences"}}],
    }  # fmt: skip
    aligned.tree.pop("reward_model")
    aligned.tree["overrides"] = [{"set": {f"sft.{name}": value for name, value in SFT.items()}}]
    return aligned


def planned(workspace: Workspace, *settings: str) -> dict[str, list[Stage]]:
    """Kind -> stages of the only variant."""
    found: dict[str, list[Stage]] = {}
    (path,) = workspace.open(*settings).plan.paths
    for stage in path.stages():
        found.setdefault(stage.kind, []).append(stage)
    return found


def test_recipe_that_samples_the_base_is_planned_as_it_is_told(best: Workspace) -> None:
    stages = planned(best)
    (sample,), (label,), (train,) = stages["sample"], stages["label"], stages["train"]
    (kept,) = stages["best_answers"]
    assert dict(train.inputs) == {"train": kept}
    assert (dict(kept.inputs), dict(label.inputs)) == ({"labels": label}, {"samples": sample})
    assert set(sample.inputs) == {"data"}
    assert sample.config["model"] == train.config["model"]


def test_same_recipe_from_a_trained_start_with_a_reward_model_that_judges(best: Workspace) -> None:
    best.tree["matrix"]["objective"][0]["best_of"] |= {"start": "sft", "labeller": "reward"}
    stages = planned(best, "reward.data=preferences", "reward.max_steps=1")
    first, reward, last = stages["train"]
    names = [stage.config["objective"]["name"] for stage in (first, reward, last)]
    assert names == ["sft", "reward", "sft"]
    assert last.inputs["start"] == stages["sample"][0].inputs["checkpoint"] == first
    assert stages["label"][0].inputs["reward"] == reward
    assert last.config["objective"] == first.config["objective"]
    assert last.label == "lora-best_of-start=sft"


def test_names_of_a_plugins_recipe_are_known_before_it_is_planned(best: Workspace) -> None:
    page = members("objective", "best_of")
    assert "recipe: base -> sample -> label -> best_answers -> sft\n" in page
    with pytest.raises(SuiteError, match="unknown component 'dpo'"):
        best.open("dpo.beta=0.5")


def test_recipe_that_samples_the_base_trains(best: Workspace) -> None:
    outcome = best.run()
    assert not [(r.label, r.error) for r in outcome.failed]
    kinds = Counter(record.kind for record in outcome.records.values())
    assert (kinds["train"], kinds["sample"], kinds["label"], kinds["best_answers"]) == (1, 1, 1, 1)


def test_every_stage_of_every_recipe_is_among_the_trainings_that_are_checked(
    aligned: Workspace,
) -> None:
    """What is told once is checked as it is planned: pairs, models, rows."""
    for path in aligned.open().plan.paths:
        found = {(t.label, t.objective.name) for t in trainings(path.variant)}
        stages = [stage for stage in path.stages() if stage.kind == "train"]
        assert found == {(s.label, s.config["objective"]["name"]) for s in stages}


def test_model_beside_a_stage_before_the_last_must_fit_it_too(aligned: Workspace) -> None:
    aligned.tree["matrix"] |= {"objective": [{"dpo": {**DPO, "start": "ppo"}}], "method": ["full"]}
    ppo = {f"ppo.{name}": value for name, value in PPO.items()}
    reward = {**REWARD, "method": "bottleneck"}
    aligned.write(overrides=[{"set": ppo}], reward_model=reward)
    with pytest.raises(SuiteError, match="trains a plain copy of the reward model"):
        aligned.open()


def test_labels_may_train_dpo_again(aligned: Workspace) -> None:
    """Rounds: answers of a policy that dpo trained are labelled, and dpo goes on from it."""
    rlaif = {"data": "preferences", "start": "dpo", "then": "dpo", "labeller": "longest"}
    aligned.tree["matrix"] |= {"objective": [{"dpo": DPO}, {"rlaif": rlaif}], "method": ["full"]}
    aligned.tree.pop("reward_model")
    first, second = [path.train for path in aligned.open().plan.paths]
    assert first is not None and second is not None  # noqa: PT018
    assert second.inputs["start"] == first
    assert second.inputs["train"].inputs["samples"].inputs["checkpoint"] == first


@pytest.mark.parametrize(
    "fields",
    [{}, {"start": ["base"]}, {"then": 5}, {"labeller": None}, {"samples": "x", "start": "cpt"}],
)
def test_names_are_taken_down_whatever_the_fields_hold(fields: dict[str, Any]) -> None:
    """A wrong field is refused with its place later, where the objective is made."""
    for name in registry.names("objective"):
        declared = cast(type[Objective], registry.find("objective", name))
        names = Names(declared, {k: v for k, v in fields.items() if k in declared.model_fields})
        assert names.stages
        assert isinstance(names.start_name, str)
