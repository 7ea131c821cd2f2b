"""Which trainings a variant's baseline is made of, by which a metric over a start is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from harness.comparison.compare import _trainings_of_baselines


def path(group: str, key: str | None) -> Any:
    train = None if key is None else SimpleNamespace(key=key)
    return SimpleNamespace(variant=SimpleNamespace(group=group), train=train)


def test_trainings_of_a_baseline_are_those_of_all_its_seeds() -> None:
    paths = [path("base", None), path("sft", "s0"), path("sft", "s1"), path("dpo", "d0")]
    planned: Any = SimpleNamespace(paths=paths, baseline="base", baselines={"dpo": "sft"})
    assert _trainings_of_baselines(planned) == {"base": set(), "sft": set(), "dpo": {"s0", "s1"}}
    planned.baseline = "stored elsewhere"
    assert _trainings_of_baselines(planned) == {"dpo": {"s0", "s1"}}
