"""Results in the schema of Every Eval Ever: an aggregate .json, its *_samples.jsonl, or a folder
with both (github.com/evaleval/every_eval_ever, schema 0.2 and 0.3).

The path that an aggregate file gives of its samples is not followed: the samples are read if the
given folder holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.comparison.measured import Measured, Run
from harness.core.text import label
from harness.importers.base import a_name, fingerprint, mapping, sequence
from harness.importers.collector import Collector, published
from harness.importers.files import Unreadable, digest, inside, json_file, json_lines

NAME = "every-eval-ever"
TITLE = "Every Eval Ever: an aggregate .json, its _samples.jsonl, or the folder of both"


def recognises(path: Path, start: bytes) -> bool:
    """Whether it has the fields of the schema."""
    if path.is_dir():
        return any(path.glob("*_samples.jsonl")) and any(
            _aggregate(head_of(file)) for file in path.glob("*.json")
        )
    return _aggregate(start) or (b'"evaluation_id"' in start and b'"sample_id"' in start)


def head_of(file: Path) -> bytes:
    """The first bytes of a file."""
    with file.open("rb") as handle:
        return handle.read(4096)


def _aggregate(start: bytes) -> bool:
    return b'"schema_version"' in start and b'"evaluation_id"' in start


def read(path: Path) -> list[Run]:
    """One run.

    Raises:
        Unreadable: it is damaged, or not of this schema, or a folder has several runs.
    """
    if path.is_dir():
        aggregates = inside(path, "*.json")
        if len(aggregates) != 1:
            raise Unreadable(f"has {len(aggregates)} .json files, not one", where=str(path))
        samples = inside(path, "*_samples.jsonl")
        return [_run(mapping(json_file(aggregates[0]), "it", str(path)), samples, path)]
    if path.suffix == ".jsonl":
        return [_run({}, [path], path)]
    return [_run(mapping(json_file(path), "it", str(path)), [], path)]


def _run(content: dict[str, Any], samples: list[Path], path: Path) -> Run:
    where = str(path)
    info = mapping(content.get("model_info") or {}, "model_info", where)
    results = sequence(content.get("evaluation_results") or [], "evaluation_results", where)
    told = {
        str(mapping(r, "a result", where).get("evaluation_result_id") or r.get("evaluation_name")):
        r for r in results
    }  # fmt: skip
    metrics = [_published(result, where) for result in told.values()]
    model = info.get("id") or info.get("name")
    tables: dict[str, Measured] = {}
    for file in samples:
        seen, found = _samples(file, told)
        model = model or seen
        tables |= {metric.name: metric for metric in found}
    merged = [tables.pop(m.name, m) for m in metrics] + list(tables.values())
    if not merged:
        raise Unreadable("has no evaluation_results", where=where)
    notes = () if samples else (
        f"{path.name} has no scores of examples: differences are tested as if the models had"
        " answered other questions.",
    )  # fmt: skip
    files = {f.name: digest(f) for f in samples}
    return Run(
        label(model or path.stem),
        tuple(merged),
        source={"tool": "Every Eval Ever", "version": content.get("schema_version"),
                "file": path.name, "sha256": files or digest(path),
                "made_by": content.get("eval_library")},
        notes=notes,
    )  # fmt: skip


def _metric(result: Mapping[str, Any], where: str) -> tuple[str, bool | None]:
    """(name, lower is better) of a result's metric."""
    config = mapping(result.get("metric_config") or {}, "metric_config", where)
    name = config.get("metric_id") or config.get("metric_name") or "score"
    lower = config.get("lower_is_better")
    return a_name(name, "the metric", where), lower if isinstance(lower, bool) else None


def _published(result: Mapping[str, Any], where: str) -> Measured:
    metric, lower = _metric(result, where)
    details = mapping(result.get("score_details"), "score_details", where)
    doubt = mapping(details.get("uncertainty") or {}, "uncertainty", where)
    spread = mapping(doubt.get("standard_error") or {}, "standard_error", where).get("value")
    evaluation = a_name(result.get("evaluation_name"), "evaluation_name", where)
    return published(
        metric, evaluation, details.get("score"), where, lower=lower, stderr=spread,
        n=doubt.get("num_samples"),
    )  # fmt: skip


def _samples(file: Path, told: Mapping[str, Any]) -> tuple[str, Iterable[Measured]]:
    """(model, metrics) of a file of samples."""
    where, model = str(file), ""
    collectors: dict[str, Collector] = {}
    for number, row in json_lines(file):
        place = f"{where}: line {number}"
        model = model or str(row.get("model_id") or "")
        name = a_name(row.get("evaluation_name"), "evaluation_name", place)
        result = told.get(str(row.get("evaluation_result_id") or name), {})
        metric, lower = _metric(result, place)
        collector = collectors.setdefault(f"{name}/{metric}", Collector(name, where, answers=False))
        if lower is not None:
            collector.lower[metric] = lower
        evaluation = mapping(row.get("evaluation"), "evaluation", place)
        asked = mapping(row.get("input") or {}, "input", place)
        score = None if row.get("error") else evaluation.get("score")
        collector.add(
            row.get("sample_id"), {metric: score},
            content=fingerprint(row.get("sample_hash") or asked.get("raw")),
            prompt=fingerprint(asked.get("formatted") or asked.get("raw")),
        )  # fmt: skip
    if not collectors:
        raise Unreadable("has no samples", where=where)
    return model, [metric for collector in collectors.values() for metric in collector.measured()]
