"""From records to a Comparison."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from harness.comparison import provenance as background
from harness.comparison import tuning
from harness.comparison.alignment import taxes
from harness.comparison.costs import result_of, succeeded
from harness.comparison.examples import examples
from harness.comparison.result import ALL, Comparison, Row
from harness.comparison.rows import Found, rows_of
from harness.comparison.scores import Reader
from harness.comparison.verdicts import adjusted
from harness.planning.graph import learnt, learnt_by
from harness.planning.planner import Plan, VariantPath
from harness.store.rows_used import all_rows_used
from harness.store.stage import Record
from harness.store.store import Store


def compare(
    planned: Plan, records: Mapping[str, Record], store: Store, command: str = ""
) -> Comparison:
    """Compare every variant with the baseline on the same examples.

    Failed cells stay in the comparison with their reasons; they have rows for what they have.
    """
    groups: dict[str, list[VariantPath]] = defaultdict(list)
    for path in planned.paths:
        groups[path.variant.group].append(path)
    variants = tuple(
        replace(result_of(group, paths, records, store), learnt=learnt_by(planned, paths[0]))
        for group, paths in groups.items()
    )
    good = {v.group for v in variants if v.has_result}
    whole = {group: [succeeded(path, records) for path in paths] for group, paths in groups.items()}
    read = Reader(records, store, learnt(planned))
    scores = {
        group: {path.variant.seed: read(path) for path in paths}
        for group, paths in whole.items()
        if group in good
    }
    return Comparison(
        suite=planned.suite.name,
        description=planned.suite.description,
        command=command or f"harness run {planned.file}",
        baseline=planned.baseline,
        baselines=planned.baselines,
        variants=variants,
        rows=tuple(adjusted(rows_of(scores, planned.baseline, planned.baselines))),
        examples=tuple(examples(whole, good, scores, store)),
        contamination=tuple(background.contamination(planned, records)),
        provenance=background.provenance(planned, records),
        data=tuple(background.data(planned, records)),
        ledger=background.ledger(planned, records),
        notes=tuple(background.notes(planned, records, variants)),
        suite_text=planned.text,
        tuning=tuple(tuning.tunings(planned, records)),
        rows_used=tuple(all_rows_used(planned.stages(), records)),
        merged=tuple(_merged(planned, scores)),
        taxes=tuple(taxes(whole, variants, records, read)),
    )


def _merged(planned: Plan, scores: Found) -> list[Row]:
    """Merged variants against the unmerged ones that share their training; a family of its own."""
    pairs = {p.variant.group: p.variant.merged_from for p in planned.paths if p.variant.merged_from}
    found = [
        row
        for merged, whole in pairs.items()
        if merged in scores and whole in scores
        for row in rows_of({whole: scores[whole], merged: scores[merged]}, whole)
        if row.group == merged and row.slice == ALL
    ]
    return adjusted(found)
