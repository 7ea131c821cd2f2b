"""Answers and losses from the stage folders."""

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
"""Answers of all variants together that a report shows."""
MIN_EXAMPLES = 20
"""Examples of each evaluation, however many variants there are."""


def examples(
    groups: Mapping[str, list[VariantPath]],
    good: set[str],
    scores: Mapping[str, Mapping[int, Mapping[Column, Scores]]],
    store: Store,
) -> Iterator[Example]:
    """Test rows with the answers of every variant that has them, of its first seed that has.

    The first rows of each evaluation, in the data's order: as many as keep the number of answers
    within MAX_ANSWERS.
    """
    entries = list(dict.fromkeys(e for own in groups.values() for p in own for e in p.generate))
    most = MAX_ANSWERS // max(1, len(good) * len(entries))
    most = min(MAX_EXAMPLES, max(MIN_EXAMPLES, most))
    for entry in entries:
        answers: dict[str, dict[str, dict[str, Any]]] = {}
        values: dict[str, dict[str, dict[str, float]]] = {}
        for group, paths in groups.items():
            path = next((path for path in paths if entry in path.generate), None)
            if group in good and path is not None:
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
                    g: found[identifier]["text"]
                    for g, found in answers.items()
                    if identifier in found
                },
                scores={g: found.get(identifier, {}) for g, found in values.items()},
                finishes={
                    g: found[identifier].get("finish", "")
                    for g, found in answers.items()
                    if identifier in found
                },
            )


def _predictions(folder: Path, most: int) -> dict[str, dict[str, Any]]:
    with (folder / "predictions.jsonl").open(encoding="utf-8") as handle:
        lines = [json.loads(line) for line in islice(handle, most)]
    return {line["id"]: line for line in lines}


def _values(scores: Mapping[Column, Scores], entry: str, most: int) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for (metric, evaluation), scored in scores.items():
        if evaluation == entry and scored.sample.aggregate == "mean":
            own = zip(scored.keys.ids[:most], scored.sample.columns["value"][:most], strict=True)
            for identifier, value in own:
                found.setdefault(identifier, {})[metric] = float(value)
    return found


def losses(stage: Stage, store: Store) -> tuple[tuple[int, float], ...]:
    """(step, loss) of a training stage."""
    path = stage.path(store.root) / "steps.jsonl"
    if not path.is_file():
        return ()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return tuple((line["step"], line["loss"]) for line in lines if "loss" in line)
