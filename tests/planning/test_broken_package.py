"""A package that cannot be imported is in the way of the suites that use it, and of no other."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from harness.core import registry
from harness.core.component import AXES
from harness.core.errors import SuiteError
from harness.stages._cost import Rates
from tests.conftest import Workspace


@pytest.fixture(autouse=True)
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member of every axis and a kind of stage, all in a module that is not there."""
    points = registry._entry_points
    added = {
        axis: {"broken": EntryPoint("broken", "gone_module:Gone", f"harness.{axis}s")}
        for axis in (*AXES, "stage")
    }
    monkeypatch.setattr(registry, "_entry_points", lambda axis: {**points(axis), **added[axis]})


def test_a_suite_that_does_not_use_a_broken_package_is_planned(aligned: Workspace) -> None:
    opened = aligned.open()
    assert opened.plan.paths
    # Measured rates are asked for as soon as rows are known.
    assert Rates(opened.store, "cpu").flops("train", 1000) is None


@pytest.mark.parametrize("axis", [*AXES, "stage"])
def test_a_member_that_cannot_be_imported_is_refused_with_its_package_and_place(axis: str) -> None:
    words = f"here: {axis} 'broken' of the package gone_module cannot be imported: No module named"
    with pytest.raises(SuiteError, match=words):
        registry.find(axis, "broken", "here")
