"""A plugin adds a member of every axis, and a kind of stage, each by one file (tests/plugin)."""

from __future__ import annotations

from importlib.metadata import distribution

from harness.core import component
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
        declared = component.find(axis, name)
        assert declared.__module__ == module
        assert component.brought_by(declared) == "toy-plugin"
        assert not [other for other in modules if other != module and other in dir(declared)]


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
        f"{name} longer" for name in ("bitfit-sft", "full-sft", "full-weighted", "full-rlaif")
    }
    (labels,) = (r for r in outcome.records.values() if r.kind == "label")
    assert labels.config["labeller"]["name"] == "longest"
