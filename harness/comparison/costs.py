"""Summarises each variant over its seeds: status, costs, and how its answers ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.comparison.examples import losses
from harness.comparison.result import Conditions, VariantResult
from harness.planning.graph import behind, trained_by
from harness.planning.planner import VariantPath
from harness.stages._models import CHECKPOINT
from harness.stages.score import reward_models
from harness.store.kind import kind_of
from harness.store.stage import Record, Stage
from harness.store.store import Store
from harness.variants.variant import Merged, Untrained


def result_of(
    group: str, paths: list[VariantPath], records: Mapping[str, Record], store: Store
) -> VariantResult:
    """Summarise a variant over its seeds.

    Args:
        group: the variant's name without its seed.
        paths: one for each seed.
    """
    reasons = []
    for path in paths:
        for stage in (*_before(path, records), *_judges(path, records), *_stages(path)):
            error = records[stage.key].error
            if error is not None and not error.get("skipped"):
                of = path.variant.id if stage in _stages(path) else stage.label
                reasons.append(f"{stage.kind} of {of}: {error['message']}")
    first = paths[0].variant
    elsewhere = first.elsewhere is not None
    trained = [records[p.train.key] for p in paths if p.train is not None]
    trained = [record for record in trained if record.ok]
    failed = any(not records[s.key].ok for p in paths for s in _stages(p))
    cost = _cost(paths, trained, records)
    return VariantResult(
        group=group,
        ids=tuple(p.variant.id for p in paths),
        labels={k: v for k, v in first.labels.items() if k != "seed"},
        trained=not isinstance(first, Untrained),
        merged_from=first.of.group if isinstance(first, Merged) else "",
        elsewhere=elsewhere,
        served=any(_is_served(stage) for path in paths for stage in path.results()),
        seeds=tuple(p.variant.seed for p in paths),
        status=_status(paths, records) if failed else "ok",
        reasons=tuple(dict.fromkeys(reasons)) or (("an input failed",) if failed else ()),
        cost=_without_training(cost) if elsewhere else cost,
        predicted=_means(
            [r.cost.get("predicted", {}) for r in trained], ("seconds", "state_bytes", "tokens")
        ),
        generation=_generation(paths, records),
        audit=tuple(check for r in trained for check in r.metrics.get("audit", [])),
        spread={} if elsewhere else _spread(paths, records),
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


def _of_services(name: str, path: VariantPath, records: Mapping[str, Record]) -> float | None:
    """What the services that answer for a variant's model have counted; None if there are none."""
    scored = (scored.stage for scored in path.scores)
    asked = [s for s in (*path.generate.values(), *scored) if _asks_service(s)]
    trained = [] if path.train is None or name != "money" else [path.train]
    stages = {stage.key: stage for stage in (*asked, *trained)}
    amounts = [records[key].cost.get(name) for key in stages if records[key].ok]
    known = [float(amount) for amount in amounts if amount is not None]
    return sum(known) if known else None


def _asks_service(stage: Stage) -> bool:
    """Whether the model that a stage asks is served, tuned there or not."""
    tuned = stage.inputs.get(CHECKPOINT)
    return _is_served(stage if tuned is None else tuned)


def _is_served(stage: Stage) -> bool:
    """Whether another server answers for the model that a stage asks."""
    return "endpoint" in (stage.config.get("model") or {})


def _status(paths: list[VariantPath], records: Mapping[str, Record]) -> str:
    """The status of a variant with a failed stage: `partial` if it has scores all the same."""
    scored = any(records[s.stage.key].ok for path in paths for s in path.scores)
    return "partial" if scored else "failed"


def succeeded(path: VariantPath, records: Mapping[str, Record]) -> VariantPath:
    """The part of a path whose stages have results; what is there can be compared."""

    def good(stage: Stage) -> bool:
        return stage.key in records and records[stage.key].ok

    return replace(
        path,
        generate={entry: stage for entry, stage in path.generate.items() if good(stage)},
        scores=tuple(scored for scored in path.scores if good(scored.stage)),
        start=None if path.start is None else succeeded(path.start, records),
    )


def _before(path: VariantPath, records: Mapping[str, Record]) -> list[Stage]:
    """The stages before a path's training (trainings, samples, labels) that have records.

    `harness gc` may have removed the records of some.
    """
    stages = [] if path.train is None else behind(path.train)[:-1]
    return [stage for stage in stages if stage.key in records]


def _judges(path: VariantPath, records: Mapping[str, Record]) -> list[Stage]:
    """The trainings behind the reward models that score its answers."""
    trainings = {
        stage.key: stage
        for scored in path.scores
        for judge in reward_models(scored.stage)
        for stage in trained_by(judge)
    }
    return [stage for key, stage in trainings.items() if key in records]


def _stages(path: VariantPath) -> Iterable[Stage]:
    if path.tuning is not None and path.tuning.select is not None:
        yield path.tuning.select
    if path.train is not None:
        yield path.train
    yield from path.generate.values()
    yield from (scored.stage for scored in path.scores)


_COSTS = (
    "seconds", "seconds_per_step", "trainable_parameters", "parameters", "checkpoint_bytes",
    "state_bytes", "tokens", "flops", "mfu",
)  # fmt: skip


def _cost(
    paths: list[VariantPath], trained: list[Record], records: Mapping[str, Record]
) -> dict[str, float | None]:
    costs = _means([record.cost for record in trained], _COSTS)
    before = [[spent(records[s.key]) or 0.0 for s in _before(p, records)] for p in paths]
    costs["seconds_before"] = _mean([sum(seconds) for seconds in before if seconds])
    costs["last_seconds"] = _mean([spent(record) for record in trained])
    costs["last_tokens"] = costs["tokens"]
    for name in ("tokens", "flops"):
        costs[name] = _mean([_summed(_counted(name), path, records) for path in paths])
    costs["joules"] = _mean([_summed(energy_of, path, records) for path in paths])
    # A variant's cost is that of its whole path, even if other variants share its first stages.
    last, earlier = costs["last_seconds"], costs["seconds_before"] or 0.0
    costs["train_seconds"] = None if last is None else last + earlier
    generated = [records[g.key] for p in paths for g in p.generate.values()]
    costs["tokens_per_second"] = _mean([r.cost.get("tokens_per_second") for r in generated])
    for name in ("prompt_tokens", "completion_tokens", "money"):
        costs[f"service_{name}"] = _mean([_of_services(name, path, records) for path in paths])
    peaks = [r.cost.get("peak_memory", {}) for r in trained]
    costs["peak_host_bytes"] = _mean([peak.get("host_bytes") for peak in peaks])
    costs["peak_device_bytes"] = _mean([peak.get("device_bytes") for peak in peaks])
    return costs


Amount = Callable[[Record], float | None]
"""The record of a training -> an amount of it; None if it is unknown."""


def _counted(name: str) -> Amount:
    return lambda record: record.cost.get(name)


def energy_of(record: Record) -> float | None:
    """The joules of a training's steps. What a training took before it was stopped is unknown, so
    that the energy of one that went on is unknown too."""
    cost = record.cost
    steps = cost.get("phases", {}).get("train")
    went_on = steps is None or cost.get("train_seconds", steps) > steps
    return None if went_on else cost.get("joules", {}).get("train")


def _summed(amount: Amount, path: VariantPath, records: Mapping[str, Record]) -> float | None:
    """The sum of an amount over all trainings of a path; None if one of them is unknown."""
    if path.train is None or not records[path.train.key].ok:
        return None
    stages = [s for s in behind(path.train) if kind_of(s.kind).purpose == "training"]
    trainings = [records.get(stage.key) for stage in stages]
    counts = [None if record is None else amount(record) for record in trainings]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _timed(paths: list[VariantPath], records: Mapping[str, Record]) -> list[Stage]:
    """The stages whose time counts as training time, with those before the last training."""
    stages = [stage for path in paths for stage in (*_before(path, records), path.train) if stage]
    return [stage for stage in stages if records[stage.key].ok and stage.kind != "checkpoint"]


_BUSY = 0.1
"""A stage that waited for a processor for more than this share of its time is not compared by
time."""


def conditions(record: Record) -> Conditions:
    """The conditions that a stage ran under: device, threads, other work on the machine."""
    machine = record.provenance
    endpoint = (record.config.get("model") or {}).get("endpoint") or {}
    service = endpoint.get("base_url") or machine.get("service")
    if service is not None:
        return Conditions(f"the service {service}", None, False)
    device = machine.get("device_name") or machine.get("processor") or machine.get("platform", "")
    threads = None if machine.get("device_name") else machine.get("threads")
    return Conditions(device, threads, (machine.get("waited") or 0.0) > _BUSY)


SAME = 1.02
"""Counts and bytes count as equal if the greater is less than this many times the smaller."""
SAME_TIME = 1.25
"""The same for times: a machine does not repeat them more closely."""
LONE_TIME = 2.0
"""The same for times of a single run, whose noise is unknown."""


def comparable(one: Sequence[Conditions], other: Sequence[Conditions]) -> bool:
    """Whether times that were measured under these conditions can be compared."""
    both = {*one, *other}
    return len(both) <= 1 and not any(condition.busy for condition in both)


def _spread(
    paths: list[VariantPath], records: Mapping[str, Record]
) -> dict[str, tuple[float, float]]:
    """The least and the greatest value of each cost over the seeds."""
    trained = [(p, records[p.train.key]) for p in paths if p.train is not None]
    each = [_cost([path], [record], records) for path, record in trained if record.ok]
    ranges = {}
    for name in each[0] if each else ():
        amounts = [amount for cost in each if (amount := cost[name]) is not None]
        if amounts:
            ranges[name] = (min(amounts), max(amounts))
    return ranges


def spent(record: Record) -> float | None:
    """Seconds of a stage's work: of its training steps if it trains, else of all it did."""
    cost = record.cost
    seconds = cost.get("train_seconds", cost.get("phases", {}).get("train", cost.get("seconds")))
    return None if seconds is None else float(seconds)


KNOWN_ELSEWHERE = ("parameters", "trainable_parameters", "checkpoint_bytes", "tokens_per_second")
"""The costs that are known of a checkpoint that was trained elsewhere."""


def _without_training(cost: dict[str, float | None]) -> dict[str, float | None]:
    """The costs of a checkpoint that was trained elsewhere: what its training cost is unknown."""
    return {name: amount if name in KNOWN_ELSEWHERE else None for name, amount in cost.items()}


def _means(costs: list[dict[str, Any]], names: Iterable[str]) -> dict[str, float | None]:
    return {name: _mean([cost.get(name) for cost in costs]) for name in names}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _generation(
    paths: list[VariantPath], records: Mapping[str, Record]
) -> dict[str, dict[str, float]]:
    names = ("eos_rate", "stop_rate", "truncation_rate", "mean_tokens", "mean_shots",
             "unread_thinking_rate", "refused_rate")  # fmt: skip
    rates = {}
    for entry in paths[0].generate:
        metrics = [records[p.generate[entry].key].metrics for p in paths]
        rates[entry] = {
            name: value for name, value in _means(metrics, names).items() if value is not None
        }
    return rates
