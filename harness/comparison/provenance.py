"""What a comparison is based on: data, checks, machines and time; and notes for its reader."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.comparison import tuning
from harness.comparison.biased import bias_notes
from harness.comparison.contaminated import contaminated, contamination, severely
from harness.comparison.cut_short import cut_short
from harness.comparison.result import VariantResult
from harness.core.text import number_of
from harness.planning.planner import Plan
from harness.planning.shortfalls import counts_in, shortfalls
from harness.store.made_by import mixed
from harness.store.rows_used import all_rows_used, sentences
from harness.store.stage import Record
from harness.store.store import Store

_SHOWN = 3
"""Evaluations that a note names, before it says how many more there are."""


def data(planned: Plan, records: Mapping[str, Record]) -> Iterable[dict[str, Any]]:
    """The rows, layout and digest of every split."""
    for (entry, split), stage in planned.data.items():
        metrics = records[stage.key].metrics
        yield {
            "entry": entry,
            "split": split,
            **{k: metrics.get(k) for k in ("rows", "layout", "dropped", "digest")},
        }


def provenance(planned: Plan, records: Mapping[str, Record]) -> dict[str, Any]:
    """The machine, versions, models and stage keys that a report is based on."""
    versions: dict[str, str] = {}
    for record in records.values():
        versions |= record.provenance.get("versions", {})
    return {
        "machine": _machines(records.values()),
        "versions": versions,
        "models": {
            name: {**info.identity, "parameters": info.parameters}
            for name, info in planned.models.items()
        },
        "test_uses": tuning.test_uses(planned),
        "stages": {
            path.variant.id: {
                kind: stage.key for kind, stage in (("train", path.train),) if stage is not None
            }
            | {f"generate {entry}": stage.key for entry, stage in path.generate.items()}
            for path in planned.paths
        },
    }


_MACHINE = ("platform", "processor", "python", "cores", "threads", "device_name", "harness")


def _machines(records: Iterable[Record]) -> dict[str, str]:
    """The machines that the stages ran on: every value that occurs, and if there are several, how
    many stages have each."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        for name in _MACHINE:
            if (value := record.provenance.get(name)) is not None:
                counts[name][str(value)] += 1
    return {
        name: next(iter(values)) if len(values) == 1 else
        "; ".join(f"{value} ({number_of(count, 'stage')})" for value, count in values.most_common())
        for name in _MACHINE if (values := counts[name])
    }  # fmt: skip


def _timings(variants: tuple[VariantResult, ...]) -> Iterable[str]:
    """A note that times are not comparable, if trainings ran under different conditions."""
    groups_by_conditions: dict[str, list[str]] = defaultdict(list)
    for variant in variants:
        if variant.trained and variant.timed:
            groups_by_conditions[" and ".join(map(str, variant.timed))].append(variant.group)
    if len(groups_by_conditions) > 1:
        listed = "; ".join(
            f"{', '.join(groups)} on {conditions}"
            for conditions, groups in groups_by_conditions.items()
        )
        yield f"Training times are compared only among variants trained alike: {listed}."


def _labelled(label: str, metrics: Mapping[str, Any], checks: Iterable[Record]) -> str:
    """A note on an AI labeller: how far it agrees with known preferences, and what it left out."""
    parts = []
    for check in checks:
        if check.ok:
            parts += [
                _agreed(name, agreement) for name, agreement in check.metrics["agreement"].items()
            ]
        else:
            parts.append(f"not checked by {_KNOWN[_AGAINST[check.kind]]}: {_reason(check)}")
    parts = parts or ["they were not checked, as no other preference is known of these answers"]
    if (same := metrics["labeller"].get("same_in_both_orders")) is not None:
        parts.append(f"{same:.1%} of its verdicts are the same in both orders of the answers")
    for name, what in (
        ("answers_dropped", "answers"),
        ("dropped", "prompts"),
        ("unlabelled", "pairs"),
    ):
        lost = ", ".join(f"{count} {reason}" for reason, count in metrics[name].items())
        parts += [f"{what} left out: {lost}"] if lost else []
    head = (
        f"AI labels, {label}: {number_of(metrics['pairs'], 'pair')}, {metrics['ties']} of them ties"
    )
    return "; ".join([head, *parts]) + "."


_KNOWN = {
    "truth": "the suite's own truth of the sampled answers",
    "rows": "the preferences that its rows hold",
}


_AGAINST = {"truth": "truth", "check": "rows"}
"""Kind of a stage that checks labels -> what it compares them with."""


def _reason(record: Record) -> str:
    return (record.error or {}).get("message", "").split("\n")[0]


def _agreed(name: str, agreement: Mapping[str, Any]) -> str:
    seen = ", which it was trained on," if agreement.get("seen") else ""
    ties = agreement["tied_by_truth"]
    return (
        f"it agrees with {_KNOWN[name]}{seen} on {agreement['share']:.1%} of"
        f" {number_of(agreement['n'], 'pair')}"
        f" (95%: {agreement['low']:.1%} to {agreement['high']:.1%}, pairs as if independent)"
        + (
            ", and prefers an answer in"
            f" {number_of(ties, 'pair that ties', 'pairs that tie')} there"
            if ties
            else ""
        )
    )


def _of_scorers(planned: Plan, records: Mapping[str, Record]) -> Iterable[str]:
    """The notes of scorers on rows, and on answers with the variants that gave them: once for all
    evaluations of a scorer that say the same of the same variants."""
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for path in planned.paths:
        for scored in path.scores:
            record = records.get(scored.stage.key)
            if record is None:
                continue
            scorer = scored.label or scored.scorer
            name = f"{scorer} on {scored.evaluation}"
            for note in record.provenance.get("scorer", {}).get("notes", ()):
                yield f"{name}: {note}."
            for note in record.provenance.get("scorer", {}).get("answer_notes", ()):
                groups[scorer, note, scored.evaluation].append(path.variant.group)
            if left_out := sum(record.metrics.get("unusable", {}).values()):
                given = left_out + record.metrics["rows"]
                yield (
                    f"{name}: {left_out} of"
                    f" {number_of(given, 'row is', 'rows are')} left out,"
                    " as the model's chat template refuses them or leaves out a turn."
                )
    evaluations: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for (scorer, note, evaluation), variants in groups.items():
        evaluations[scorer, note, ", ".join(dict.fromkeys(variants))].append(evaluation)
    for (scorer, note, said_of), names in evaluations.items():
        yield f"{scorer} on {_listed(names)}: {note} ({said_of})."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def ledger(planned: Plan, records: Mapping[str, Record]) -> dict[str, float]:
    """Seconds by kind of stage and phase, in descending order."""
    seconds_by_phase: dict[str, float] = defaultdict(float)
    for stage in planned.stages():
        record = records.get(stage.key)  # missing if a trial before it failed
        for phase, seconds in record.cost.get("phases", {}).items() if record else ():
            seconds_by_phase[f"{stage.kind} {phase}"] += seconds
    return dict(sorted(seconds_by_phase.items(), key=lambda item: -item[1]))


def _of_trainings(planned: Plan, records: Mapping[str, Record]) -> Iterable[str]:
    """The notes of trainings, each once with the names of the trainings that made it."""
    labels_by_note: dict[str, list[str]] = defaultdict(list)
    for stage in planned.stages():
        record = records.get(stage.key)  # missing if a trial before it failed
        if stage.kind == "train" and record is not None and record.ok:
            for note in record.metrics.get("notes", ()):
                labels_by_note[note].append(stage.label)
    for note, labels in labels_by_note.items():
        yield f"{', '.join(labels)}: {note}."


def notes(
    planned: Plan,
    records: Mapping[str, Record],
    variants: tuple[VariantResult, ...],
    store: Store,
) -> Iterable[str]:
    """The notes of a comparison: what a reader must know about how its numbers came about."""
    leaks = list(contaminated(planned, records))
    severe = any(severely(contamination(planned, records)))
    yield from leaks if severe else ()
    yield from tuning.notes(planned, records)
    trains = any(stage.kind == "train" for stage in planned.stages())
    if trains and len(planned.suite.seeds) == 2:
        yield (
            "Two training seeds: the variance between seeds is estimated from one difference alone,"
            " so that intervals are up to six times as wide as they would be if it were known. A"
            " third seed makes them much narrower."
        )
    if trains and len(planned.suite.seeds) == 1:
        yield (
            "One training seed: each difference is about these checkpoints, not about the methods;"
            " add `seeds: [0, 1, 2]` for that."
        )
    unfit = [note for fit in planned.unfit.values() for note in fit.notes(names=False)]
    yield from (note.removeprefix(f"{planned.file}: ") for note in dict.fromkeys(unfit))
    short = shortfalls(planned, counts_in(records))
    if lost := [*sentences(all_rows_used(planned.stages(), records)), *short]:
        yield f"Rows: {'; '.join(lost)}."
    yield from () if severe else leaks
    for stage in planned.stages():
        record = records.get(stage.key)  # missing if a trial before it failed
        if stage.kind == "label" and record is not None and record.ok:
            planned_checks = planned.checks.get(stage.key, ())
            checks = [records[check.key] for check in planned_checks if check.key in records]
            yield _labelled(stage.label, record.metrics, checks)
    yield from _of_trainings(planned, records)
    yield from _timings(variants)
    torches = {r.provenance.get("versions", {}).get("torch") for r in records.values()} - {None}
    if len(torches) > 1:
        yield f"Stages ran under different torch versions: {', '.join(sorted(torches))}."
    if several := mixed(records.values()):
        yield several
    yield from dict.fromkeys(_of_scorers(planned, records))
    yield from bias_notes(planned, store)
    yield from planned.warnings
    for variant in variants:
        for entry, figures in variant.generation.items():
            if refused := figures.get("refused_rate"):
                yield (
                    f"{variant.group} refused {refused:.1%} of {entry}: such an answer is empty,"
                    " and is scored as that."
                )
            if figures.get("truncation_rate", 0.0) > 0.1:
                cut = cut_short(planned, records, variant.group, entry, figures)
                yield f"{variant.group} {cut}"
            if (share := figures.get("unread_thinking_rate", 0.0)) > 0:
                yield (
                    f"{share:.0%} of {variant.group}'s answers to {entry} begin with `<think>`, and"
                    " neither its chat template nor its tokenizer knows thinking: they are scored"
                    " with it. `generate: {thinking: strip}` takes it out."
                )
