"""What a run says of where its time went."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from harness.commands import run as runs
from harness.scheduling.schedule import Outcome
from tests.made_up import path, plan, record, stage

ALL = ("on a path", "shared", "on none")


def seconds(ran: list[str], variants: int = 2) -> tuple[float, float]:
    """(of the stages once, of every variant's whole path), each stage taking ten seconds."""
    paths = [path(f"v{n}") for n in range(variants)]
    lone = stage("contamination", {"train": stage("data")})
    groups = {
        "on a path": [s for p in paths for s in p.stages() if s.kind != "data"],
        "shared": [s for p in paths for s in p.stages() if s.kind == "data"],
        "on none": [lone, *lone.inputs.values()],
    }
    kept = {s.key: record(s, cost={"seconds": 10.0}) for name in ran for s in groups[name]}
    opened: Any = SimpleNamespace(
        plan=SimpleNamespace(**vars(plan(*paths)), executor=SimpleNamespace(capacity=lambda: 1)),
        first=Outcome(), seconds={"data stages": 1.0, "other stages": 99.0},
    )  # fmt: skip
    told = runs.ledger(Outcome(kept, list(kept)), opened)
    found = re.search(r"stages +([\d.]+) s  \(each of them once; ([\d.]+) s if every", told)
    assert found
    return float(found[1]), float(found[2])


@pytest.mark.parametrize("ran", [["on none"], ["shared"], ["on a path", "on none"], list(ALL)])
def test_all_paths_take_no_less_than_their_stages_once(ran: list[str]) -> None:
    once, whole = seconds(ran)
    assert whole >= once > 0


def test_one_variant_takes_as_long_as_its_stages_whatever_else_the_suite_asks_for() -> None:
    once, whole = seconds(list(ALL), variants=1)
    assert whole == once


def test_a_stage_counts_for_each_variant_that_needs_it() -> None:
    once, whole = seconds(["shared"])
    assert (once, whole) == (30.0, 40.0)  # training rows of each, and test rows of both
