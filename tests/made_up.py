"""Plans and records made up for the tests of what a comparison tells beside its figures."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.planning.planner import Scored, VariantPath
from harness.store.stage import Record, Stage
from harness.store.store import Store
from harness.variants.variant import Cell, Variant

ROWS = Stage("data", {"path": "test.jsonl"})
_count = itertools.count()


def stage(kind: str, inputs: Mapping[str, Stage] | None = None, label: str = "") -> Stage:
    """Another one with every call."""
    return Stage(kind, {"number": next(_count)}, inputs or {}, label=label)


def record(of: Stage, **changes: Any) -> Record:
    made = Record(key=of.key, kind=of.kind, status="ok", label=of.label, config=dict(of.config))
    return made.model_copy(update=changes)


def failed(of: Stage, message: str = "lost", **told: str) -> Record:
    return record(of, status="failed", error={"message": message, **told})


def variant(
    name: str = "lora", seed: int = 0, kind: type[Variant] = Cell, **changes: Any
) -> Variant:
    fields: dict[str, Any] = {
        "id": f"{name}-{seed}", "group": name, "model": "m", "seed": seed, "generate": None,
        "evaluations": ("tasks",), "labels": {"method": name, "seed": str(seed)},
    }  # fmt: skip
    if kind is Cell:
        fields |= {"data": "tasks", "method": object(), "recipe": SimpleNamespace(entry="tasks")}
    return kind(**{**fields, **changes})


def path(name: str = "lora", seed: int = 0, **changes: Any) -> VariantPath:
    """Trained, answering one evaluation, scored once."""
    train = stage("train", {"train": stage("data")}, f"{name}-{seed}")
    answers = stage("generate", {"checkpoint": train, "data": ROWS})
    scored = stage("score", {"predictions": answers})
    made = VariantPath(
        variant(name, seed), train, {"tasks": answers},
        (Scored(scored, "rouge", "tasks", None),),
    )  # fmt: skip
    return VariantPath(**{**vars(made), **changes})


def records_of(*paths: VariantPath, **changes: Any) -> dict[str, Record]:
    """All went well; `changes` by kind of stage."""
    found: dict[str, Record] = {}
    for own in paths:
        for made in own.stages():
            told = changes.get(made.kind, {})
            found[made.key] = record(made, **(told(made) if callable(told) else told))
    return found


def plan(*paths: VariantPath, **changes: Any) -> Any:
    stages = list(dict.fromkeys(made for own in paths for made in own.stages()))
    data = {"tasks": SimpleNamespace(test=None)}
    suite = SimpleNamespace(seeds=(0, 1, 2), tune=None, budget=None, data=data)
    fields: dict[str, Any] = {
        "suite": suite, "file": Path("s.yaml"),
        "paths": paths, "starts": (), "data": {("tasks", "test"): ROWS}, "contamination": (),
        "models": {}, "warnings": (), "unfit": {}, "checks": {},
        "stages": lambda: stages, "tunings": lambda: (),
    }  # fmt: skip
    return SimpleNamespace(**{**fields, **changes})


def write_lines(store: Store, of: Stage, name: str, lines: list[dict[str, Any]]) -> None:
    folder = of.path(store.root)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
