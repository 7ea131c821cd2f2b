"""From a suite's matrix to its variants."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from harness.core import from_yaml, registry
from harness.core.errors import SuiteError, unknown
from harness.methods.base import Method
from harness.scorers.base import Scorer
from harness.suite.suite import AXES, Suite
from harness.variants.axes import (
    axis_faults,
    check_axes,
    compared_models,
    evaluations,
    fits,
    trained_models,
    trained_on,
)
from harness.variants.called import called, the_one_called
from harness.variants.elsewhere import (
    checkpoints_of,
    matches,
    merged_siblings,
    require_own_names,
)
from harness.variants.names import in_recipes, last_stages, written
from harness.variants.recipe import cell_of, refuse_scores
from harness.variants.settings import check_hyper, holds, hyper_faults
from harness.variants.spec import Spec
from harness.variants.variant import Cell, Untrained, Variant


def expand(suite: Suite, only: str | None = None) -> list[Variant]:
    """The suite's variants, untrained uses first, without doubles and excluded cells.

    Args:
        only: a pattern such as `lora*`; the baseline stays, as there is no comparison without it.

    Raises:
        SuiteError: an axis, name or hyper-parameter that does not exist; nothing left to run.
    """
    check_axes(suite)
    uses, cells = _uses(suite), _cells(suite)
    checkpoints = list(checkpoints_of(suite, evaluations(suite)))
    if not (uses or cells or checkpoints):
        raise SuiteError(
            "nothing to run",
            where="matrix",
            fix="add method and objective, `base` or `checkpoints`",
        )
    merged = merged_siblings(suite.evaluate_merged, [*cells, *checkpoints])
    require_own_names(uses, cells, checkpoints, merged)
    # Each merged variant stands behind the one it is compared with.
    variants: list[Variant] = list(uses)
    for variant in [*cells, *checkpoints]:
        variants += [variant, *(sibling for sibling in merged if sibling.of is variant)]
    baselines = baselines_of(suite, variants)
    if only is not None:
        meant = called(only, {v.group: v.labels for v in variants})
        chosen = [v for v in variants if v.group in meant or matches(v, only)]
        if not chosen:
            message = unknown("variant", only, (v.id for v in variants))
            raise SuiteError(message, where="--only")
        kept = {baselines[v.group] for v in chosen}
        variants = [v for v in variants if v in chosen or v.group in kept]
    return variants


def baselines_of(suite: Suite, variants: Iterable[Variant]) -> dict[str, str]:
    """Group -> the group it is compared with. Of several models a use of the base, such as
    `zero-shot`, means each variant's own model at that use; by default, where nothing else is
    compared, all are compared with the first model.

    Raises:
        SuiteError: the suite's `baseline` is no variant and no use of the base.
    """
    variants = list(variants)
    models = {v.group: v.model for v in variants}
    named = suite.baseline or next(iter([*suite.base, *models]))
    if named in models:
        return dict.fromkeys(models, named)
    uses = [use for use in suite.base if all(used(use, m) in models for m in models.values())]
    if named not in uses:
        labels = {variant.group: variant.labels for variant in variants}
        if called(named, labels):
            return dict.fromkeys(models, the_one_called(named, labels, "baseline"))
        raise SuiteError(unknown("variant", named, [*models, *uses]), where="baseline")
    baselines = {group: used(named, model) for group, model in models.items()}
    if suite.baseline is None and all(group == baseline for group, baseline in baselines.items()):
        # Untrained models alone: each beside itself would compare nothing.
        return dict.fromkeys(models, next(iter(models)))
    return baselines


def used(use: str, model: str) -> str:
    """What a use of one of several untrained models is called."""
    return f"{use}@{model}"


def shared_baseline(suite: Suite, baselines: Mapping[str, str]) -> str:
    """What all are compared with, in words: one group, or a use of each one's own model."""
    groups = set(baselines.values())
    return groups.pop() if len(groups) == 1 else f"{_use(suite, groups)} of the same model"


def _use(suite: Suite, groups: Iterable[str]) -> str:
    return next(use for use in suite.base if any(g.startswith(f"{use}@") for g in groups))


def _uses(suite: Suite) -> list[Untrained]:
    """The untrained models, at each use the suite names."""
    models = compared_models(suite)
    several = len(models) > 1
    uses = []
    for model, (use, generate) in itertools.product(models, suite.base.items()):
        name = used(use, model) if several else use
        for entry in evaluations(suite):
            if generate.num_fewshot and suite.data[entry].train is None:
                raise SuiteError(
                    f"shots are drawn from training rows, and data.{entry} has none",
                    where=f"base.{use}.num_fewshot",
                    fix=f"add `train:` to data.{entry}, or set num_fewshot: 0",
                )
        labels = {"model": model, "method": "none", "objective": use}
        scored = tuple(evaluations(suite))
        uses.append(
            Untrained(
                id=name, group=name, model=model, generate=generate, evaluations=scored,
                labels=labels,
            )
        )  # fmt: skip
    return uses


def name_faults(suite: Suite) -> Iterator[SuiteError]:
    """Everything that is wrong with the names in a suite's axes and rules, for a suite that
    `expand` refuses."""
    yield from axis_faults(suite)
    if suite.matrix.keys() >= {"method", "objective"}:
        hyper = {axis: values for axis, values in suite.matrix.items() if "." in axis}
        on = trained_on(suite)
        yield from hyper_faults(suite, hyper, on, in_recipes(suite), last_stages(suite))


def _cells(suite: Suite) -> list[Cell]:
    if not suite.matrix:
        for key in ("overrides", "exclude", "reward_model", "tune", "budget"):
            if getattr(suite, key):
                raise SuiteError(
                    "nothing is trained, as there is no `matrix:`", where=key, fix="remove it"
                )
        return []
    axes: dict[str, list[Any]] = {
        "model": trained_models(suite),
        "data": trained_on(suite),
        "method": suite.matrix["method"],
        "objective": suite.matrix["objective"],
    }
    hyper = {axis: values for axis, values in suite.matrix.items() if axis not in AXES}
    check_hyper(suite, hyper, trained_on(suite), in_recipes(suite), last_stages(suite))
    cells: dict[str, Cell] = {}
    for indexes in itertools.product(*(range(len(values)) for values in axes.values())):
        place = {axis: (axes[axis][i], i) for axis, i in zip(axes, indexes, strict=True)}
        for values in itertools.product(*hyper.values()):
            for seeded in _seeds_of(suite, place, dict(zip(hyper, values, strict=True)), axes):
                _add(cells, seeded)
    if not cells and not suite.base:
        raise SuiteError("every cell is excluded", where="exclude", fix="leave at least one")
    return list(cells.values())


def _add(cells: dict[str, Cell], cell: Cell) -> None:
    """Doubles (a hyper-parameter of another method) are one cell; equal names are an error."""
    if cells.setdefault(cell.id, cell) != cell:
        raise SuiteError(
            f"two cells would both be called '{cell.id}'",
            where="matrix",
            fix="give the differing field as an axis, such as `lora.r: [4, 16]`",
        )


def _seeds_of(
    suite: Suite, place: dict[str, tuple[Any, int]], hyper: dict[str, Any], axes: Mapping[str, Any]
) -> list[Cell]:
    """The seeds of one cell; none if it is excluded."""
    labels, fields = {"model": place["model"][0], "data": place["data"][0]}, {}
    where = {axis: f"matrix.{axis}[{place[axis][1]}]" for axis in ("method", "objective")}
    for axis, written_at in where.items():
        labels[axis], options = from_yaml.split_spec(place[axis][0], axis, written_at)
        declared = registry.find(axis, labels[axis], written_at)
        if issubclass(declared, Method) and not fits(suite, labels["model"], declared):
            return []
        fields[labels[axis]] = options
    refuse_scores(labels["objective"], where["objective"])
    known = (labels["method"], labels["objective"])
    applied = {k: str(v) for k, v in hyper.items() if k.split(".")[0] in known}
    if any(holds(rule, labels | applied) for rule in suite.exclude):
        return []
    several = [axis for axis in ("model", "data") if len(axes[axis]) > 1]
    cell = cell_of(suite, Spec(labels, fields, written(suite), hyper, where), several)
    if any(holds(rule, cell.labels) for rule in suite.exclude):
        return []
    evaluations = tuple(suite.evaluate or [labels["data"]])
    return [
        replace(
            cell,
            id=f"{cell.group}#{seed}" if len(suite.seeds) > 1 else cell.group,
            seed=seed,
            evaluations=evaluations,
            labels={**cell.labels, "seed": str(seed)},
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
            untrained = isinstance(variant, Untrained)
            place = f"base.{variant.labels['objective']}" if untrained else "generate"
            raise SuiteError(
                f"it reads {needed} or more samples of each prompt, and variant {variant.id}"
                f" draws {drawn or 'none'}",
                where=f"scorers[{index}].{scorer.name}",
                fix=f"add `samples: 4` to `{place}:`",
            )
