"""Steps that a recipe of a plugin cannot mean: each is refused where the recipe names it."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Annotated, Any, Self

import pytest
from toy_weighted import Weighted

from harness.core import registry
from harness.core.errors import SuiteError
from harness.models.files import ModelPlace
from harness.planning.graph import learnt
from harness.stages.base import Job, NotHashed, StageKind
from tests.conftest import SFT, Workspace


class Deep(StageKind):
    """Reads a checkpoint and its cell; the first of its rows."""

    reads = {"data": "data", "checkpoint": "train"}

    device: str
    first: int
    place: Annotated[ModelPlace, NotHashed]

    def run(self, job: Job[Self]) -> dict[str, Any]:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def deep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind `deep`, as an entry point would bring it."""
    points = registry._entry_points
    added = {"stage": {"deep": EntryPoint("deep", f"{__name__}:Deep", "harness.stages")}}
    monkeypatch.setattr(
        registry, "_entry_points", lambda axis: {**points(axis), **added.get(axis, {})}
    )


@pytest.fixture
def suite(aligned: Workspace) -> Workspace:
    """A suite of an SFT and `weighted`, with a reward model."""
    aligned.write(
        matrix={"data": ["letters"], "method": ["full"], "objective": [{"sft": SFT}, "weighted"]},
        reward_model={"data": "preferences", **SFT},
        scorers=["reward"],
    )
    return aligned


def test_a_stage_after_the_model_as_it_is_has_no_checkpoint_to_read(
    suite: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipe(self: Weighted, r: Any) -> Any:
        start = r.start(self)
        rows = r.stage("deep", reads={"checkpoint": start}, first=3)
        return r.train(self, start=start, rows=rows, reward=r.model("reward"))

    monkeypatch.setattr(Weighted, "recipe", recipe)
    for path in suite.open().plan.paths:
        if path.variant.id == "full-weighted":
            assert path.train is not None
            assert set(path.train.inputs["train"].inputs) == {"data"}


def test_rows_that_a_stage_made_of_an_entry_are_learnt_as_the_entry(
    suite: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the likelihood of the entry's own texts would be taken for what is forgotten."""
    monkeypatch.setattr(Weighted, "recipe", lambda _, r: r.train("sft", rows=r.stage("capitals")))
    suite.tree["matrix"]["objective"] = ["weighted"]
    suite.tree.pop("reward_model")
    suite.write(scorers=["length"])
    assert learnt(suite.open().plan) == {"letters"}


WRONG_STEPS: dict[str, tuple[Any, str]] = {
    "a model read by a stage": (
        lambda r: r.train("sft", rows=r.stage("deep", reads={"data": r.model("reward")}, first=3)),
        "it has a stage of kind 'deep' read what `model` gave",
    ),
    "samples as rows": (
        lambda r: r.train("sft", rows=r.sample(None, samples=2)),
        "it trains on what `sample` gave\n  pass on what `label` or `stage` gave",
    ),
    "a training as a model": (
        lambda r: r.train("ppo", reward=r.train("reward")),
        "it reads, as a model beside a training, what `train` gave",
    ),
    "labels of a training": (
        lambda r: r.train("sft", rows=r.label(r.train("sft"), by="longest")),
        "it labels what `train` gave",
    ),
    "a name as a start": (lambda r: r.train("dpo", start="sft"), "it goes on from what 'sft'"),
    "a role that the kind has not": (
        lambda r: r.train("sft", rows=r.stage("deep", reads={"chekpoint": r.train("sft")})),
        "weighted.deep: unknown input 'chekpoint'; did you mean 'checkpoint'",
    ),
    "an input of another kind": (
        lambda r: r.train(
            "sft",
            rows=r.stage("deep", reads={"checkpoint": r.stage("deep", first=1)}, first=3),
        ),
        "its input 'checkpoint' is made by a stage of kind train, not by one of kind deep",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG_STEPS)
def test_a_step_that_a_recipe_cannot_mean_is_refused_by_the_suite_and_the_recipe(
    suite: Workspace, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    recipe, words = WRONG_STEPS[mistake]
    monkeypatch.setattr(Weighted, "recipe", lambda self, r: recipe(r))
    with pytest.raises(SuiteError) as refused:
        suite.open()
    assert "suite.yaml: the recipe of weighted" in str(refused.value)
    assert words in str(refused.value)
