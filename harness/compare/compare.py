"""From records to a Comparison."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from harness.compare import tuning
from harness.compare.read import Scores, examples, losses, scores_of
from harness.compare.result import ALL, Comparison, Estimate, Row, VariantResult
from harness.compare.statistics import Inference, Resampler, holm, infer
from harness.plan import Plan, VariantPath
from harness.plan_graph import trained_by
from harness.stage import Record, Stage
from harness.store import Store

_ALPHA = 0.05
Column = tuple[str, str]
"""(metric, evaluation)"""


def compare(
    planned: Plan, records: Mapping[str, Record], store: Store, command: str = ""
) -> Comparison:
    """Compare every variant with the baseline on the same examples.

    Failed cells stay in the comparison with their reasons; they have no rows.
    """
    groups: dict[str, list[VariantPath]] = defaultdict(list)
    for path in planned.paths:
        groups[path.variant.group].append(path)
    variants = tuple(_variant(group, paths, records, store) for group, paths in groups.items())
    good = {v.group for v in variants if v.status == "ok"}
    scores = {
        group: {p.variant.seed: scores_of(p, records, store) for p in paths}
        for group, paths in groups.items()
        if group in good
    }
    rows = adjusted(_rows(scores, planned.baseline))
    return Comparison(
        suite=planned.suite.name,
        description=planned.suite.description,
        command=command or f"harness run {planned.file}",
        baseline=planned.baseline,
        variants=variants,
        rows=tuple(rows),
        examples=tuple(examples(planned, groups, good, scores, records, store)),
        contamination=tuple(_contamination(planned, records)),
        provenance=_provenance(planned, records),
        data=tuple(_data(planned, records)),
        ledger=_ledger(planned, records),
        notes=(*tuning.notes(planned, records), *_notes(planned, records, variants)),
        suite_text=planned.text,
        tuning=tuple(tuning.tunings(planned, records)),
    )


def _rows(scores: Mapping[str, Mapping[int, Mapping[Column, Scores]]], baseline: str) -> list[Row]:
    columns: dict[Column, None] = {}
    for seeds in scores.values():
        for found in seeds.values():
            columns.update(dict.fromkeys(found))
    rows = []
    resamplers: dict[tuple[str, ...], Resampler] = {}
    for column in columns:
        for part in _slices(scores, column):
            cut = {
                group: {seed: found[column].slice(part) for seed, found in seeds.items()}
                for group, seeds in scores.items()
                if all(
                    part in found[column].groups or part == ALL
                    for found in seeds.values()
                    if column in found
                )
                and all(column in found for found in seeds.values())
            }
            for group in cut:
                rows.append(_row(group, column, part, cut, baseline, resamplers))
    return rows


def _slices(
    scores: Mapping[str, Mapping[int, Mapping[Column, Scores]]], column: Column
) -> list[str]:
    """The whole, then each group of rows where there is more than one."""
    found: dict[str, None] = {}
    for seeds in scores.values():
        for scored in seeds.values():
            if column in scored:
                found.update(dict.fromkeys(scored[column].groups))
    named = sorted(part for part in found if part)
    return [ALL, *named] if len(named) > 1 else [ALL]


def _row(
    group: str,
    column: Column,
    part: str,
    cut: Mapping[str, Mapping[int, Scores]],
    baseline: str,
    resamplers: dict[tuple[str, ...], Resampler],
) -> Row:
    own = cut[group]
    first = next(iter(own.values()))
    key = (*first.clusters, "", *first.ids)
    weights = resamplers.setdefault(key, None) or Resampler(first.clusters)  # type: ignore[arg-type]
    resamplers[key] = weights
    draws = {seed: found.sample.resampled(weights) for seed, found in own.items()}
    alone = infer([f.sample.point() for f in own.values()], list(draws.values()), weights.clusters)
    row = Row(
        group=group,
        metric=column[0],
        evaluation=column[1],
        slice=part,
        higher_is_better=first.higher_is_better,
        unit=first.unit,
        n=len(first.ids),
        clusters=weights.clusters,
        seeds=len(own),
        estimate=Estimate(alone.value, alone.low, alone.high),
        difference=None,
        p=None,
        p_holm=None,
        detectable=None,
        level="checkpoint" if len(own) == 1 else "method",
        verdict="baseline",
    )
    if group == baseline:
        return row
    if baseline not in cut:
        return replace(row, verdict="incomparable", note="the baseline has no result here")
    return _against(row, own, cut[baseline], weights)


def _against(
    row: Row, own: Mapping[int, Scores], base: Mapping[int, Scores], weights: Resampler
) -> Row:
    """The row with its difference: seed k against the baseline's seed k, or its mean."""
    first, other = next(iter(own.values())), next(iter(base.values()))
    if first.ids != other.ids or first.rows != other.rows:
        return replace(row, verdict="incomparable", note="not the same examples")
    if first.version != other.version:
        return replace(row, verdict="incomparable", note="not the same scorer, or its version")
    if not _same_tokens(first, other):
        return replace(row, verdict="incomparable", note="not the same tokens: another tokenizer")
    paired = len(base) > 1 and own.keys() <= base.keys()
    points, draws = [], []
    base_point = sum(b.sample.point() for b in base.values()) / len(base)
    base_draws = sum(b.sample.resampled(weights) for b in base.values()) / len(base)
    for seed, found in own.items():
        mine, mine_draws = found.sample.point(), found.sample.resampled(weights)
        if paired:
            points.append(mine - base[seed].sample.point())
            draws.append(mine_draws - base[seed].sample.resampled(weights))
        else:
            points.append(mine - base_point)
            draws.append(mine_draws - base_draws)
    apart = () if paired else tuple(b.sample.point() for b in base.values())
    found_: Inference = infer(points, draws, weights.clusters, apart)
    return replace(
        row,
        difference=Estimate(found_.value, found_.low, found_.high),
        p=found_.p,
        detectable=found_.detectable,
    )


def _same_tokens(first: Scores, other: Scores) -> bool:
    """Whether two figures a token are about the same tokens; true where tokens do not matter."""
    own, base = (s.sample.columns.get("tokens") for s in (first, other))
    return own is None or base is None or bool((own == base).all())


def adjusted(rows: list[Row]) -> list[Row]:
    """Holm over the whole-set rows, and apart from them over the slices; then the verdicts."""
    adjusted = list(rows)
    for whole in (True, False):
        family = [
            i for i, row in enumerate(rows) if (row.slice == ALL) is whole and row.p is not None
        ]
        for i, p in zip(family, holm([rows[i].p or 0.0 for i in family]), strict=True):
            adjusted[i] = replace(rows[i], p_holm=p)
    return [_judged(row) for row in adjusted]


def _judged(row: Row) -> Row:
    """A verdict needs the interval and the adjusted p to agree."""
    if row.difference is None:
        return row
    low, high = row.difference.low, row.difference.high
    clear = low is not None and high is not None and (low > 0 or high < 0)
    if not clear or row.p_holm is None or row.p_holm >= _ALPHA:
        return replace(row, verdict="no difference shown")
    up = row.difference.value > 0
    return replace(row, verdict="better" if up == row.higher_is_better else "worse")


def _variant(
    group: str, paths: list[VariantPath], records: Mapping[str, Record], store: Store
) -> VariantResult:
    reasons = []
    for path in paths:
        for stage in (*_before(path, records), *_stages(path)):
            error = records[stage.key].error
            if error is not None and not error.get("skipped"):
                of = path.variant.id if stage in _stages(path) else stage.label
                reasons.append(f"{stage.kind} of {of}: {error['message']}")
    first = paths[0].variant
    trained = [records[p.train.key] for p in paths if p.train is not None]
    trained = [record for record in trained if record.ok]
    failed = any(not records[s.key].ok for p in paths for s in _stages(p))
    return VariantResult(
        group=group,
        ids=tuple(p.variant.id for p in paths),
        labels={k: v for k, v in first.labels.items() if k != "seed"},
        trained=first.trained,
        seeds=tuple(p.variant.seed for p in paths),
        status="failed" if failed else "ok",
        reasons=tuple(dict.fromkeys(reasons)) or (("an input failed",) if failed else ()),
        cost=_cost(paths, trained, records),
        predicted=_means(
            [r.cost.get("predicted", {}) for r in trained], ("seconds", "state_bytes", "tokens")
        ),
        generation=_generation(paths, records),
        audit=tuple(check for r in trained for check in r.metrics.get("audit", [])),
        losses=tuple(losses(p.train, store) for p in paths if p.train and records[p.train.key].ok),
    )


def _before(path: VariantPath, records: Mapping[str, Record]) -> list[Stage]:
    """The trainings its own goes on from; a store that was cleaned may lack their records."""
    found = [] if path.train is None else list(trained_by(path.train))[:-1]
    return [stage for stage in found if stage.key in records]


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
    before = [[records[s.key].cost.get("seconds", 0.0) for s in _before(p, records)] for p in paths]
    found["seconds_before"] = _mean([sum(seconds) for seconds in before if seconds])
    found["train_seconds"] = _mean([r.cost.get("phases", {}).get("train") for r in trained])
    generated = [records[g.key] for p in paths for g in p.generate.values()]
    found["tokens_per_second"] = _mean([r.cost.get("tokens_per_second") for r in generated])
    peaks = [r.cost.get("peak_memory", {}) for r in trained]
    found["peak_host_bytes"] = _mean([peak.get("host_bytes") for peak in peaks])
    found["peak_device_bytes"] = _mean([peak.get("device_bytes") for peak in peaks])
    return found


def _means(costs: list[dict[str, Any]], names: Iterable[str]) -> dict[str, float | None]:
    return {name: _mean([cost.get(name) for cost in costs]) for name in names}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _generation(
    paths: list[VariantPath], records: Mapping[str, Record]
) -> dict[str, dict[str, float]]:
    names = ("eos_rate", "stop_rate", "truncation_rate", "mean_tokens", "mean_shots")
    found = {}
    for entry in paths[0].generate:
        metrics = [records[p.generate[entry].key].metrics for p in paths]
        found[entry] = {
            name: value for name, value in _means(metrics, names).items() if value is not None
        }
    return found


def _contamination(planned: Plan, records: Mapping[str, Record]) -> Iterable[dict[str, Any]]:
    for stage in planned.contamination:
        record = records[stage.key]
        yield {"pair": stage.label, **(record.metrics if record.ok else {"error": record.error})}


def _data(planned: Plan, records: Mapping[str, Record]) -> Iterable[dict[str, Any]]:
    for (entry, split), stage in planned.data.items():
        metrics = records[stage.key].metrics
        yield {
            "entry": entry,
            "split": split,
            **{k: metrics.get(k) for k in ("rows", "layout", "dropped", "digest")},
        }


def _provenance(planned: Plan, records: Mapping[str, Record]) -> dict[str, Any]:
    """Machine, versions and stage keys behind the report."""
    machines: dict[str, Any] = {}
    versions: dict[str, str] = {}
    for record in records.values():
        versions |= record.provenance.get("versions", {})
        known: dict[str, Any] = {
            k: record.provenance[k]
            for k in ("platform", "python", "cores", "threads", "device_name", "harness")
            if k in record.provenance
        }
        machines |= known
    return {
        "machine": machines,
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


def _ledger(planned: Plan, records: Mapping[str, Record]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for stage in planned.stages():
        record = records.get(stage.key)  # none where a trial before it failed
        for phase, seconds in record.cost.get("phases", {}).items() if record else ():
            found[f"{stage.kind} {phase}"] += seconds
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _notes(
    planned: Plan, records: Mapping[str, Record], variants: tuple[VariantResult, ...]
) -> Iterable[str]:
    if len(planned.suite.seeds) == 1:
        yield (
            "One training seed: each difference is about these checkpoints, not about the methods;"
            " add `seeds: [0, 1, 2]` for that."
        )
    for stage in planned.contamination:
        metrics = records[stage.key].metrics
        if metrics.get("exact") or metrics.get("overlap"):
            yield (
                f"Contamination, {stage.label}: {metrics['exact']} test rows stand in the training"
                f" rows, {metrics['overlap']} more share half of their {metrics['n']}-grams."
            )
    torches = {r.provenance.get("versions", {}).get("torch") for r in records.values()} - {None}
    if len(torches) > 1:
        yield f"Stages ran under different torch versions: {', '.join(sorted(torches))}."
    for variant in variants:
        for entry, figures in variant.generation.items():
            if figures.get("truncation_rate", 0.0) > 0.1:
                yield (
                    f"{variant.group} was cut at the length limit on"
                    f" {figures['truncation_rate']:.0%} of {entry}: it does not stop by itself."
                )
