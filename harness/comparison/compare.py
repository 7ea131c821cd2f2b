"""Turns the records of stages into a Comparison."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from harness.comparison import constant, provenance, tuning
from harness.comparison.alignment import taxes
from harness.comparison.best import beside_best
from harness.comparison.contaminated import contamination
from harness.comparison.costs import result_of, succeeded
from harness.comparison.examples import examples
from harness.comparison.judged_rates import judged_ranks, judged_rates
from harness.comparison.judges import suite_judges
from harness.comparison.measured import Run
from harness.comparison.result import ALL, Comparison, Row
from harness.comparison.rows import AllScores, rows_of
from harness.comparison.scores import Reader
from harness.comparison.suite_claims import verdicts
from harness.comparison.verdicts import adjusted
from harness.planning.graph import learnt, learnt_by
from harness.planning.planner import Plan, VariantPath
from harness.store.rows_used import all_rows_used
from harness.store.stage import Record
from harness.store.store import Store
from harness.variants.variant import Merged


def compare(
    planned: Plan,
    records: Mapping[str, Record],
    store: Store,
    command: str = "",
    stored: Mapping[str, Mapping[int, Run]] = {},
) -> Comparison:
    """Compare every variant with its baseline on the same examples.

    A variant that failed stays in the comparison with its reasons, and has a row for each metric
    that was measured before it failed.

    Args:
        records: the record of every stage, by the stage's key.
        command: the command line to show in the report; by default `harness run FILE`.
        stored: the runs, by seed, of each stored baseline that a claim compares with.
    """
    groups: dict[str, list[VariantPath]] = defaultdict(list)
    for path in planned.paths:
        groups[path.variant.group].append(path)
    variants = tuple(
        replace(result_of(group, paths, records, store), learnt=learnt_by(planned, paths[0]))
        for group, paths in groups.items()
    )
    with_result = {v.group for v in variants if v.has_result}
    finished = {
        group: [succeeded(path, records) for path in paths] for group, paths in groups.items()
    }
    read = Reader(records, store, learnt(planned), _trainings_of_baselines(planned))
    scores = {
        group: {path.variant.seed: read(path) for path in paths}
        for group, paths in finished.items()
        if group in with_result
    }
    rows = adjusted(rows_of(scores, planned.baseline, planned.baselines))
    best, others = beside_best(scores, rows)
    return Comparison(
        suite=planned.suite.name,
        description=planned.suite.description,
        command=command or f"harness run {planned.file}",
        baseline=planned.baseline,
        baselines=planned.baselines,
        variants=variants,
        rows=tuple(rows),
        examples=tuple(examples(finished, with_result, scores, store)),
        contamination=tuple(contamination(planned, records)),
        provenance=provenance.provenance(planned, records),
        data=tuple(provenance.data(planned, records)),
        ledger=provenance.ledger(planned, records),
        notes=(*constant.notes(rows), *provenance.notes(planned, records, variants, store)),
        suite_text=planned.text,
        tuning=tuple(tuning.tunings(planned, records)),
        rows_used=tuple(all_rows_used(planned.stages(), records)),
        merged=tuple(_merged(planned, scores)),
        taxes=tuple(taxes(finished, variants, records, read)),
        best=best,
        beside_best=others,
        claims=tuple(verdicts(planned, variants, scores, stored)),
        judges=suite_judges(planned, store),
        judged_rates=judged_rates(planned, store),
        judged_ranks=judged_ranks(planned, store),
        correction=planned.suite.correction,
    )


def _trainings_of_baselines(planned: Plan) -> dict[str, set[str]]:
    """Variant -> the keys of its baseline's training stages."""
    keys: dict[str, set[str]] = defaultdict(set)
    for path in planned.paths:
        keys[path.variant.group] |= set() if path.train is None else {path.train.key}
    against = {group: planned.baselines.get(group, planned.baseline) for group in keys}
    return {group: keys[base] for group, base in against.items() if base in keys}


def _merged(planned: Plan, scores: AllScores) -> list[Row]:
    """Compares each merged variant with the unmerged one that shares its training.

    Holm's adjustment counts these rows as a family of their own.
    """
    variants = [path.variant for path in planned.paths]
    pairs = {v.group: v.of.group for v in variants if isinstance(v, Merged)}
    rows = [
        row
        for merged, unmerged in pairs.items()
        if merged in scores and unmerged in scores
        for row in rows_of({unmerged: scores[unmerged], merged: scores[merged]}, unmerged)
        if row.group == merged and row.slice == ALL
    ]
    return adjusted(rows)
