"""What a comparison says of tuning, budgets, kept checkpoints, and uses of the test rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.planning.planner import Plan
from harness.store.stage import Record, Stage


def tunings(planned: Plan, records: Mapping[str, Record]) -> Iterator[dict[str, Any]]:
    """Each cell's trials as its select stage recorded them, or why there is no winner."""
    for tuning in planned.tunings():
        record = records.get(tuning.select.key) if tuning.select is not None else None
        if record is None:
            continue
        found: dict[str, Any] = {
            "group": tuning.group,
            "metric": tuning.metric,
            "evaluation": tuning.evaluation,
            "higher_is_better": tuning.higher_is_better,
            "logarithmic": list(tuning.logarithmic),
            "total": tuning.total,
            "trials": record.metrics.get("trials", []),
            "winner": record.metrics.get("winner", {}).get("number"),
        }
        yield found if record.ok else {**found, "error": (record.error or {}).get("message", "")}


def notes(planned: Plan, records: Mapping[str, Record]) -> Iterator[str]:
    """What a reader must know of how the variants were chosen and ended."""
    tune, budget = planned.suite.tune, planned.suite.budget
    if tune is not None:
        seeds = f"{len(tune.seeds)} seeds" if len(tune.seeds) > 1 else "one seed"
        yield (
            f"Hyper-parameters were chosen on validation rows by {tune.metric}: {tune.trials}"
            f" trials ({tune.search} search, {seeds} a trial) for every cell alike. No trial was"
            " scored on test rows."
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


def test_uses(planned: Plan) -> dict[str, dict[str, int]]:
    """How many variants, and how many trials, were scored on each test split."""
    found = {}
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
        found[entry] = {"variants": len(variants), "trials": len(trials)}
    return found


def _reads(stage: Stage, rows: Stage) -> bool:
    return stage == rows or any(_reads(source, rows) for source in stage.inputs.values())
