"""Recipes: what is shared, what starts where, and the objectives that need them, end to end."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from harness import comparison as compare
from harness.commands import run as runs
from harness.commands.list import members
from harness.core import registry
from harness.core.errors import SuiteError
from harness.methods.full import Full
from harness.store.stage import Stage
from tests.conftest import DPO, PPO, REWARD, SFT, Workspace


def trained(workspace: Workspace, *settings: str) -> dict[str, list[Stage]]:
    """Objective -> its training stages in the plan."""
    found: dict[str, list[Stage]] = {}
    for stage in workspace.open(*settings).plan.stages():
        if stage.kind == "train":
            found.setdefault(stage.config["objective"]["name"], []).append(stage)
    return found


def paths(workspace: Workspace, *settings: str) -> dict[str, Stage]:
    return {p.variant.id: p.train for p in workspace.open(*settings).plan.paths if p.train}


# --- what is shared ------------------------------------------------------------------------------


def test_each_sft_is_trained_once_and_the_reward_model_once(aligned: Workspace) -> None:
    counts = {name: len(stages) for name, stages in trained(aligned).items()}
    assert counts == {"sft": 2, "dpo": 2, "ppo": 2, "ppo_ptx": 2, "reward": 1}
    found = paths(aligned)
    for method in ("full", "lora"):
        starts = {found[f"{method}-{o}"].inputs["start"].key for o in ("dpo", "ppo", "ppo_ptx")}
        assert starts == {found[f"{method}-sft"].key}
    assert len({found[f"{m}-ppo"].inputs["reward"].key for m in ("full", "lora")}) == 1


def test_a_recipe_alone_trains_what_the_matrix_would(aligned: Workspace) -> None:
    whole = paths(aligned)
    aligned.tree["matrix"] |= {"objective": [{"dpo": DPO}]}
    aligned.tree.pop("reward_model")
    own = [f"sft.{name}={value}" for name, value in SFT.items()]
    assert paths(aligned, *own)["lora-dpo"].key == whole["lora-dpo"].key


def test_seed_k_starts_from_sft_seed_k(aligned: Workspace) -> None:
    found = paths(aligned, "seeds=[0,1]")
    for seed in (0, 1):
        start = found[f"lora-dpo#{seed}"].inputs["start"]
        assert start.key == found[f"lora-sft#{seed}"].key
        assert start.config["seed"] == seed
    rewards = {found[f"{m}-ppo#{s}"].inputs["reward"].key for m in ("full", "lora") for s in (0, 1)}
    assert len(rewards) == 1


@pytest.mark.parametrize(
    "setting",
    ["matrix.dpo.beta=[0.1,0.5]", "dpo.learning_rate=0.5", "matrix.dpo.loss_type=[sigmoid,ipo]",
     "reward.learning_rate=0.5", "ppo.kl_coef=0.5", "matrix.ppo.kl_coef=[0.1,0.2]"],
)  # fmt: skip
def test_a_later_stage_never_changes_the_key_of_the_one_before(
    aligned: Workspace, setting: str
) -> None:
    before = {stage.key for stage in trained(aligned)["sft"]}
    changed = trained(aligned, setting)
    assert {stage.key for stage in changed["sft"]} == before
    if "reward" not in setting:
        assert changed["reward"] == trained(aligned)["reward"]
    stage = setting.removeprefix("matrix.").split(".")[0]
    assert {s.key for s in changed[stage]} != {s.key for s in trained(aligned)[stage]}


def test_sft_settings_reach_the_sft_of_every_recipe(aligned: Workspace) -> None:
    one = trained(aligned, "sft.learning_rate=0.5")
    assert {s.config["objective"]["learning_rate"] for s in one["sft"]} == {0.5}
    assert len(one["sft"]) == 2
    # A rule on the objective sft means that stage, wherever it stands.
    rule = [{"match": {"objective": "sft", "method": "lora"}, "set": {"sft.learning_rate": 0.25}}]
    aligned.write(overrides=rule)
    found = paths(aligned)
    assert found["lora-dpo"].inputs["start"].config["objective"]["learning_rate"] == 0.25
    assert found["full-dpo"].inputs["start"].config["objective"]["learning_rate"] == 1e-2
    grid = trained(aligned, "overrides=[]", "matrix.sft.learning_rate=[0.1,0.2]")
    assert (
        len(grid["sft"]) == 4 + 1
    )  # and the reward model's own, which no axis of the matrix moves
    assert len(grid["dpo"]) == 4
    assert len(grid["reward"]) == 1


def test_the_reward_model_is_shared_whatever_the_method(aligned: Workspace) -> None:
    grid = trained(aligned, "matrix.lora.r=[2,4,8]")
    assert len(grid["reward"]) == 1
    assert grid["reward"][0].config["method"]["name"] == "lora"
    aligned.write(reward_model={**REWARD, "method": {"lora": {"r": 2}}, "seed": 7})
    own = trained(aligned)
    assert own["reward"][0].config["method"]["r"] == 2
    assert own["reward"][0].config["seed"] == own["reward"][0].inputs["start"].config["seed"] == 7
    assert len(own["sft"]) == 3  # the reward model's SFT is of its own method


def test_start_base_cuts_the_recipe(aligned: Workspace) -> None:
    aligned.tree["matrix"] |= {"objective": [{"dpo": {**DPO, "start": "base"}}]}
    aligned.tree.pop("reward_model")
    opened = aligned.open()
    assert [s.label for s in opened.plan.stages() if s.kind == "train"] == [
        "full-dpo-start=base", "lora-dpo-start=base",
    ]  # fmt: skip
    assert all(path.variant.labels["start"] == "base" for path in opened.plan.paths)
    both = paths(aligned, "matrix.objective=[dpo]", "dpo.data=preferences",
                 "matrix.dpo.start=[base,sft]")  # fmt: skip
    assert set(both["lora-dpo-start=sft"].inputs) == {"train", "start", "reference"}
    assert set(both["lora-dpo-start=base"].inputs) == {"train", "reference"}


def test_a_recipe_may_begin_with_another_objective(aligned: Workspace) -> None:
    aligned.tree["matrix"] |= {"objective": [{"sft": {**SFT, "start": "cpt"}}, {"dpo": DPO}]}
    aligned.tree.pop("reward_model")
    found = paths(aligned, "cpt.data=general")
    sft = found["lora-dpo"].inputs["start"]
    assert sft.key == found["lora-sft-start=cpt"].key
    assert sft.inputs["start"].config["objective"]["name"] == "cpt"
    assert sft.inputs["start"].inputs["train"].label == "general/train"


def test_tuning_the_last_stage_trains_no_sft_again(aligned: Workspace) -> None:
    aligned.tree["data"]["letters"]["validation"] = {"path": "train.jsonl", "rows": [0, 8]}
    aligned.tree["matrix"] |= {"method": ["full"], "objective": [{"dpo": DPO}]}
    aligned.tree.pop("reward_model")
    tune = {"metric": "exact_match", "trials": 3, "space": {"dpo.learning_rate": [0.1, 0.2, 0.3]}}
    aligned.write(tune=tune)
    found = trained(aligned)
    assert len(found["dpo"]) == 3
    assert len(found["sft"]) == 1


def test_objectives_are_listed_with_rows_recipe_and_paper() -> None:
    pages = {name: members("objective", name) for name in registry.names("objective")}
    assert (
        "rows: preference, ranked\nrecipe: base -> sft -> dpo\npaper: arXiv:2305.18290"
        in (pages["dpo"])
    )
    assert "recipe: base -> sft -> ppo, with a reward model" in pages["ppo"]
    assert "recipe: base -> sft\n" in pages["sft"]


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": ["reward"]}, "writes no answers, so it is no variant"),
        ({"objective": [{"dpo": {"start": "sftt"}}]}, "did you mean 'sft'?"),
        ({"objective": [{"dpo": {"start": ["base", "sft"]}}]}, "start"),
        ({"objective": [{"dpo": {"start": "reward"}}]}, "nothing that writes can start from it"),
        ({"objective": [{"sft": {"start": "dpo"}}]}, "starts from itself: sft -> dpo -> sft"),
        ({"objective": [{"dpo": {"data": "preference"}}]}, "did you mean 'preferences'?"),
        ({"objective": ["dpo"], "ppo.kl_coef": [0.1]}, "unknown component 'ppo'"),
        ({"method": ["bitfit"], "objective": ["dpo"]}, "dpo goes on from the checkpoint of sft"),
    ],
)
def test_what_cannot_be_planned_says_why(
    aligned: Workspace, changes: dict[str, Any], said: str
) -> None:
    aligned.tree.pop("reward_model")
    aligned.write(matrix={**aligned.tree["matrix"], **changes})
    with pytest.raises(SuiteError, match=said):
        aligned.open()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"r": 8}, "unknown key 'r'"),
        ({"model": "tin"}, "did you mean 'tiny'?"),
        ({"model": ["tiny"]}, "unknown model"),
        ({"seed": "one"}, "a seed is a whole number"),
        ({"method": "lorra"}, "did you mean 'lora'?"),
        ({"method": "prompt_tuning"}, "a learned prompt works only with the head"),
        ({"method": "bottleneck"}, "trains a plain copy of the reward model"),
    ],
)
def test_a_reward_model_that_cannot_be_says_why(
    aligned: Workspace, section: dict[str, Any], said: str
) -> None:
    aligned.write(reward_model={**REWARD, **section})
    with pytest.raises(SuiteError, match=said.replace("?", r"\?")):
        aligned.open()


def test_a_reward_model_that_nothing_needs_is_an_error(aligned: Workspace) -> None:
    with pytest.raises(SuiteError, match="no objective of the matrix needs a reward model"):
        aligned.open("matrix.objective=[sft]")


def test_rows_are_checked_for_every_stage_before_anything_is_trained(aligned: Workspace) -> None:
    aligned.write(reward_model=SFT)  # its rows: the cell's, which hold no preferences
    with pytest.raises(SuiteError, match="reward trains on preference or ranked rows"):
        aligned.run()
    assert not (aligned.store / "train").exists()


# --- end to end ----------------------------------------------------------------------------------


def reasons(outcome: Any) -> dict[str, str]:
    return {r.label: (r.error or {}).get("message", "") for r in outcome.failed}


@pytest.mark.slow
def test_a_matrix_of_recipes_trains_what_its_plan_says_and_then_nothing(aligned: Workspace) -> None:
    aligned.tree["matrix"] |= {"objective": [{"sft": SFT}, {"dpo": DPO}, {"ppo": PPO}]}
    aligned.write(executor={"local": {"slots": 1, "threads": 1}})
    planned = {s.key for s in aligned.open().plan.stages() if s.kind == "train"}
    outcome = aligned.run()
    assert not reasons(outcome)
    ran = [outcome.records[key] for key in outcome.ran]
    assert {r.key for r in ran if r.kind == "train"} == planned
    kinds = Counter(r.config["objective"]["name"] for r in ran if r.kind == "train")
    assert kinds == {"sft": 2, "reward": 1, "dpo": 2, "ppo": 2}
    opened = aligned.open()
    again = runs.run_stages(opened)
    assert again.ran == []
    took = {r.label: r.cost["phases"]["train"] for r in ran if r.kind == "train"}
    found = {v.group: v for v in compare.compare(opened.plan, again.records, opened.store).variants}
    path = [took[name] for name in ("full-sft", "lora-sft", "lora-reward", "full-ppo")]
    assert found["full-ppo"].cost["train_seconds"] == pytest.approx(sum(path))
    assert found["full-sft"].cost["train_seconds"] == took["full-sft"]


def audit_of(outcome: Any, label: str) -> dict[str, str]:
    record = next(r for r in outcome.records.values() if r.kind == "train" and r.label == label)
    return {check["check"]: check["status"] for check in record.metrics["audit"]}


def planned_training(aligned: Workspace, *objectives: dict[str, Any], method: Any = "full") -> None:
    aligned.tree["matrix"] |= {"method": [method], "objective": list(objectives)}
    if not any("ppo" in objective for objective in objectives):
        aligned.tree.pop("reward_model", None)


@pytest.mark.slow
def test_resumed_stages_are_audited_against_their_start(aligned: Workspace) -> None:
    planned_training(aligned, {"sft": SFT}, {"ppo": PPO}, method={"lora": {"r": 4}})
    outcome = aligned.run()
    assert not reasons(outcome)
    assert "it starts as its starting checkpoint" not in audit_of(outcome, "lora-sft")
    found = audit_of(outcome, "lora-ppo")
    for check in (
        "it starts as its starting checkpoint", "it differs from its start",
        "the reference stayed", "the reward model stayed", "switched off, it is its base",
        "trainable parameters as declared", "training moved every trainable tensor",
        "the checkpoint reloads", "nothing frozen moved",
    ):  # fmt: skip
        assert found[check] == "passed", check
    reward = audit_of(outcome, "lora-reward")
    assert reward["trainable parameters as declared"] == "passed"  # the head among them
    assert reward["gradients reached every trainable tensor"] == "passed"


@pytest.mark.slow
def test_a_failed_start_takes_only_what_goes_on_from_it(aligned: Workspace) -> None:
    aligned.tree["matrix"] |= {"objective": [{"sft": SFT}, {"dpo": DPO}]}
    aligned.tree.pop("reward_model")
    bad = {"sft.args": {"lr_scheduler_kwargs": {"no_such": 1}}}
    rule = {"match": {"method": "lora", "objective": "sft"}, "set": bad}
    aligned.write(overrides=[rule])
    outcome = aligned.run()
    told = reasons(outcome)
    assert told["lora-dpo"].startswith("not run, as its input")
    assert "no_such" in told["lora-dpo"]
    assert all(label.startswith("lora-") for label in told)
    done = {r.label for r in outcome.records.values() if r.kind == "train" and r.ok}
    assert done == {"full-sft", "full-dpo"}


@pytest.mark.slow
def test_a_start_that_is_not_the_checkpoint_fails_before_training(
    aligned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_training(aligned, {"dpo": DPO}, method="full")
    monkeypatch.setattr(Full, "resume", lambda self, base, *_: self.attach(base))
    outcome = aligned.run(f"sft.learning_rate={SFT['learning_rate']}", "sft.max_length=64")
    assert "it starts as its starting checkpoint: relative logit" in reasons(outcome)["full-dpo"]
    failed = next(r for r in outcome.failed if r.kind == "train")
    assert not (aligned.store / "train" / failed.key[:24] / "steps.jsonl").exists()
