"""The score stage: per-example statistics of one scorer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from harness.core.aggregate import AGGREGATES
from harness.core.errors import StageFailed
from harness.data.preference_rule import load_rule
from harness.scorers.base import (
    REWARD,
    ROWS,
    RULE,
    START,
    ModelJob,
    ModelScorer,
    Prediction,
    PredictionJob,
    Scorer,
    scorer_of,
)
from harness.stages._fitting import usable
from harness.stages._models import load_base, load_subject, model_beside
from harness.stages.base import Job
from harness.stages.data import read_rows
from harness.stages.generate import asked_rows, read_predictions
from harness.store.score_table import KEYS, write_scores

CACHE = "cache"
"""Folder of the store for what scorers share between stages; it may be removed at any time."""


def run(job: Job) -> dict[str, Any]:
    """Score, write one row an example, and aggregate; metrics carry their own declaration."""
    scorer = scorer_of(job.config["scorer"], job.locators)
    unusable: dict[str, int] = {}
    if scorer.reads == "model":
        rows, unusable = _from_model(job, cast(ModelScorer, scorer))
    else:
        rows = _from_predictions(job, scorer)
    with job.ledger.phase("write"):
        import pyarrow as pa

        _require_finite(rows, scorer)
        write_scores(job.folder, pa.Table.from_pylist(rows))
    made = scorer.provenance()
    if made:
        job.provenance["scorer"] = made
    declared = {name: metric.declare(name) for name, metric in scorer.declared().items()}
    values = {name: _aggregate(metric, rows) for name, metric in declared.items()}
    _require_figures(values, scorer)
    return {
        "rows": len(rows),
        **({"unusable": unusable} if unusable else {}),
        "metrics": {name: {**metric, "value": values[name]} for name, metric in declared.items()},
    }


def _from_predictions(job: Job, scorer: Scorer) -> list[dict[str, Any]]:
    predictions = read_predictions(job.input("predictions"))
    cache = job.folder.parents[1] / CACHE / scorer.name
    with job.ledger.phase("load"):
        beside = _beside(job, [p.example_id for p in predictions])
    if scorer.needs_references:
        _require_references(predictions, scorer)
    with job.ledger.phase("score"):
        scores = scorer.score_job(PredictionJob(predictions, job.progress, cache, **beside))
    return [
        {"example_id": p.example_id, "cluster": p.cluster, "group": p.group, **score}
        for p, score in zip(predictions, scores, strict=True)
    ]


def _beside(job: Job, ids: list[str]) -> dict[str, Any]:
    """What the scorer reads beside the predictions, as far as the plan gave it.

    Raises:
        StageFailed: rows or answers that are not those of the predictions.
    """
    found: dict[str, Any] = {}
    if job.has(ROWS):
        asked = job.input_record("predictions").config
        found["rows"] = asked_rows(read_rows(job.input(ROWS)), asked)
        _same_examples(ids, [row["id"] for row in found["rows"]], "rows")
    if job.has(START):
        found["start"] = read_predictions(job.input(START))
        _same_examples(ids, [p.example_id for p in found["start"]], "answers of the start")
    if RULE in job.locators:
        found["rule"] = load_rule(Path(job.locators[RULE]), job.config["scorer"][RULE])
    if job.has(REWARD):
        method, ref, checkpoint = model_beside(job, "reward")
        found["reward_model"] = method.load_trained(ref, checkpoint).eval()
        found["reward_tokenizer"] = ref.tokenizer()
    return found


def _require_references(predictions: Sequence[Prediction], scorer: Scorer) -> None:
    bare = [prediction.example_id for prediction in predictions if not prediction.references]
    if bare:
        raise StageFailed(
            "no reference",
            f"{len(bare)} of {len(predictions)} rows, such as {bare[0]}, have no reference, which"
            f" {scorer.name} holds answers against",
            fix="map `completion` or `references`, or leave these rows out with `where:`",
        )


def _same_examples(ids: list[str], others: list[str], what: str) -> None:
    if ids != others:
        raise StageFailed("input changed", f"the {what} are not those of the predictions")


def _from_model(job: Job, scorer: ModelScorer) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """A row an example, and reason -> examples that the model's template cannot write."""
    with job.ledger.phase("load"):
        model, tokenizer, _ = load_subject(job)
        base = load_base(job, model) if scorer.needs_base else None
        rows, unusable = usable(asked_rows(read_rows(job.input("data")), job.config), tokenizer)
    with job.ledger.phase("score"):
        scores = scorer.score_model(
            ModelJob(model, tokenizer, rows, job.config["device"], job.progress, job.folder, base)
        )
    return scores, unusable


def _require_finite(rows: list[dict[str, Any]], scorer: Scorer) -> None:
    for row in rows:
        for column, value in row.items():
            if column not in KEYS and not math.isfinite(value):
                raise StageFailed(
                    "score is not a number",
                    f"{scorer.name} gave {column} = {value} for example {row['example_id']}",
                )


def _require_figures(values: dict[str, float], scorer: Scorer) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise StageFailed(
                "score is not a number",
                f"{scorer.name} comes to {name} = {value} over all rows: there was nothing to"
                " measure, or the model is as good as certain of something else",
                fix="read the rows' scores beside this record, and the training's losses",
            )


def _aggregate(metric: dict[str, Any], rows: list[dict[str, Any]]) -> float:
    import numpy as np

    sums = {
        statistic: np.asarray(math.fsum(row[column] for row in rows))
        for statistic, column in metric["columns"].items()
    }
    with np.errstate(all="ignore"):  # what is no number is refused with a sentence
        return float(AGGREGATES[metric["aggregate"]].compute({**sums, "n": np.asarray(len(rows))}))
