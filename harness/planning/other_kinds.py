"""Stages of a recipe whose kind the planner does not know, such as the kinds of plugins."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import cast

from harness.core import from_yaml, registry
from harness.core.errors import SuiteError, unknown
from harness.planning.sources import Sources
from harness.stages.base import StageKind
from harness.store.stage import Stage
from harness.suite.suite import Suite
from harness.variants.names import place_of
from harness.variants.steps import Made
from harness.variants.variant import Cell


def made_rows(
    cell: Cell,
    step: Made,
    inputs: Mapping[str, Stage],
    suite: Suite,
    sources: Sources,
    device: str,
) -> Stage:
    """The stage that makes rows for a training of a cell.

    Args:
        inputs: role -> stage, of the steps that it reads.

    Raises:
        SuiteError: no such kind, a field or an input that it does not take, or rows that are not
            there.
    """
    objective, inputs = step.asked_by.name, dict(inputs)
    where = f"the recipe of {objective}"
    kind = cast(type[StageKind], registry.find("stage", step.kind, where))
    for role, source in inputs.items():
        _require_input(kind, role, source, f"{where}.{step.kind}")
    if "data" in kind.reads and "data" not in inputs:
        if step.entry not in suite.data:
            message = unknown("data", step.entry, suite.data, hint="the keys of `data:`")
            raise SuiteError(message, where=place_of(suite, "objective", objective, "data"))
        inputs["data"] = sources.rows(step.entry, "train", f"{objective} makes its rows of them")
    offered = {
        "device": device,
        "model": sources.model_config(cell.model),
        "place": sources.place(cell.model),
        "seed": cell.seed,
    }
    filled = {name: value for name, value in offered.items() if name in kind.model_fields}
    stage = from_yaml.build_fields(kind, {**filled, **step.fields}, f"{where}.{step.kind}")
    rows = next(iter(inputs.values()), None)
    return stage.stage(
        inputs,
        label=cell.id if rows is None else rows.label,
        resources=suite.resources,
        known=None if rows is None else sources.known(cell.model, rows),
    )


def _require_input(kind: type[StageKind], role: str, source: Stage, where: str) -> None:
    """Raise SuiteError where a kind of stage does not read such an input."""
    kinds = [names for pattern, names in kind.reads.items() if fnmatchcase(role, pattern)]
    if not kinds:
        message = unknown("input", role, kind.reads, hint=f"`reads` of {kind.__name__}")
        raise SuiteError(message, where=where)
    if not any(name in (source.kind, "*") for names in kinds for name in names.split(", ")):
        raise SuiteError(
            f"its input '{role}' is made by a stage of kind {' or '.join(kinds)}, not by one of"
            f" kind {source.kind}",
            where=where,
        )
