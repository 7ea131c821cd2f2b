"""lm-evaluation-harness's samples as rows of statistics.

So each of its figures has an interval, and is compared example by example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.scorers.base import SHARE, Metric

Row = dict[str, Any]
Sample = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """How the value that lm-eval keeps of an example becomes statistics that sum.

    Attributes:
        aggregate: the name in harness.core.aggregate that makes the figure of their sums.
        statistics: an example's value -> statistic -> number.
    """

    aggregate: str
    statistics: Callable[[Any], dict[str, float]]


def _mean(value: Any) -> dict[str, float]:
    return {"value": float(value)}


def _log_likelihood(value: Any) -> dict[str, float]:
    return {"nll": -float(value), "tokens": 1.0}


def _weighted(size: str) -> Callable[[Any], dict[str, float]]:
    """A log-likelihood (nats) with the number of words or bytes that it is of."""
    return lambda pair: {"nll": -float(pair[0]), size: float(pair[1])}


def _confusion(pair: Any) -> dict[str, float]:
    gold, predicted = (int(value) for value in pair)
    return {
        "tp": float(gold == 1 and predicted == 1),
        "tn": float(gold == 0 and predicted == 0),
        "fp": float(gold == 0 and predicted == 1),
        "fn": float(gold == 1 and predicted == 0),
    }


def _f1(pair: Any) -> dict[str, float]:
    """F1 of the class 1: 2 tp / (2 tp + fp + fn)."""
    counts = _confusion(pair)
    hits = 2 * counts["tp"]
    return {"numerator": hits, "denominator": hits + counts["fp"] + counts["fn"]}


KINDS: dict[str, Kind] = {
    "mean": Kind("mean", _mean),
    "nanmean": Kind("mean", _mean),
    "perplexity": Kind("perplexity", _log_likelihood),
    "weighted_perplexity": Kind("perplexity", _weighted("tokens")),
    "bits_per_byte": Kind("bits_per_byte", _weighted("bytes")),
    "f1": Kind("ratio", _f1),
    "matthews_corrcoef": Kind("mcc", _confusion),
}
"""lm-eval's aggregations -> ours. Another one's figure is kept without an interval."""


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
    samples: Mapping[str, Sequence[Sample]], tasks: Mapping[str, Any], *, by_size: bool = True
) -> Scores:
    """Rows and metrics of one task, or of all tasks of a group.

    A metric has lm-eval's name (`acc`), with its filter where there are several
    (`exact_match,strict-match`). The examples of one task of a group are one cluster, as MMLU's
    subjects are.

    Args:
        samples: task -> its samples, as `lm_eval.evaluate` logs them.
        tasks: task -> lm-eval's task.
        by_size: whether each example weighs the same, or each task (`weight_by_size` of a group).
    """
    several = len(samples) > 1
    names = sorted(samples)
    rows: dict[tuple[str, int], Row] = {}
    kinds: dict[str, tuple[Kind, bool]] = {}
    left_out: dict[str, str] = {}
    filters = {sample["filter"] for task in names for sample in samples[task]}
    for task in names:
        kept = _kept(tasks[task], samples[task], left_out)
        for sample in samples[task]:
            key = (task, int(sample["doc_id"]))
            row = rows.setdefault(key, _row(task, sample, several=several))
            for metric in sample["metrics"]:
                if metric not in kept:
                    continue
                name = metric if len(filters) == 1 else f"{metric},{sample['filter']}"
                kinds[name] = kept[metric]
                for statistic, value in kept[metric][0].statistics(sample[metric]).items():
                    row[f"{name}/{statistic}"] = value
    complete = _in_every_row(kinds, rows.values(), left_out)
    metrics = {name: _metric(name, *kinds[name]) for name in complete}
    if several and not by_size:
        metrics = {
            name: _by_task(name, metrics[name], list(rows.values()), names) for name in metrics
        }
    return Scores(list(rows.values()), metrics, left_out, _chance(samples, tasks))


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
    task: Any, samples: Sequence[Sample], left_out: dict[str, str]
) -> dict[str, tuple[Kind, bool]]:
    """Metric -> its kind, and whether higher is better; those of other aggregations are told."""
    aggregations, better = task.aggregation(), task.higher_is_better()
    kept: dict[str, tuple[Kind, bool]] = {}
    for metric in dict.fromkeys(name for sample in samples for name in sample["metrics"]):
        # lm-eval takes the mean of what a task's own function returns beside its metrics.
        function = aggregations.get(metric)
        name = "mean" if function is None else _name_of(function)
        if name not in KINDS:
            left_out[metric] = f"lm-eval's aggregation '{name}' is of a whole set at once"
        elif _sums(KINDS[name], [sample[metric] for sample in samples if metric in sample]):
            kept[metric] = (KINDS[name], better.get(metric, True) is not False)
        else:
            left_out[metric] = "its values of single examples are no numbers"
    return kept


def _name_of(function: Any) -> str:
    """lm-eval's name of an aggregation."""
    from lm_eval.api import registry

    for name in KINDS:
        if registry.get_aggregation(name) is function:
            return name
    return str(getattr(function, "__name__", function))


def _sums(kind: Kind, values: Iterable[Any]) -> bool:
    try:
        return all(
            math.isfinite(number) for value in values for number in kind.statistics(value).values()
        )
    except (TypeError, ValueError, IndexError):
        return False


def _in_every_row(kinds: Iterable[str], rows: Iterable[Row], left_out: dict[str, str]) -> list[str]:
    """Metrics that every example has; those of some tasks of a group are told, and left out."""
    rows = list(rows)
    complete = []
    for name in kinds:
        having = [row for row in rows if any(key.startswith(f"{name}/") for key in row)]
        if len(having) == len(rows):
            complete.append(name)
        else:
            left_out[name] = f"only {len(having)} of {len(rows)} examples have it"
            for row in having:
                for key in [key for key in row if key.startswith(f"{name}/")]:
                    del row[key]
    return complete


def _metric(name: str, kind: Kind, higher: bool) -> Metric:
    sample = kind.aggregate
    columns = {statistic: f"{name}/{statistic}" for statistic in _STATISTICS[sample]}
    bounds = SHARE if name.split(",")[0] in _SHARES else None
    return Metric(sample, higher_is_better=higher, columns=columns, bounds=bounds)


_STATISTICS = {
    "mean": ("value",),
    "perplexity": ("nll", "tokens"),
    "bits_per_byte": ("nll", "bytes"),
    "ratio": ("numerator", "denominator"),
    "mcc": ("tp", "tn", "fp", "fn"),
}
_SHARES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "em")


def _by_task(name: str, metric: Metric, rows: list[Row], tasks: Sequence[str]) -> Metric:
    """The mean over tasks of a mean over examples, each task weighing the same."""
    if metric.aggregate != "mean":
        return metric
    columns = {}
    for number, task in enumerate(tasks, start=1):
        for statistic in ("right", "of"):
            columns[f"{statistic}_{number}"] = f"{name}/{statistic}_{number}"
        for row in rows:
            inside = row["group"] == task
            row[f"{name}/right_{number}"] = row[f"{name}/value"] if inside else 0.0
            row[f"{name}/of_{number}"] = float(inside)
    return Metric("balanced_accuracy", higher_is_better=metric.higher_is_better, columns=columns)


def _chance(samples: Mapping[str, Sequence[Sample]], tasks: Mapping[str, Any]) -> float | None:
    """The mean over examples of one over the number of choices, where all tasks are multiple choice
    and count the likeliest one."""
    shares = []
    for name, logged in samples.items():
        config = tasks[name].config
        if config.output_type != "multiple_choice" or config.process_results is not None:
            return None
        shares += [1.0 / len(sample["filtered_resps"]) for sample in logged]
    return math.fsum(shares) / len(shares) if shares else None
