"""From a suite's matrix to its variants."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, cast

from harness import component
from harness.errors import SuiteError, unknown
from harness.hyper import Fields, check_hyper, holds, set_budget, set_fields
from harness.methods.base import Method
from harness.objectives.base import Objective
from harness.scorers.base import Scorer
from harness.suite import AXES, Generate, Suite


@dataclass(frozen=True)
class Variant:
    """One cell of the matrix, or one use of an untrained model.

    Attributes:
        id: unique in the suite, and what people type: `lora-sft`, `zero-shot`, `lora-sft#1`.
        group: the id without the seed: what a claim about a method is about.
        labels: axis or hyper-parameter -> what this cell has there.
        evaluations: data entries on whose test rows it is scored.
    """

    id: str
    group: str
    model: str
    data: str | None
    method: Method | None
    objective: Objective | None
    seed: int
    generate: Generate
    evaluations: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether anything is trained for it."""
        return self.method is not None


def expand(suite: Suite, only: str | None = None) -> list[Variant]:
    """The suite's variants, untrained uses first, without doubles and excluded cells.

    Args:
        only: a pattern such as `lora*`; the baseline stays, as there is no comparison without it.

    Raises:
        SuiteError: an axis, name or hyper-parameter that does not exist; nothing left to run.
    """
    _check_axes(suite)
    uses, cells = _uses(suite), _cells(suite)
    both = {use.group for use in uses} & {cell.group for cell in cells}
    if both:
        raise SuiteError(
            f"'{min(both)}' is a cell of the matrix too",
            where=f"base.{min(both)}",
            fix="give this use another name",
        )
    variants = [*uses, *cells]
    baseline = baseline_of(suite, variants)
    if only is not None:
        chosen = [v for v in variants if fnmatchcase(v.id, only) or fnmatchcase(v.group, only)]
        if not chosen:
            message = unknown("variant", only, (v.id for v in variants))
            raise SuiteError(message, where="--only")
        variants = [v for v in variants if v in chosen or v.group == baseline]
    return variants


def baseline_of(suite: Suite, variants: Iterable[Variant]) -> str:
    """The group all others are compared with."""
    groups = list(dict.fromkeys(v.group for v in variants))
    if suite.baseline is None:
        return groups[0]
    if suite.baseline not in groups:
        raise SuiteError(unknown("variant", suite.baseline, groups), where="baseline")
    return suite.baseline


def _check_axes(suite: Suite) -> None:
    for axis, values in suite.matrix.items():
        where = f"matrix.{axis}"
        if axis not in AXES and "." not in axis:
            raise SuiteError(unknown("axis", axis, AXES, hint="or component.field"), where=where)
        if not values:
            raise SuiteError("the axis is empty", where=where, fix="list at least one value")
    for axis in ("method", "objective"):
        if axis not in suite.matrix:
            raise SuiteError(
                f"the matrix has no {axis}", where="matrix", fix=f"add `{axis}: [...]`"
            )
    _check_names("model", suite.matrix.get("model", []), suite.models, "models")
    _check_names("data", suite.matrix.get("data", []), suite.data, "data")
    _check_names("data", suite.evaluate, suite.data, "data", where="evaluate")
    for name in _evaluations(suite):
        if suite.data[name].test is None:
            raise SuiteError(
                "no test rows to score on", where=f"data.{name}", fix="add `test:` or `evaluate:`"
            )


def _check_names(
    axis: str, given: Iterable[Any], known: Mapping[str, Any], table: str, where: str = ""
) -> None:
    for index, name in enumerate(given):
        if name not in known:
            message = unknown(axis, str(name), known, hint=f"the keys of `{table}:`")
            raise SuiteError(message, where=where or f"matrix.{axis}[{index}]")


def _trained_on(suite: Suite) -> list[str]:
    return suite.matrix.get("data") or [n for n, d in suite.data.items() if d.train is not None]


def _evaluations(suite: Suite) -> list[str]:
    return suite.evaluate or _trained_on(suite)


def _uses(suite: Suite) -> list[Variant]:
    """The untrained models, at each use the suite names."""
    models = suite.matrix.get("model") or list(suite.models)
    several = len(models) > 1
    found = []
    for model, (use, generate) in itertools.product(models, suite.base.items()):
        name = f"{use}@{model}" if several else use
        for entry in _evaluations(suite):
            if generate.num_fewshot and suite.data[entry].train is None:
                raise SuiteError(
                    f"shots are drawn from training rows, and data.{entry} has none",
                    where=f"base.{use}.num_fewshot",
                    fix=f"add `train:` to data.{entry}, or set num_fewshot: 0",
                )
        labels = {"model": model, "method": "none", "objective": use}
        evaluations = tuple(_evaluations(suite))
        found.append(Variant(name, name, model, None, None, None, 0, generate, evaluations, labels))
    return found


def _cells(suite: Suite) -> list[Variant]:
    axes: dict[str, list[Any]] = {
        "model": suite.matrix.get("model") or list(suite.models),
        "data": _trained_on(suite),
        "method": suite.matrix["method"],
        "objective": suite.matrix["objective"],
    }
    hyper = {axis: values for axis, values in suite.matrix.items() if axis not in AXES}
    check_hyper(suite, hyper, _trained_on(suite))
    found: dict[str, Variant] = {}
    for indexes in itertools.product(*(range(len(values)) for values in axes.values())):
        cell = {axis: (axes[axis][i], i) for axis, i in zip(axes, indexes, strict=True)}
        for values in itertools.product(*hyper.values()):
            for variant in _variants(suite, cell, dict(zip(hyper, values, strict=True)), axes):
                _add(found, variant)
    if not found and not suite.base:
        raise SuiteError("every cell is excluded", where="exclude", fix="leave at least one")
    return list(found.values())


def _add(found: dict[str, Variant], variant: Variant) -> None:
    """Doubles (a hyper-parameter of another method) are one cell; equal names are an error."""
    known = found.setdefault(variant.id, variant)
    if known != variant:
        raise SuiteError(
            f"two cells would both be called '{variant.id}'",
            where="matrix",
            fix="give the differing field as an axis, such as `lora.r: [4, 16]`",
        )


def _variants(
    suite: Suite, cell: dict[str, tuple[Any, int]], hyper: dict[str, Any], axes: Mapping[str, Any]
) -> list[Variant]:
    """The seeds of one cell; none if it is excluded."""
    parts: Fields = {}
    names: dict[str, str] = {}
    for axis in ("method", "objective"):
        spec, index = cell[axis]
        where = f"matrix.{axis}[{index}]"
        names[axis], fields = component.split_spec(spec, axis, where)
        component.find(axis, names[axis], where)
        parts[names[axis]] = fields
    labels = {"model": cell["model"][0], "data": cell["data"][0], **names}
    applied = {k: v for k, v in hyper.items() if k.split(".")[0] in parts}
    seen = labels | {k: str(v) for k, v in applied.items()}
    if any(holds(rule, seen) for rule in suite.exclude):
        return []
    for index, override in enumerate(suite.overrides):
        if holds(override.match, seen):
            set_fields(parts, override.set, f"overrides[{index}].set")
    set_fields(parts, applied, "matrix")
    if suite.budget is not None:
        set_budget(parts, names["objective"], suite.budget)
    built = {
        axis: component.build_fields(component.find(axis, name), parts[name], f"{axis} {name}")
        for axis, name in names.items()
    }
    several = [axis for axis in ("model", "data") if len(axes[axis]) > 1]
    group = "-".join([names["method"], names["objective"]])
    group += "".join(f"-{labels[axis]}" for axis in several)
    group += "".join(f"-{k.split('.')[-1]}={v}" for k, v in applied.items())
    labels |= {k: str(v) for k, v in applied.items()}
    return [
        Variant(
            id=f"{group}#{seed}" if len(suite.seeds) > 1 else group,
            group=group,
            model=labels["model"],
            data=labels["data"],
            method=cast(Method, built["method"]),
            objective=cast(Objective, built["objective"]),
            seed=seed,
            generate=suite.generate,
            evaluations=tuple(suite.evaluate or [labels["data"]]),
            labels={**labels, "seed": str(seed)},
        )
        for seed in suite.seeds
    ]


def refuse_samples(variant: Variant, scorers: Iterable[Scorer]) -> None:
    """A scorer that compares samples is refused where too few are drawn.

    Raises:
        SuiteError: naming the variant, and where to ask for samples.
    """
    for index, scorer in enumerate(scorers):
        needed, drawn = scorer.samples_needed(), variant.generate.samples
        if drawn < needed:
            place = "generate" if variant.trained else f"base.{variant.labels['objective']}"
            raise SuiteError(
                f"it compares {needed} or more samples of each prompt, and variant {variant.id}"
                f" draws {drawn or 'none'}",
                where=f"scorers[{index}].{scorer.name}",
                fix=f"add `samples: 4` to `{place}:`",
            )
