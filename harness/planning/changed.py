"""What `--changed` runs: the variants whose results an earlier run's records do not hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.planning.graph import VariantPath
from harness.planning.planner import Plan
from harness.store.stage import Record, Stage


def changed_groups(planned: Plan, earlier: Mapping[str, Record]) -> list[str]:
    """The groups of variants of which some result is not in the records, or failed there.

    A group is run whole, all seeds and all scores of it, so that it can be judged by the scores of
    its examples.

    Args:
        earlier: the records of an earlier run, by key.
    """
    groups = (path.variant.group for path in planned.paths if _changed(path, earlier))
    return list(dict.fromkeys(groups))


def changed_targets(planned: Plan, earlier: Mapping[str, Record]) -> list[Stage]:
    """The stages that a run must bring to an end if only what changed is run."""
    groups = changed_groups(planned, earlier)
    paths = [path for path in planned.paths if path.variant.group in groups]
    targets = [stage for path in paths for stage in path.results()]
    targets += _missing(_beside(planned, paths), earlier)
    for start in planned.starts:
        if _changed(start, earlier):
            targets += start.results()
    return list(dict.fromkeys(targets))


def _changed(path: VariantPath, earlier: Mapping[str, Record]) -> bool:
    tuned = path.tuning is not None and any(_missing(path.tuning.targets(), earlier))
    return tuned or path.draft is not None or any(_missing(path.results(), earlier))


def _missing(stages: Iterator[Stage], earlier: Mapping[str, Record]) -> Sequence[Stage]:
    return [s for s in stages if (record := earlier.get(s.key)) is None or not record.ok]


def _beside(planned: Plan, paths: Sequence[VariantPath]) -> Iterator[Stage]:
    """The stages beside the results of these variants: those that tune them, and those about data
    and labels, whoever uses them."""
    tunings = {path.tuning.group: path.tuning for path in paths if path.tuning is not None}
    for tuning in tunings.values():
        yield from tuning.targets()
    yield from planned.data.values()
    yield from planned.contamination
    for checks in planned.checks.values():
        yield from checks
