"""A plugin adds a member of every axis, and a kind of stage, each by one file (tests/plugin)."""

from __future__ import annotations

from importlib.metadata import EntryPoint, distribution
from typing import Annotated, Any, Self

import pytest
from toy_weighted import Weighted

from harness.core import registry
from harness.core.component import AXES, NotHashed
from harness.core.errors import SuiteError
from harness.models.files import ModelPlace
from harness.planning.code import executes
from harness.stages.base import Job, StageKind
from harness.store.made_by import CODE
from tests.conftest import SFT, Workspace, preferences, write_jsonl

ADDED = {
    "method": "bitfit", "objective": "weighted", "scorer": "longer", "labeller": "longest",
    "executor": "inline", "stage": "capitals",
}  # fmt: skip


def test_each_addition_is_one_file_behind_an_entry_point() -> None:
    points = {
        (point.group, point.name): point.module for point in distribution("toy-plugin").entry_points
    }
    modules = [points[f"harness.{axis}s", name] for axis, name in ADDED.items()]
    assert len(set(modules)) == len(ADDED)
    for (axis, name), module in zip(ADDED.items(), modules, strict=True):
        declared = registry.find(axis, name)
        assert declared.__module__ == module
        assert registry.brought_by(declared) == "toy-plugin"
        assert not [other for other in modules if other != module and other in dir(declared)]


class Deep(StageKind):
    """Reads a checkpoint and its cell; the first of its rows."""

    reads = {"data": "data", "checkpoint": "train"}

    device: str
    seed: int
    first: int
    place: Annotated[ModelPlace, NotHashed]

    def run(self, job: Job[Self]) -> dict[str, Any]:
        raise NotImplementedError


@pytest.fixture
def deep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind `deep`, as an entry point would bring it."""
    point = EntryPoint("deep", f"{__name__}:Deep", "harness.stages")
    known = {axis: dict(registry._entry_points(axis)) for axis in (*AXES, "stage")}
    known["stage"]["deep"] = point
    monkeypatch.setattr(registry, "_entry_points", lambda axis: known[axis])


def recipe_of(**stage: Any) -> Any:
    """A recipe whose rows are made by a stage after the start."""

    def recipe(self: Weighted, r: Any) -> Any:
        start = r.start(self, "sft")
        kind, reads = stage.pop("kind"), {"checkpoint": start} if stage.pop("reads") else {}
        rows = r.stage(kind, reads=reads, **stage)
        stage.update(kind=kind, reads=bool(reads))
        return r.train(self, start=start, rows=rows, reward=r.model("reward"))

    return recipe


def weighted(aligned: Workspace) -> Workspace:
    aligned.write(
        matrix={"data": ["letters"], "method": ["full"], "objective": [{"sft": SFT}, "weighted"]},
        reward_model={"data": "preferences", **SFT},
    )
    return aligned


@pytest.mark.usefixtures("deep")
def test_a_stage_of_a_recipe_reads_its_steps_and_is_told_of_its_cell(
    aligned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Weighted, "recipe", recipe_of(kind="deep", reads=True, first=3))
    aligned.tree["seeds"] = [0, 7]
    plan = weighted(aligned).open().plan
    trained = {path.variant.id: path.train for path in plan.paths}
    for seed in (0, 7):
        last = trained[f"full-weighted#{seed}"]
        assert last is not None
        rows = last.inputs["train"]
        assert rows.kind == "deep"
        assert rows.inputs["checkpoint"] == trained[f"full-sft#{seed}"] == last.inputs["start"]
        assert rows.inputs["data"].label == "letters/train"
        assert rows.config == {"version": 1, "device": "cpu", "seed": seed, "first": 3}
        assert rows.unhashed["place"]
    assert "stage deep: the installed package" in "\n".join(executes(plan))


@pytest.mark.usefixtures("deep")
@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({"kind": "dep", "reads": False}, "unknown stage 'dep'; did you mean 'deep'"),
        ({"kind": "deep", "reads": True}, "first: missing"),
        ({"kind": "deep", "reads": True, "first": "three"}, "first: .*given: 'three'"),
        ({"kind": "deep", "reads": True, "firt": 3, "first": 3}, "did you mean 'first'"),
    ],
)
def test_a_stage_that_a_recipe_cannot_mean_is_refused_before_anything_runs(
    aligned: Workspace, monkeypatch: pytest.MonkeyPatch, stage: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(Weighted, "recipe", recipe_of(**stage))
    with pytest.raises(SuiteError, match=rf"suite.yaml: the recipe of weighted.*{words}"):
        weighted(aligned).open()


def test_a_suite_trains_scores_and_labels_with_all_that_a_plugin_adds(aligned: Workspace) -> None:
    write_jsonl(aligned.folder / "asked.jsonl", preferences(6))
    data = aligned.tree["data"]
    sampling = {"samples": 3, "prompts": 6, "max_new_tokens": 4, "check": 0, "unfinished": "keep"}
    aligned.write(
        data={**data, "preferences": {**data["preferences"], "test": "asked.jsonl"}},
        matrix={
            "data": ["letters"], "method": ["full", "bitfit"],
            "objective": [{"sft": SFT}, "weighted",
                          {"rlaif": {"then": "dpo", "labeller": "longest", "data": "letters",
                                     **sampling}}],
        },
        exclude=[{"method": "bitfit", "objective": ["weighted", "rlaif"]}],
        reward_model={"data": "preferences", "method": "full", **SFT},
        base={"zero-shot": {"max_new_tokens": 4}},
        scorers=["longer"],
        executor="inline",
    )  # fmt: skip
    outcome = aligned.run()
    assert not outcome.failed, [record.error for record in outcome.failed]
    records = {(r.kind, r.label): r for r in outcome.records.values()}

    weighted = records["train", "full-weighted"]
    assert weighted.metrics["last_row"].startswith("row-")
    plan = aligned.open().plan
    packages = [line for line in executes(plan) if "toy-plugin" in line]
    assert {line.split(":")[0] for line in packages} == {f"{a} {n}" for a, n in ADDED.items()}
    (path,) = (path for path in plan.paths if path.variant.id == "full-weighted")
    assert path.train is not None
    inputs = {role: stage.kind for role, stage in path.train.inputs.items()}
    assert inputs == {"train": "capitals", "start": "train", "reward": "train"}
    assert path.train.inputs["start"] == next(
        path.train for path in plan.paths if path.variant.id == "full-sft"
    )

    assert records["train", "bitfit-sft"].metrics["audit"]
    made = outcome.records[path.train.inputs["train"].key]
    assert made.config == {"version": 1, "mark": "!"}
    assert made.metrics["rows"] == 24
    assert (path.train.inputs["train"].path(aligned.store) / "rows.jsonl").read_text().count(
        "!"
    ) == 24
    assert set(made.provenance[CODE]) == {"stage capitals"}
    assert set(weighted.provenance[CODE]) == {
        "stage train", "method full", "objective weighted",
    }  # fmt: skip

    longer = [r for r in outcome.records.values() if r.kind == "score"]
    assert {record.label for record in longer} == {
        f"{name} longer on letters"
        for name in ("bitfit-sft", "full-sft", "full-weighted", "full-rlaif")
    }
    (labels,) = (r for r in outcome.records.values() if r.kind == "label")
    assert labels.config["labeller"]["name"] == "longest"
