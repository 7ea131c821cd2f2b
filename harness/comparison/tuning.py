"""Tuning, budgets, kept checkpoints, and how often test rows were used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.core.text import number_of
from harness.planning.planner import Plan
from harness.store.stage import Record, Stage
from harness.suite.filters import CellFilter


def tunings(planned: Plan, records: Mapping[str, Record]) -> Iterator[dict[str, Any]]:
    """The trials of each tuned variant as its select stage recorded them, or why none won."""
    for tuning in planned.tunings():
        record = records.get(tuning.select.key) if tuning.select is not None else None
        if record is None:
            continue
        summary: dict[str, Any] = {
            "group": tuning.group,
            "metric": tuning.metric,
            "evaluation": tuning.evaluation,
            "higher_is_better": tuning.higher_is_better,
            "logarithmic": list(tuning.logarithmic),
            "total": tuning.total,
            "trials": record.metrics.get("trials", []),
            "winner": record.metrics.get("winner", {}).get("number"),
        }
        yield (
            summary if record.ok else {**summary, "error": (record.error or {}).get("message", "")}
        )


def notes(planned: Plan, records: Mapping[str, Record]) -> Iterator[str]:
    """Notes on how hyper-parameters and checkpoints were chosen and when training ended."""
    tune, budget = planned.suite.tune, planned.suite.budget
    if tune is not None:
        seeds = number_of(len(tune.seeds), "seed") if len(tune.seeds) > 1 else "one seed"
        yield (
            f"Hyper-parameters were chosen on validation rows by {tune.metric}: {tune.trials}"
            f" trials ({tune.search} search, {seeds} a trial) for every cell{_with(tune.match)}"
            f" alike.{' The others have what the suite gives them.' if tune.match else ''}"
            " No trial was scored on test rows."
        )
    if budget is not None:
        exempt = "; runs that end by the clock do not repeat bit for bit" if budget.seconds else ""
        yield f"Every training run ends at the same budget: {budget}{exempt}."
    for path in planned.paths:
        record = records.get(path.train.key) if path.train is not None else None
        kept = record.metrics.get("kept", {}) if record is not None and record.ok else {}
        if record is not None and kept.get("policy") == "best":
            yield (
                f"{path.variant.id} keeps the checkpoint of its lowest validation loss"
                f" ({kept['validation_loss']:.4g}): step {kept['step']} of"
                f" {record.metrics['steps']}."
            )


def _with(match: CellFilter) -> str:
    rules = [f"{axis} {' or '.join(map(str, names))}" for axis, names in match.items()]
    return f" with {' and '.join(rules)}" if rules else ""


def test_uses(planned: Plan) -> dict[str, dict[str, int]]:
    """How many variants and how many trials were scored on each entry's test rows."""
    uses = {}
    for (entry, split), rows in planned.data.items():
        if split != "test":
            continue
        scored = (*planned.paths, *planned.starts)
        variants = {p.variant.group for p in scored if any(_reads(s.stage, rows) for s in p.scores)}
        trials = [
            trial
            for tuning in planned.tunings()
            for trial in tuning.trials
            if any(_reads(score, rows) for score in trial.scores)
        ]
        uses[entry] = {"variants": len(variants), "trials": len(trials)}
    return uses


def _reads(stage: Stage, rows: Stage) -> bool:
    """Whether a stage depends on the rows of a data stage."""
    return stage == rows or any(_reads(source, rows) for source in stage.inputs.values())
