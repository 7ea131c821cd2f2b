"""A variant is called by the same short names in every command and key that names one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.commands.compare import compare
from harness.commands.sides import opened_variant
from harness.core.errors import HarnessError
from harness.planning.planner import plan
from harness.planning.selectors import select
from harness.store.store import Store
from harness.suite.suite import load_suite
from harness.variants.called import called
from tests.conftest import Workspace

LABELS = {
    "zero-shot": {"method": "none", "objective": "zero-shot"},
    "full-sft": {"method": "full", "objective": "sft"},
    "lora-sft-r=4": {"method": "lora", "objective": "sft", "lora.r": "4"},
    "lora-sft-r=8": {"method": "lora", "objective": "sft", "lora.r": "8", "seed": "8"},
}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("full-sft", ["full-sft"]),
        ("full", ["full-sft"]),
        ("r=8", ["lora-sft-r=8"]),
        ("8", ["lora-sft-r=8"]),
        ("shot", ["zero-shot"]),
        ("lora", ["lora-sft-r=4", "lora-sft-r=8"]),
        ("lora-sft", []),  # a part of two names
        ("*r=4", ["lora-sft-r=4"]),
        ("ful", []),
        ("", []),
    ],
)
def test_name_is_a_pattern_a_value_or_a_part_of_one_name(text: str, names: list[str]) -> None:
    assert called(text, LABELS) == names


def by_only(workspace: Workspace, name: str) -> set[str]:
    loaded = load_suite(str(workspace.path))
    planned = plan(loaded, Store(workspace.store), only=name)
    return {path.variant.group for path in planned.paths} - {"zero-shot"}


def by_command(workspace: Workspace, name: str) -> set[str]:
    paths = opened_variant(f"{workspace.path}:{name}", workspace.store)[1]
    return {path.variant.group for path in paths}


def by_claim(workspace: Workspace, name: str) -> set[str]:
    planned = plan(load_suite(str(workspace.path)), Store(workspace.store))
    return set(select(name, {p.variant.group: p.variant.labels for p in planned.paths}, "claims"))


def by_baseline(workspace: Workspace, name: str) -> set[str]:
    planned = plan(load_suite(str(workspace.path), (f"baseline={name}",)), Store(workspace.store))
    return set(planned.baselines.values())


def by_merged(workspace: Workspace, name: str) -> set[str]:
    merged = (f"evaluate_merged=[{name}]",)
    planned = plan(load_suite(str(workspace.path), merged), Store(workspace.store))
    groups = [path.variant.group for path in planned.paths]
    return {name.removesuffix("-merged") for name in groups if name.endswith("-merged")}


@pytest.mark.parametrize("means", [by_only, by_command, by_claim, by_baseline, by_merged])
@pytest.mark.parametrize("name", ["lora", "lora-sft"])
def test_short_name_is_accepted_wherever_a_variant_is_named(
    workspace: Workspace, means: Callable[[Workspace, str], set[str]], name: str
) -> None:
    assert means(workspace, name) == {"lora-sft"}


def test_name_of_several_is_refused_with_their_names_where_one_is_needed(
    workspace: Workspace,
) -> None:
    workspace.write(matrix={"method": ["full", "lora"], "objective": ["sft"], "lora.r": [2, 4]})
    with pytest.raises(HarnessError, match="'lora' means 2 variants: lora-sft-r=2, lora-sft-r=4"):
        compare(f"{workspace.path}:lora", f"{workspace.path}:full", store=workspace.store)
    with pytest.raises(HarnessError, match="baseline: 'lora' means 2 variants: lora-sft-r=2, lora"):
        by_baseline(workspace, "lora")
