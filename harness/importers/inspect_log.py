"""Logs of Inspect: .eval (a ZIP archive) and .json.

Of an .eval log, the header and the summaries of samples are read: these hold all scores, and no
message of the model. Scores become numbers as Inspect's value_to_float makes them: C is 1, P is
0.5, I and N are 0. Epochs are several answers to a sample, whose mean is its score.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.comparison.measured import Measured, Run
from harness.core.text import label
from harness.importers.base import a_name, condition, fingerprint, mapping, sequence
from harness.importers.collector import Collector, published
from harness.importers.files import Unreadable, Zip, digest, json_file

NAME = "inspect"
TITLE = "Inspect: a log as .eval or .json"
_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_SPREADS = ("stderr", "std", "var", "bootstrap_stderr")


def recognises(path: Path, start: bytes) -> bool:
    """Whether it is a log: a ZIP archive named .eval, or JSON with `eval` and `plan`."""
    if path.is_dir():
        return False
    if start.startswith(b"PK\x03\x04"):
        return path.suffix == ".eval" or b"_journal/" in start or b"header.json" in start
    return b'"eval"' in start and b'"task"' in start and b'"run_id"' in start


def read(path: Path) -> list[Run]:
    """One run.

    Raises:
        Unreadable: it is damaged, or not a log of Inspect, or it has no scores.
    """
    where = str(path)
    with path.open("rb") as handle:
        packed = handle.read(2) == b"PK"
    if packed:
        archive = Zip(path)
        name = next((n for n in ("header.json", "_journal/start.json") if n in archive.names), "")
        if not name:
            raise Unreadable("has no header.json: not a log of Inspect", where=where)
        header = mapping(archive.json(name), name, where)
        samples = _summaries(archive)
    else:
        header = mapping(json_file(path), "it", where)
        samples = list(enumerate(sequence(header.get("samples") or [], "samples", where)))
    return [_run(header, samples, path)]


def _summaries(archive: Zip) -> list[tuple[int, Any]]:
    """The samples of an .eval log. One that was not closed has them in its journal, or alone."""
    if "summaries.json" in archive.names:
        names = ["summaries.json"]
    else:
        names = [n for n in archive.names if n.startswith("_journal/summaries/")]
    if names:
        lists = [sequence(archive.json(n), n, "the log") for n in names]
        return list(enumerate(sample for each in lists for sample in each))
    members = [n for n in archive.names if n.startswith("samples/")]
    return [(i, archive.json(n)) for i, n in enumerate(members)]


def _run(header: dict[str, Any], samples: list[tuple[int, Any]], path: Path) -> Run:
    where = str(path)
    spec = mapping(header.get("eval"), "eval", where)
    task = a_name(spec.get("task"), "eval.task", where)
    conditions = _conditions(header, spec)
    notes = []
    collector = Collector(task, where, answers=True)
    seen: set[tuple[str, int]] = set()
    for number, sample in samples:
        place = f"{where}: sample {number}"
        sample = mapping(sample, "it", place)
        key = a_name(sample.get("id"), "the id", place), int(sample.get("epoch") or 1)
        if key in seen:
            raise Unreadable(f"sample {key[0]} occurs twice in epoch {key[1]}", where=where)
        seen.add(key)
        content = fingerprint(
            json.dumps(_texts(sample.get("input"))), json.dumps(sample.get("target"))
        )
        collector.add(key[0], dict(_values(sample.get("scores"), place)), content=content,
                      prompt=fingerprint(json.dumps(_texts(sample.get("input")))))  # fmt: skip
    metrics = collector.measured(conditions) if collector.ids else []
    if not metrics:
        metrics = list(_published(header, task, conditions, where))
        if metrics:
            notes.append(
                f"{path.name} has no scores of samples: differences are tested as if the models"
                " had answered other questions."
            )
    if not metrics:
        raise Unreadable(
            "no sample has a score", where=where,
            fix="`inspect score` scores a log that was made with --no-score",
        )  # fmt: skip
    status = header.get("status", "started")
    if status != "success":
        notes.append(f"{path.name}: the log ended as '{status}', so that samples may be missing.")
    lost = sum(metric.unscored for metric in metrics)
    if lost:
        notes.append(f"{path.name}: {lost} scores are missing.")
    return Run(
        variant=label(spec.get("model") or path.stem),
        metrics=tuple(metrics),
        source={
            "tool": "Inspect",
            "version": (spec.get("packages") or {}).get("inspect_ai"),
            "file": path.name,
            "sha256": digest(path),
            "created": spec.get("created"),
            "revision": spec.get("revision"),
        },
        notes=tuple(notes),
    )


def _texts(given: Any) -> Any:
    """A sample's input without the ids that Inspect gives to messages."""
    if isinstance(given, list):
        return [
            {k: v for k, v in m.items() if k in ("role", "content")} if isinstance(m, dict) else m
            for m in given
        ]
    return given


def _values(scores: Any, place: str) -> Iterator[tuple[str, float | None]]:
    """(metric, value) of each score of a sample; each key of a value with keys is one metric."""
    for scorer, score in mapping(scores or {}, "scores", place).items():
        value = mapping(score, f"scores.{scorer}", place).get("value")
        if isinstance(value, dict):
            for key, part in value.items():
                yield f"{scorer}/{key}", _number(part, f"scores.{scorer}.{key}", place)
        elif not isinstance(value, list):
            yield scorer, _number(value, f"scores.{scorer}", place)


def _number(value: Any, what: str, place: str) -> float | None:
    """A score as a number; None if the sample was not scored, which Inspect writes as NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        known = _LETTERS.get(value, _WORDS.get(value.lower()))
        if known is not None:
            return known
        try:
            return float(value)
        except ValueError:
            raise Unreadable(f"{what} is {value[:50]!r}, not a number", where=place) from None
    if not isinstance(value, bool | int | float):
        raise Unreadable(f"{what} is not a number", where=place)
    return value


def _conditions(header: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, str]:
    """What must be equal in two logs: the task, its arguments, solvers and scorers."""
    plan = header.get("plan") if isinstance(header.get("plan"), dict) else {}
    steps = [
        {"solver": step.get("solver"), "params": step.get("params")}
        for step in (plan or {}).get("steps") or []
        if isinstance(step, dict)
    ]
    scorers = [
        {"name": s.get("name"), "options": s.get("options")}
        for s in spec.get("scorers") or []
        if isinstance(s, dict)
    ]
    told = {
        "task version": spec.get("task_version"),
        "task arguments": spec.get("task_args"),
        "solvers": steps,
        "scorers": scorers,
    }
    return {name: condition(value) for name, value in told.items()}


def _published(
    header: Mapping[str, Any], task: str, conditions: Mapping[str, str], where: str
) -> Iterator[Measured]:
    """The metrics of a log without samples."""
    results = mapping(header.get("results") or {}, "results", where)
    for score in sequence(results.get("scores") or [], "results.scores", where):
        name = a_name(mapping(score, "a score", where).get("name"), "a score's name", where)
        metrics = mapping(score.get("metrics") or {}, f"the metrics of {name}", where)
        values = {k: mapping(m, k, where).get("value") for k, m in metrics.items()}
        rows = score.get("scored_samples") or results.get("completed_samples")
        for metric, value in values.items():
            if metric not in _SPREADS and value is not None:
                yield published(
                    name if metric in ("accuracy", "mean") else f"{name}/{metric}", task, value,
                    where, stderr=values.get("stderr"), n=rows, conditions=conditions,
                )  # fmt: skip
