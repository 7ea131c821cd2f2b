"""Puts two sides of a claim on the same examples, or says why they cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.comparison.scores import Keys, Scores
from harness.comparison.statistics import Sample
from harness.core.text import number_of

Runs = Mapping[int, Scores]
"""Seed -> the scores of that training run."""


class Unaligned(Exception):
    """Two sides cannot be compared example by example; the message says why."""


def scores_of(
    ids: Sequence[str],
    columns: Mapping[str, NDArray[np.float64]],
    *,
    clusters: Sequence[str] | None = None,
    aggregate: str = "mean",
    higher_is_better: bool = True,
    unit: str = "",
    version: str = "",
    bounds: tuple[float, float] = (-np.inf, np.inf),
    chance: float | None = None,
) -> Scores:
    """One metric of one run from a plain table, without a suite.

    Args:
        ids: the examples' names, each once.
        columns: statistic of the aggregate -> its values, each of shape (n,): `value` for a mean. A
            NaN is a missing value.
        clusters: the name of each example's cluster; by default each is its own.
        version: scores of two different versions are not compared.

    Raises:
        Unaligned: an id occurs twice.
    """
    names = tuple(ids)
    if len(set(names)) < len(names):
        raise Unaligned("an example's name occurs twice")
    together = names if clusters is None else tuple(clusters)
    arrays = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
    return Scores(
        Keys(names, together, ("",) * len(names)), Sample(aggregate, arrays), higher_is_better,
        unit, version, bounds=bounds, chance=chance,
    )  # fmt: skip


def scores_of_draws(ids: Sequence[str], draws: NDArray[np.float64], **about: Any) -> Scores:
    """One metric of one run whose answers were drawn several times, as the mean over the draws.

    Args:
        draws: the value of each example for each of its k answers, shape (n, k).
        about: the other arguments of `scores_of`.
    """
    count = draws.shape[1]
    scores = scores_of(ids, {"value": draws.mean(axis=1)}, **about)
    return replace(scores, drawn=draws.var(axis=1, ddof=1) / count if count > 1 else None)


def aligned(one: Runs, other: Runs, *, shared: bool) -> tuple[Runs, Runs, str]:
    """Both sides with the same examples in the same order.

    An example without a value counts as missing.

    Args:
        shared: keep what all runs have; otherwise all runs must have the same examples.

    Returns:
        Both sides, and a note on the examples that were left out.

    Raises:
        Unaligned: the examples or their clusters are not the same, or an id occurs twice.
    """
    runs = [*one.values(), *other.values()]
    complete = not any(map(_lacks_any, runs))
    if complete and all(run.keys is runs[0].keys for run in runs):
        return one, other, ""
    named = None
    if not (complete and all(run.keys.ids == runs[0].keys.ids for run in runs)):
        named = [_places(run) for run in runs]
    order, note = (runs[0].keys.ids, "") if named is None else _common(runs, named, shared=shared)
    index: list[Any] = [slice(None)] * len(runs)
    if named is not None:
        index = [np.asarray([places[name] for name in order], np.intp) for places in named]
    keys = _keys(order, runs, index)
    placed = [
        replace(
            run,
            keys=keys,
            sample=run.sample.at(at),
            drawn=None if run.drawn is None else run.drawn[at],
        )
        for run, at in zip(runs, index, strict=True)
    ]
    return (
        dict(zip(one, placed, strict=False)),
        dict(zip(other, placed[len(one) :], strict=True)),
        note,
    )


def _common(
    runs: Sequence[Scores], named: Sequence[dict[str, int]], *, shared: bool
) -> tuple[tuple[str, ...], str]:
    """The examples that all runs have, and a note on how many these are.

    Raises:
        Unaligned: there are none, or some run has others too and that was not allowed.
    """
    common = set.intersection(*(set(places) for places in named))
    if not common:
        raise Unaligned("not the same examples: none has a value on both sides")
    most = max(len(run.keys.ids) for run in runs)
    if all(len(run.keys.ids) == len(common) for run in runs):
        note = ""
    elif not shared:
        raise Unaligned(
            f"not the same examples: {len(common):,} of up to {most:,} have a value on both sides;"
            " `examples: shared` compares these alone"
        )
    else:
        note = (
            f"{len(common):,} of up to {number_of(most, 'example')}: those with a value on"
            " both sides"
        )
    return tuple(name for name in runs[0].keys.ids if name in common), note


def _lacks_any(run: Scores) -> bool:
    return not all(np.isfinite(column).all() for column in run.sample.columns.values())


def _places(run: Scores) -> dict[str, int]:
    """Id -> place of each example that has a value.

    Raises:
        Unaligned: an id occurs twice.
    """
    ids = run.keys.ids
    places = dict(zip(ids, range(len(ids)), strict=True))
    if len(places) < len(ids):
        twice = next(name for place, name in enumerate(ids) if places[name] != place)
        raise Unaligned(f"the example '{twice}' occurs twice on one side")
    if not _lacks_any(run):
        return places
    known = np.all([np.isfinite(column) for column in run.sample.columns.values()], axis=0)
    return {name: place for name, place in places.items() if known[place]}


def _keys(order: tuple[str, ...], runs: Sequence[Scores], index: Sequence[Any]) -> Keys:
    """The examples with the clusters that the runs give them; a run without clusters gives none.

    Raises:
        Unaligned: two runs put them into different clusters.
    """
    chosen: tuple[str, ...] | None = None
    for run, at in zip(runs, index, strict=True):
        if run.keys.together.single:
            continue
        clusters = tuple(np.asarray(run.keys.clusters, dtype=object)[at])
        if chosen is not None and clusters != chosen:
            raise Unaligned("not the same clusters of examples")
        chosen = clusters
    groups = tuple(np.asarray(runs[0].keys.groups, dtype=object)[index[0]])
    return Keys(order, order if chosen is None else chosen, groups)
