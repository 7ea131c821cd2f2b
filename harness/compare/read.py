"""Scores, answers and losses from the stage folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from harness.compare.result import ALL, Example
from harness.compare.statistics import Sample
from harness.plan import Plan, VariantPath
from harness.stage import Record, Stage
from harness.store import Store

MAX_EXAMPLES = 400
"""Examples shown a report; the first ones of each evaluation, in the data's order."""


@dataclass(frozen=True)
class Scores:
    """One metric of one checkpoint on one evaluation, example by example.

    Attributes:
        version: the scorer's identity; other versions are not compared.
        rows: the key of the data stage whose rows were scored.
    """

    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    groups: tuple[str, ...]
    sample: Sample
    higher_is_better: bool
    unit: str
    version: str
    rows: str = ""

    def slice(self, group: str) -> Scores:
        """The examples of one group; all of them for ALL."""
        if group == ALL:
            return self
        keep = np.flatnonzero(np.asarray(self.groups) == group)
        columns = {name: column[keep] for name, column in self.sample.columns.items()}
        return Scores(
            tuple(self.ids[i] for i in keep),
            tuple(self.clusters[i] for i in keep),
            tuple(self.groups[i] for i in keep),
            Sample(self.sample.aggregate, columns),
            self.higher_is_better,
            self.unit,
            self.version,
            self.rows,
        )


def scores_of(
    path: VariantPath, records: Mapping[str, Record], store: Store
) -> dict[tuple[str, str], Scores]:
    """Every metric of a variant, by (metric, evaluation)."""
    found: dict[tuple[str, str], Scores] = {}
    for scored in path.scores:
        record = records[scored.stage.key]
        table = pq.read_table(scored.stage.path(store.root) / "scores.parquet")
        ids, clusters, parts = (
            tuple(table.column(name).to_pylist()) for name in ("example_id", "cluster", "group")
        )
        declared: dict[str, Any] = record.metrics["metrics"]
        for name, metric in declared.items():
            columns = {
                statistic: table.column(column).to_numpy().astype(np.float64)
                for statistic, column in metric["columns"].items()
            }
            title = _title(name, scored.label, len(declared))
            found[title, scored.evaluation] = Scores(
                ids,
                clusters,
                parts,
                Sample(metric["aggregate"], columns),
                metric["higher_is_better"],
                metric["unit"],
                json.dumps(record.config.get("scorer"), sort_keys=True),
                _rows_of(scored.stage),
            )
    return found


def _rows_of(stage: Stage) -> str:
    """The key of the data stage whose rows were scored: ids alone do not make rows the same."""
    predictions = stage.inputs.get("predictions")
    return (predictions or stage).inputs["data"].key


def _title(metric: str, label: str | None, metrics: int) -> str:
    if label is None:
        return metric
    return label if metrics == 1 else f"{label} {metric}"


def examples(
    planned: Plan,
    groups: Mapping[str, list[VariantPath]],
    good: set[str],
    scores: Mapping[str, Mapping[int, Mapping[tuple[str, str], Scores]]],
    records: Mapping[str, Record],
    store: Store,
) -> Iterator[Example]:
    """Test rows with the first seed's answers of every variant that has them."""
    entries = list(dict.fromkeys(e for p in planned.paths for e in p.generate))
    for entry in entries:
        answers: dict[str, dict[str, dict[str, Any]]] = {}
        values: dict[str, dict[str, dict[str, float]]] = {}
        for group, paths in groups.items():
            if group in good and entry in paths[0].generate:
                answers[group] = _predictions(paths[0].generate[entry].path(store.root))
                values[group] = _values(scores[group][paths[0].variant.seed], entry)
        if not answers:
            continue
        for identifier, line in list(next(iter(answers.values())).items())[:MAX_EXAMPLES]:
            yield Example(
                id=identifier,
                evaluation=entry,
                group=line["group"],
                prompt=line["prompt"],
                references=tuple(line["references"]),
                answers={g: found[identifier]["text"] for g, found in answers.items()},
                scores={g: found.get(identifier, {}) for g, found in values.items()},
            )


def _predictions(folder: Path) -> dict[str, dict[str, Any]]:
    with (folder / "predictions.jsonl").open(encoding="utf-8") as handle:
        lines = [json.loads(line) for line in handle]
    return {line["id"]: line for line in lines}


def _values(scores: Mapping[tuple[str, str], Scores], entry: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for (metric, evaluation), scored in scores.items():
        if evaluation == entry and scored.sample.aggregate == "mean":
            for identifier, value in zip(scored.ids, scored.sample.columns["value"], strict=True):
                found.setdefault(identifier, {})[metric] = float(value)
    return found


def losses(stage: Stage, store: Store) -> tuple[tuple[int, float], ...]:
    """(step, loss) of a training stage."""
    path = stage.path(store.root) / "steps.jsonl"
    if not path.is_file():
        return ()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return tuple((line["step"], line["loss"]) for line in lines if "loss" in line)
