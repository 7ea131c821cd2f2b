"""lm-evaluation-harness's samples as rows of statistics.

So each of its figures has an interval, and is compared example by example.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.scorers._lm_eval_kinds import KINDS, Kind, equal, figure, name_of, sums, value_of
from harness.scorers.base import SHARE, Metric

Row = dict[str, Any]
Sample = Mapping[str, Any]


@dataclass(frozen=True)
class Scores:
    """What the samples of one task, group or tag say.

    Attributes:
        rows: one an example: example_id, cluster, group, and the columns of the metrics.
        metrics: name -> how it is made of the columns.
        left_out: metrics that have no statistics of single examples -> why.
        chance: the share that guessing gets right; None where it is not known.
    """

    rows: list[Row]
    metrics: dict[str, Metric]
    left_out: dict[str, str]
    chance: float | None


def scores_of(
    samples: Mapping[str, Sequence[Sample]],
    tasks: Mapping[str, Any],
    figures: Mapping[str, Mapping[str, Any]],
    of: str,
    *,
    by_task: Collection[str] = (),
) -> Scores:
    """Rows and metrics of one task, or of all tasks of a group or tag.

    A metric has lm-eval's name (`acc`), with its filter where there are several
    (`exact_match,strict-match`). The examples of one task of a group are one cluster, as MMLU's
    subjects are. What the rows make of a metric is lm-eval's own figure, else it is left out.

    Args:
        samples: task -> its samples, as `lm_eval.evaluate` logs them.
        tasks: task -> lm-eval's task.
        figures: task or group -> lm-eval's own figures of it (`results`).
        of: the task, group or tag.
        by_task: metrics of which each task weighs the same (`weight_by_size: false` of a group),
            and not each example.
    """
    several = len(samples) > 1
    names = sorted(samples)
    rows: dict[tuple[str, int], Row] = {}
    kinds: dict[str, tuple[Kind, bool]] = {}
    mixed: set[str] = set()
    left_out: dict[str, str] = {}
    filters = {sample["filter"] for task in names for sample in samples[task]}
    for task in names:
        kept = _kept(tasks[task], samples[task], figures[task], left_out)
        for sample in samples[task]:
            key = (task, int(sample["doc_id"]))
            row = rows.setdefault(key, _row(task, sample, several=several))
            for metric in sample["metrics"]:
                if metric not in kept:
                    continue
                name = metric if len(filters) == 1 else f"{metric},{sample['filter']}"
                if kinds.setdefault(name, kept[metric]) != kept[metric]:
                    mixed.add(name)
                for statistic, value in kept[metric][0].statistics(sample[metric]).items():
                    row[f"{name}/{statistic}"] = value
    table = list(rows.values())
    metrics: dict[str, Metric] = {}
    for name, (kind, higher) in kinds.items():
        tasks_alike = names if several and name.split(",")[0] in by_task else []
        metric_or_reason = (
            "its tasks make it in different ways"
            if name in mixed
            else _made(name, kind, table, higher, tasks_alike)
        )
        if isinstance(metric_or_reason, Metric):
            full_name = name if "," in name else f"{name},{next(iter(filters))}"
            metric_or_reason = _as_lm_evals(
                metric_or_reason, table, figures.get(of, {}).get(full_name)
            )
        if isinstance(metric_or_reason, Metric):
            metrics[name] = metric_or_reason
        else:
            left_out[name] = metric_or_reason
            _drop(name, table)
    return Scores(table, metrics, left_out, _chance(samples, tasks, by_task=by_task))


def _row(task: str, sample: Sample, *, several: bool) -> Row:
    # Two models that are asked otherwise (by another chat template) are not asked the same example:
    # their scores are then not compared.
    example = f"{task}/{sample['doc_id']}-{sample['prompt_hash'][:8]}"
    return {
        "example_id": example,
        "cluster": task if several else example,
        "group": task if several else "",
    }


def _kept(
    task: Any, samples: Sequence[Sample], figures: Mapping[str, Any], left_out: dict[str, str]
) -> dict[str, tuple[Kind, bool]]:
    """Metric -> its kind, and whether higher is better; those of other aggregations are told."""
    aggregations, better = task.aggregation(), task.higher_is_better()
    values: dict[str, dict[str, list[Any]]] = {}
    for sample in samples:
        for metric in sample["metrics"]:
            filtered = values.setdefault(metric, {})
            filtered.setdefault(sample["filter"], []).append(sample[metric])
    kept: dict[str, tuple[Kind, bool]] = {}
    for metric, filtered in values.items():
        # lm-eval takes the mean of what a task's own function returns beside its metrics.
        function = aggregations.get(metric)
        name = "mean" if function is None else name_of(function)
        if name not in KINDS:
            left_out[metric] = f"lm-eval's aggregation '{name}' is of a whole set at once"
        elif not all(sums(KINDS[name], each) for each in filtered.values()):
            left_out[metric] = "its values of single examples are no numbers"
        elif not all(
            equal(figure(KINDS[name], each), figures.get(f"{metric},{filter_name}"))
            for filter_name, each in filtered.items()
        ):
            left_out[metric] = f"its examples do not come to lm-eval's own figure by '{name}'"
        else:
            kept[metric] = (KINDS[name], better.get(metric, True) is not False)
    return kept


def _as_lm_evals(metric: Metric, rows: Sequence[Row], theirs: Any) -> Metric | str:
    """The metric where it is lm-eval's figure, or where lm-eval has none; else why it is not."""
    if theirs is None:
        return metric
    columns = {name: [row[column] for row in rows] for name, column in metric.columns.items()}
    if equal(value_of(metric.aggregate, columns), theirs):
        return metric
    # No figures here: reports show the sentence once for all variants.
    return "lm-eval's figure of the group is made of its tasks' figures, not of single examples"


def _made(
    name: str, kind: Kind, rows: Sequence[Row], higher: bool, tasks: Sequence[str]
) -> Metric | str:
    """A metric of the rows that have its columns, which all rows then have; or why there is none.

    Args:
        tasks: those that weigh the same; none where each example does.
    """
    having = [row for row in rows if any(key.startswith(f"{name}/") for key in row)]
    metric = _metric(name, kind, higher, having)
    if len(having) == len(rows) and not tasks:
        return metric
    shares = all(0.0 <= row.get(f"{name}/value", math.inf) <= 1.0 for row in having)
    if metric.aggregate != "mean" or not shares:
        if len(having) == len(rows):
            return "its mean over tasks is of no shares"
        return f"only {len(having)} of {len(rows)} examples have it"
    return _by_part(name, metric, rows, tasks)


def _drop(name: str, rows: Iterable[Row]) -> None:
    for row in rows:
        for key in [key for key in row if key.startswith(f"{name}/")]:
            del row[key]


def _metric(name: str, kind: Kind, higher: bool, rows: Sequence[Row]) -> Metric:
    """The metric of these rows. It is a share if each row is right or wrong: a task may call
    whatever it likes `acc`, and its name says nothing of its values."""
    columns = {statistic: f"{name}/{statistic}" for statistic in kind.names}
    right_or_wrong = kind.aggregate == "mean" and all(
        row[f"{name}/value"] in (0, 1) for row in rows
    )
    bounds = SHARE if right_or_wrong else None
    return Metric(kind.aggregate, higher_is_better=higher, columns=columns, bounds=bounds)


def _by_part(name: str, metric: Metric, rows: Sequence[Row], tasks: Sequence[str]) -> Metric:
    """The mean over tasks of a mean over the examples that have it, each task weighing the same;
    without tasks, the mean over all examples that have it."""
    columns = {}
    value = f"{name}/value"
    for number, task in enumerate(tasks or [None], start=1):
        for statistic in ("right", "of"):
            columns[f"{statistic}_{number}"] = f"{name}/{statistic}_{number}"
        for row in rows:
            inside = value in row and task in (None, row["group"])
            row[f"{name}/right_{number}"] = row[value] if inside else 0.0
            row[f"{name}/of_{number}"] = float(inside)
    for row in rows:
        row.pop(value, None)
    return Metric("balanced_accuracy", higher_is_better=metric.higher_is_better, columns=columns)


def _chance(
    samples: Mapping[str, Sequence[Sample]],
    tasks: Mapping[str, Any],
    *,
    by_task: Collection[str],
) -> float | None:
    """The mean of the share of choices that are right, over examples, or over tasks where `acc`
    is; None where not all tasks are multiple choice and count the likeliest one."""
    shares: dict[str, list[float]] = {}
    for name, logged in samples.items():
        task = tasks[name]
        if task.config.output_type != "multiple_choice" or task.config.process_results is not None:
            return None
        shares[name] = [
            len(_right(sample["target"])) / len(task.doc_to_choice(sample["doc"]))
            for sample in logged
        ]
    if "acc" in by_task:
        parts = [math.fsum(each) / len(each) for each in shares.values()]
    else:
        parts = [share for each in shares.values() for share in each]
    return math.fsum(parts) / len(parts) if parts else None


def _right(target: Any) -> Collection[Any]:
    """The right choices; most tasks have one."""
    return set(target) if isinstance(target, list) else (target,)
