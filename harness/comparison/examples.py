"""Reads answers and training losses from the stage folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from harness.comparison.result import Example
from harness.comparison.scores import Column, Scores
from harness.planning.planner import VariantPath
from harness.store.stage import Stage
from harness.store.store import Store

MAX_EXAMPLES = 2000
MAX_ANSWERS = 24_000
"""How many answers a report shows, over all variants together."""
MIN_EXAMPLES = 20
"""How many examples of each evaluation a report shows at least, however many variants there are."""


def examples(
    groups: Mapping[str, list[VariantPath]],
    with_result: set[str],
    scores: Mapping[str, Mapping[int, Mapping[Column, Scores]]],
    store: Store,
) -> Iterator[Example]:
    """Test rows with each variant's answer and its scores.

    These are the first rows of each evaluation, in the data's order. Their number keeps the number
    of all answers within MAX_ANSWERS. A variant's answers are those of its first seed that
    generated any.

    Args:
        groups: each variant's paths, as far as they have results.
        with_result: the variants to show.
        scores: by variant and seed.
    """
    all_paths = [path for paths in groups.values() for path in paths]
    entries = list(dict.fromkeys(entry for path in all_paths for entry in path.generate))
    most = MAX_ANSWERS // max(1, len(with_result) * len(entries))
    most = min(MAX_EXAMPLES, max(MIN_EXAMPLES, most))
    for entry in entries:
        answers: dict[str, dict[str, dict[str, Any]]] = {}
        values: dict[str, dict[str, dict[str, float]]] = {}
        for group, paths in groups.items():
            path = next((path for path in paths if entry in path.generate), None)
            if group in with_result and path is not None:
                answers[group] = _predictions(path.generate[entry].path(store.root), most)
                values[group] = _values(scores[group][path.variant.seed], entry, most)
        if not answers:
            continue
        for identifier, line in next(iter(answers.values())).items():
            yield Example(
                id=identifier,
                evaluation=entry,
                group=line["group"],
                prompt=line["prompt"],
                references=tuple(line["references"]),
                answers={
                    g: by_id[identifier]["text"]
                    for g, by_id in answers.items()
                    if identifier in by_id
                },
                scores={g: by_id.get(identifier, {}) for g, by_id in values.items()},
                finishes={
                    g: by_id[identifier].get("finish", "")
                    for g, by_id in answers.items()
                    if identifier in by_id
                },
            )


def _predictions(folder: Path, most: int) -> dict[str, dict[str, Any]]:
    with (folder / "predictions.jsonl").open(encoding="utf-8") as handle:
        lines = [json.loads(line) for line in islice(handle, most)]
    return {line["id"]: line for line in lines}


def _values(scores: Mapping[Column, Scores], entry: str, most: int) -> dict[str, dict[str, float]]:
    values: dict[str, dict[str, float]] = {}
    for (metric, evaluation), scored in scores.items():
        if evaluation == entry and scored.sample.aggregate == "mean":
            ids, column = scored.keys.ids[:most], scored.sample.columns["value"][:most]
            for identifier, value in zip(ids, column, strict=True):
                values.setdefault(identifier, {})[metric] = float(value)
    return values


def losses(stage: Stage, store: Store) -> tuple[tuple[int, float], ...]:
    """(step, loss) of a training stage; empty if it logged no steps."""
    path = stage.path(store.root) / "steps.jsonl"
    if not path.is_file():
        return ()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return tuple((line["step"], line["loss"]) for line in lines if "loss" in line)
