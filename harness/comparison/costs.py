"""What a variant is, cost and did, over its seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from harness.comparison.examples import losses
from harness.comparison.result import Conditions, VariantResult
from harness.planning.graph import behind, trained_by
from harness.planning.planner import VariantPath
from harness.scorers.base import REWARD
from harness.store.stage import Record, Stage
from harness.store.store import Store


def result_of(
    group: str, paths: list[VariantPath], records: Mapping[str, Record], store: Store
) -> VariantResult:
    """A variant over its seeds: its status, its costs, how its answers ended."""
    reasons = []
    for path in paths:
        for stage in (*_before(path, records), *_judges(path, records), *_stages(path)):
            error = records[stage.key].error
            if error is not None and not error.get("skipped"):
                of = path.variant.id if stage in _stages(path) else stage.label
                reasons.append(f"{stage.kind} of {of}: {error['message']}")
    first = paths[0].variant
    trained = [records[p.train.key] for p in paths if p.train is not None]
    trained = [record for record in trained if record.ok]
    failed = any(not records[s.key].ok for p in paths for s in _stages(p))
    cost = _cost(paths, trained, records)
    return VariantResult(
        group=group,
        ids=tuple(p.variant.id for p in paths),
        labels={k: v for k, v in first.labels.items() if k != "seed"},
        trained=first.method is not None,
        merged_from=first.merged_from,
        elsewhere=bool(first.checkpoint),
        seeds=tuple(p.variant.seed for p in paths),
        status=_status(paths, records) if failed else "ok",
        reasons=tuple(dict.fromkeys(reasons)) or (("an input failed",) if failed else ()),
        cost=_known(cost) if first.checkpoint else cost,
        predicted=_means(
            [r.cost.get("predicted", {}) for r in trained], ("seconds", "state_bytes", "tokens")
        ),
        generation=_generation(paths, records),
        audit=tuple(check for r in trained for check in r.metrics.get("audit", [])),
        spread={} if first.checkpoint else _spread(paths, records),
        timed=tuple(dict.fromkeys(conditions(records[s.key]) for s in _timed(paths, records))),
        answering=tuple(
            dict.fromkeys(
                conditions(records[g.key])
                for p in paths
                for g in p.generate.values()
                if records[g.key].ok
            )
        ),
        losses=tuple(losses(p.train, store) for p in paths if p.train and records[p.train.key].ok),
    )


def _status(paths: list[VariantPath], records: Mapping[str, Record]) -> str:
    """Of a variant some of whose stages failed: whether there are scores all the same."""
    scored = any(records[s.stage.key].ok for path in paths for s in path.scores)
    return "partial" if scored else "failed"


def succeeded(path: VariantPath, records: Mapping[str, Record]) -> VariantPath:
    """The path as far as there are results: it need not be whole to be compared with."""

    def good(stage: Stage) -> bool:
        return stage.key in records and records[stage.key].ok

    return replace(
        path,
        generate={entry: stage for entry, stage in path.generate.items() if good(stage)},
        scores=tuple(scored for scored in path.scores if good(scored.stage)),
        start=None if path.start is None else succeeded(path.start, records),
    )


def _before(path: VariantPath, records: Mapping[str, Record]) -> list[Stage]:
    """What its training goes on from (trainings, samples, labels); a store that was cleaned may
    lack their records."""
    found = [] if path.train is None else behind(path.train)[:-1]
    return [stage for stage in found if stage.key in records]


def _judges(path: VariantPath, records: Mapping[str, Record]) -> list[Stage]:
    """The trainings behind the reward models that score its answers."""
    found = {
        stage.key: stage
        for scored in path.scores
        if REWARD in scored.stage.inputs
        for stage in trained_by(scored.stage.inputs[REWARD])
    }
    return [stage for key, stage in found.items() if key in records]


def _stages(path: VariantPath) -> Iterable[Stage]:
    if path.tuning is not None and path.tuning.select is not None:
        yield path.tuning.select
    if path.train is not None:
        yield path.train
    yield from path.generate.values()
    yield from (scored.stage for scored in path.scores)


_COSTS = (
    "seconds", "seconds_per_step", "trainable_parameters", "parameters", "checkpoint_bytes",
    "state_bytes", "tokens", "flops",
)  # fmt: skip


def _cost(
    paths: list[VariantPath], trained: list[Record], records: Mapping[str, Record]
) -> dict[str, float | None]:
    found = _means([record.cost for record in trained], _COSTS)
    before = [[_spent(records[s.key]) or 0.0 for s in _before(p, records)] for p in paths]
    found["seconds_before"] = _mean([sum(seconds) for seconds in before if seconds])
    found["last_seconds"] = _mean([_spent(record) for record in trained])
    found["last_tokens"] = found["tokens"]
    for name in ("tokens", "flops"):
        found[name] = _mean([_summed(name, path, records) for path in paths])
    # What a variant costs is its whole path, whoever else shares the stages before.
    last, earlier = found["last_seconds"], found["seconds_before"] or 0.0
    found["train_seconds"] = None if last is None else last + earlier
    generated = [records[g.key] for p in paths for g in p.generate.values()]
    found["tokens_per_second"] = _mean([r.cost.get("tokens_per_second") for r in generated])
    peaks = [r.cost.get("peak_memory", {}) for r in trained]
    found["peak_host_bytes"] = _mean([peak.get("host_bytes") for peak in peaks])
    found["peak_device_bytes"] = _mean([peak.get("device_bytes") for peak in peaks])
    return found


def _summed(name: str, path: VariantPath, records: Mapping[str, Record]) -> float | None:
    """A cost over a path's trainings, those before its own included; None where one is not
    known."""
    if path.train is None or not records[path.train.key].ok:
        return None
    own = [records.get(stage.key) for stage in behind(path.train) if stage.kind == "train"]
    counts = [None if record is None else record.cost.get(name) for record in own]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _timed(paths: list[VariantPath], records: Mapping[str, Record]) -> list[Stage]:
    """The stages whose time counts as training, those before it included."""
    own = [stage for path in paths for stage in (*_before(path, records), path.train) if stage]
    return [stage for stage in own if records[stage.key].ok and stage.kind != "checkpoint"]


_BUSY = 0.1
"""Who waited for a processor more of the time than this has no time to be compared."""


def conditions(record: Record) -> Conditions:
    """What a stage's time depends on besides its work."""
    told = record.provenance
    device = told.get("device_name") or told.get("processor") or told.get("platform", "")
    threads = None if told.get("device_name") else told.get("threads")
    return Conditions(device, threads, (told.get("waited") or 0.0) > _BUSY)


def _spread(
    paths: list[VariantPath], records: Mapping[str, Record]
) -> dict[str, tuple[float, float]]:
    """Least and most of each cost over the seeds."""
    trained = [(p, records[p.train.key]) for p in paths if p.train is not None]
    each = [_cost([path], [record], records) for path, record in trained if record.ok]
    found = {}
    for name in each[0] if each else ():
        amounts = [amount for cost in each if (amount := cost[name]) is not None]
        if amounts:
            found[name] = (min(amounts), max(amounts))
    return found


def _spent(record: Record) -> float | None:
    """Seconds of a stage's own work: training alone, else all it did."""
    cost = record.cost
    own = cost.get("train_seconds", cost.get("phases", {}).get("train", cost.get("seconds")))
    return None if own is None else float(own)


_TOLD = ("parameters", "trainable_parameters", "checkpoint_bytes", "tokens_per_second")


def _known(cost: dict[str, float | None]) -> dict[str, float | None]:
    """Without what checking a checkpoint cost, which says nothing of its training elsewhere."""
    return {name: amount if name in _TOLD else None for name, amount in cost.items()}


def _means(costs: list[dict[str, Any]], names: Iterable[str]) -> dict[str, float | None]:
    return {name: _mean([cost.get(name) for cost in costs]) for name in names}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _generation(
    paths: list[VariantPath], records: Mapping[str, Record]
) -> dict[str, dict[str, float]]:
    names = ("eos_rate", "stop_rate", "truncation_rate", "mean_tokens", "mean_shots",
             "unread_thinking_rate")  # fmt: skip
    found = {}
    for entry in paths[0].generate:
        metrics = [records[p.generate[entry].key].metrics for p in paths]
        found[entry] = {
            name: value for name, value in _means(metrics, names).items() if value is not None
        }
    return found
