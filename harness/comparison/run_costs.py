"""What a run cost, from the records of its stages alone, without the suite that they are of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.comparison.costs import KNOWN_ELSEWHERE, conditions, energy_of, spent
from harness.comparison.measured import Run, RunCosts
from harness.comparison.result import VariantResult
from harness.store.stage import Record

_OF_LAST = ("trainable_parameters", "parameters", "checkpoint_bytes", "state_bytes", "mfu")
_TRAINS = frozenset({"train", "fine_tuning"})
"""The kinds of stages that train. Another kind with a checkpoint has one from elsewhere."""


def run_costs(
    trained: Record | None, answers: Sequence[Record], records: Mapping[str, Record]
) -> RunCosts:
    """The costs of one run, in seconds, bytes and counts. A variant's cost is that of its whole
    path: time, tokens and operations of the trainings before its last one are counted too.

    Args:
        trained: the record of its last training, or of the checkpoint that it was given; None for
            an untrained model.
        answers: the records of its answers.
        records: by key, those of the stages before the training.
    """
    amounts: dict[str, Any] = {}
    path: list[Record] = []
    if trained is not None:
        path = list(_path(trained, records, {}))
        amounts = {name: trained.cost.get(name) for name in _OF_LAST}
        for name in ("tokens", "flops"):
            amounts[name] = _summed([r.cost.get(name) for r in path if r.kind in _TRAINS])
        amounts["joules"] = _summed([energy_of(r) for r in path if r.kind in _TRAINS])
        amounts["train_seconds"] = None if spent(trained) is None else sum(
            spent(record) or 0.0 for record in path
        )  # fmt: skip
        peaks = trained.cost.get("peak_memory") or {}
        amounts |= {f"peak_{name}": peaks.get(name) for name in ("host_bytes", "device_bytes")}
        if trained.kind not in _TRAINS:
            amounts = {name: amounts.get(name) for name in KNOWN_ELSEWHERE}
    speeds = [s for r in answers if (s := r.cost.get("tokens_per_second")) is not None]
    amounts["tokens_per_second"] = sum(map(float, speeds)) / len(speeds) if speeds else None
    return RunCosts(
        {name: float(a) for name, a in amounts.items() if a is not None and math.isfinite(a)},
        trained is not None,
        tuple(dict.fromkeys(conditions(r) for r in path if r.kind != "checkpoint")),
        tuple(dict.fromkeys(map(conditions, answers))),
    )


def _summed(amounts: Sequence[Any]) -> float | None:
    """The sum; None if one is unknown."""
    return None if not amounts or None in amounts else sum(map(float, amounts))


def _path(record: Record, records: Mapping[str, Record], seen: dict[str, None]) -> Iterator[Record]:
    """The stages before a training that have records, except data stages, and itself last."""
    waiting = [record]
    while waiting:
        one = waiting.pop()
        if one.key in seen or one.kind == "data" or not one.ok:
            continue
        seen[one.key] = None
        yield one
        waiting += [records[key] for key in one.inputs.values() if key in records]


def result_of_runs(runs: Mapping[int, Run], name: str) -> VariantResult:
    """The costs of one side of a check, over its seeds."""
    known = [run.costs for run in runs.values() if run.costs is not None]
    names = dict.fromkeys(amount for costs in known for amount in costs.amounts)
    each = {amount: [c.amounts[amount] for c in known if amount in c.amounts] for amount in names}
    whole = {amount: values for amount, values in each.items() if len(values) == len(runs)}
    return VariantResult(
        group=name, ids=(name,), labels={}, trained=not known or any(c.trained for c in known),
        seeds=tuple(runs), status="ok", reasons=(), predicted={}, generation={}, audit=(),
        cost={amount: sum(values) / len(values) for amount, values in whole.items()},
        spread={amount: (min(values), max(values)) for amount, values in whole.items()},
        timed=tuple(dict.fromkeys(one for costs in known for one in costs.timed)),
        answering=tuple(dict.fromkeys(one for costs in known for one in costs.answering)),
    )  # fmt: skip
