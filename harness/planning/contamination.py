"""Plans the search for test rows among training rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.core.files import digest_json
from harness.planning.graph import Plan, VariantPath, parts, trained_rows
from harness.planning.sources import Sources
from harness.stages.contamination import Contamination
from harness.store.stage import Resources, Stage

NGRAM = 8
"""Words that a training row shares with a test row, to count as a copy of a part of it."""


def contamination_stages(
    paths: Sequence[VariantPath], sources: Sources, resources: Resources
) -> Iterator[Stage]:
    """One stage for each pair of a training set and a test set of the same variant."""
    seen = set()
    for path in (path.draft or path for path in paths):
        if path.train is None:
            continue
        trained_on = trained_rows(path.train)
        for rows, entry in itertools.product(trained_on, path.variant.evaluations):
            test = sources.rows(entry, "test")
            if (rows.key, test.key) not in seen:
                seen.add((rows.key, test.key))
                yield Contamination(n=NGRAM).stage(
                    {"train": rows, "test": test},
                    resources=resources,
                    label=f"{rows.label} in {test.label}",
                )


def same_rows(planned: Plan) -> Iterator[str]:
    """Warnings about training rows that are test rows, as far as files and slices tell before they
    are read."""
    for stage in planned.contamination:
        test = stage.inputs["test"]
        for train in parts(stage.inputs["train"]):
            if shared := _shared(train, test):
                yield (
                    f"data.{train.label.replace('/', '.')} and data.{test.label.replace('/', '.')}"
                    f" are {shared}: scores on them show what was learnt by heart; give test rows"
                    " of their own, by another file or by `rows:`"
                )


def _shared(train: Stage, test: Stage) -> str:
    """How the rows of two stages are the same; empty if they are not known to be."""
    if train.key == test.key:
        return "the same rows"
    one, other = train.config, test.config
    source = one.get("sha256") or one.get("hub")
    options = (
        {k: v for k, v in c.items() if k not in ("rows", "limit", "turns")} for c in (one, other)
    )
    if source is None or len({digest_json(each) for each in options}) > 1:
        return ""
    (start, end), (first, last) = _span(one), _span(other)
    return "slices of one file that overlap" if max(start, first) < min(end, last) else ""


def _span(config: Mapping[str, Any]) -> tuple[float, float]:
    """The first row that is taken, and the first that may not be taken any more: where a filter
    comes before a limit, rows further on may be."""
    first, last = config.get("rows") or (0, None)
    end = math.inf if last is None else last
    if config.get("limit"):
        end = min(end, first + config["limit"])
    return first, end
