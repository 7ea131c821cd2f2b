"""Plans the search for test rows among training rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from harness.planning.graph import VariantPath, trained_rows
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
