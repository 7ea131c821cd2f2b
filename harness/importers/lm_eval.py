"""Results of lm-evaluation-harness: result files of all layouts since 2022, and sample files.

A sample file has a line for each document and filter (since 0.4.3) or is a list (0.4.0 to 0.4.2).
A result file has the metrics of all tasks, with standard errors, and no examples. A folder of
--output_path has both, and the samples are read where there are some.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.comparison.measured import Measured, Run
from harness.core.text import label
from harness.importers.base import a_name, condition, fingerprint, mapping, sequence
from harness.importers.collector import Collector, published
from harness.importers.files import Unreadable, digest, inside, json_file, json_lines

NAME = "lm-eval"
TITLE = "lm-evaluation-harness: results_*.json, samples_*.jsonl, or the folder of both"
_SAMPLE = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics",
           "doc_hash", "prompt_hash", "target_hash"}  # fmt: skip
_DATE = re.compile(r"_?\d{4}-\d\d-\d\dT[\d.:-]+$")
_WEIGHTED = {"word_perplexity": ("perplexity", -1.0), "byte_perplexity": ("perplexity", -1.0),
             "bits_per_byte": ("bits_per_byte", -1.0)}  # fmt: skip
"""Metric whose samples are [log-likelihood, weight] -> aggregate, sign of the log-likelihood."""
_SETTINGS = ("chat_template_sha", "system_instruction_sha", "fewshot_as_multiturn")


def recognises(path: Path, start: bytes) -> bool:
    """Whether it is a result file, a sample file, or a folder with one of them."""
    if path.is_dir():
        return any(path.glob("results_*.json")) or any(path.glob("*/results_*.json")) or any(
            path.glob("samples_*.jsonl"))  # fmt: skip
    text = start.decode("utf-8", "replace")
    if '"doc_id"' in text and ('"resps"' in text or '"filtered_resps"' in text or '"doc"' in text):
        return True
    if not text.lstrip().startswith("{") or '"config_general"' in text:
        return False
    if '"lm_eval_version"' in text or '"group_subtasks"' in text:
        return True
    return bool(re.search(r'^\s*\{\s*"results"\s*:\s*\{\s*("[^"]*"\s*:\s*\{)', text))


def read(path: Path) -> list[Run]:
    """One run.

    Raises:
        Unreadable: it is damaged, or not of lm-eval; or a folder has result files of several runs.
    """
    if not path.is_dir():
        if path.suffix == ".jsonl" or _is_samples(path):
            return [_run({}, [path], path)]
        return [_run(mapping(json_file(path), "it", str(path)), [], path)]
    results = inside(path, "results_*.json") or inside(path, "*/results_*.json")
    if len(results) > 1:
        raise Unreadable(
            f"has {len(results)} result files", where=str(path),
            fix=f"give one of them, such as {results[-1]}, or the folder of one run",
        )  # fmt: skip
    folder = results[0].parent if results else path
    content = mapping(json_file(results[0]), "it", str(results[0])) if results else {}
    return [_run(content, inside(folder, "samples_*.jsonl"), path)]


def _is_samples(path: Path) -> bool:
    with path.open("rb") as handle:
        start = handle.read(4096)
    return start.lstrip().startswith(b"[") or (b'"doc_id"' in start and b'"results"' not in start)


def _run(content: dict[str, Any], samples: list[Path], path: Path) -> Run:
    where = str(path)
    conditions = _conditions(content, where)
    metrics = _summary(content, conditions, where)
    tables: dict[str, Measured] = {}
    inlined = content.get("samples")
    if isinstance(inlined, dict) and not samples:
        for task, rows in inlined.items():
            given = enumerate(sequence(rows, f"samples.{task}", where))
            tables |= _samples(task, ((i, mapping(r, "a row", where)) for i, r in given),
                               conditions, content, where)  # fmt: skip
    for file in samples:
        task = _DATE.sub("", file.stem.removeprefix("samples_")) if samples else file.stem
        tables |= _samples(task, _rows(file), conditions, content, str(file))
    merged = [_checked(tables.pop(m.name, m), m) for m in metrics] + list(tables.values())
    if not merged:
        raise Unreadable("has no results", where=where)
    config = content.get("config") if isinstance(content.get("config"), dict) else {}
    notes = []
    if not samples and not inlined:
        notes.append(
            f"{path.name} has no scores of examples (lm-eval writes them with --log_samples):"
            " differences are tested as if the models had answered other questions."
        )
    return Run(
        variant=label(content.get("model_name") or _model(config) or path.stem),
        metrics=tuple(merged),
        source={
            "tool": "lm-evaluation-harness",
            "version": content.get("lm_eval_version"),
            "file": path.name,
            "sha256": {f.name: digest(f) for f in samples} or (digest(path) if path.is_file() else
                                                               None),
            "git_hash": content.get("git_hash"),
            "model_sha": config.get("model_sha") if config else None,
        },
        notes=tuple(notes),
    )  # fmt: skip


def _checked(metric: Measured, published_one: Measured) -> Measured:
    """The metric of the samples, with a note if the result file has another value."""
    value = published_one.value
    if metric is published_one or math.isclose(metric.value, value, rel_tol=1e-6, abs_tol=1e-9):
        return metric
    told = f"the result file says {value:.4g} on {published_one.n or 'all'} documents"
    return replace(metric, note=f"of {metric.n} samples; {told}")


def _model(config: Mapping[str, Any] | None) -> str:
    """The model's name in a result file of an old version."""
    given = (config or {}).get("model_args")
    if isinstance(given, dict):
        return str(given.get("pretrained") or given.get("model") or "")
    parts = dict(p.split("=", 1) for p in str(given or "").split(",") if "=" in p)
    name = parts.get("pretrained") or parts.get("model") or parts.get("engine") or ""
    return Path(name).name if name.startswith("/") else name


def _conditions(content: Mapping[str, Any], where: str) -> dict[str, dict[str, str]]:
    """By task, what must be equal in two runs: its version, its shots, how prompts are made."""
    common = {name: condition(content[name]) for name in _SETTINGS if name in content}
    config = content.get("config") if isinstance(content.get("config"), dict) else {}
    if config and "num_fewshot" in config:
        common["shots"] = condition(config["num_fewshot"])
    found: dict[str, dict[str, str]] = {}
    for field, name in (("versions", "task version"), ("n-shot", "shots")):
        for task, value in mapping(content.get(field) or {}, field, where).items():
            if not isinstance(value, dict | list):
                found.setdefault(task, {})[name] = condition(value)
    configs = mapping(content.get("configs") or {}, "configs", where)
    for task, settings in configs.items():
        if isinstance(settings, dict):
            told = {k: v for k, v in settings.items() if k in _TASK}
            found.setdefault(task, {})["task configuration"] = condition(told)
    return {task: {**common, **values} for task, values in found.items()} | {"": common}


_TASK = ("dataset_path", "dataset_name", "test_split", "doc_to_text", "doc_to_target",
         "doc_to_choice", "description", "target_delimiter", "fewshot_delimiter", "output_type",
         "generation_kwargs", "filter_list", "num_fewshot")  # fmt: skip
"""The fields of a task that its scores depend on; the others are names and metadata."""


_NO_METRICS = {"alias", "name", "sample_len", "sample_count", "samples"}
"""What stands beside the metrics of a task."""


def _summary(
    content: Mapping[str, Any], conditions: Mapping[str, Mapping[str, str]], where: str
) -> list[Measured]:
    """The metrics of a result file, with their standard errors."""
    sizes = content.get("n-samples") or {}
    found = []
    results = mapping(content.get("results", {}), "results", where)
    for task, metrics in results.items():
        mapping(metrics, f"results.{task}", where)
        told = sizes.get(task) if isinstance(sizes, dict) else None
        rows = told.get("effective") if isinstance(told, dict) else None
        for key, value in metrics.items():
            metric, _, kind = key.partition(",")
            if metric.endswith("_stderr") or metric in _NO_METRICS:
                continue
            spread = metrics.get(f"{metric}_stderr,{kind}" if kind else f"{metric}_stderr")
            count = rows if rows is not None else _size(value, spread)
            found.append(
                published(
                    _title(metric, kind), task, value, where,
                    lower=_lower(content, task, metric), stderr=spread, n=count,
                    conditions=conditions.get(task, conditions[""]),
                )
            )  # fmt: skip
    return found


def _size(value: Any, spread: Any) -> int | None:
    """The number of documents, from the standard error of a share, sqrt(p(1-p)/(n-1)); old result
    files do not say it. None if value and standard error are not of a share."""
    if not (isinstance(value, int | float) and isinstance(spread, int | float)):
        return None
    if not (0 < value < 1 and 0 < spread < 1):
        return None
    size = value * (1 - value) / spread**2 + 1
    count = round(size)
    whole = abs(size - count) < 1e-3 and abs(value * count - round(value * count)) < 1e-3
    return count if whole and count < 10_000_000 else None


def _title(metric: str, kind: str) -> str:
    return metric if kind in ("", "none") else f"{metric},{kind}"


def _lower(content: Mapping[str, Any], task: str, metric: str) -> bool | None:
    directions = content.get("higher_is_better")
    told = directions.get(task) if isinstance(directions, dict) else None
    higher = told.get(metric) if isinstance(told, dict) else None
    return not higher if isinstance(higher, bool) else None


def _rows(file: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    with file.open("rb") as handle:
        listed = handle.read(64).lstrip().startswith(b"[")
    if not listed:
        yield from json_lines(file)
        return
    for number, row in enumerate(sequence(json_file(file), "it", str(file))):
        yield number, mapping(row, f"row {number}", str(file))


def _samples(
    task: str,
    rows: Iterable[tuple[int, dict[str, Any]]],
    conditions: Mapping[str, Mapping[str, str]],
    content: Mapping[str, Any],
    where: str,
) -> dict[str, Measured]:
    """The metrics of a sample file, by name; each filter of answers has its own."""
    collectors: dict[str, Collector] = {}
    for number, row in rows:
        place = f"{where}: row {number}"
        if "doc_id" not in row:
            raise Unreadable("has no doc_id: not a sample of lm-eval", where=place)
        kind = a_name(row.get("filter", "none"), "filter", place)
        collector = collectors.setdefault(kind, Collector(task, where))
        names = row.get("metrics")
        names = sequence(names, "metrics", place) if names is not None else sorted(
            set(row) - _SAMPLE)  # fmt: skip
        scores: dict[str, float | tuple[float, ...] | None] = {}
        for metric in names:
            value = row.get(a_name(metric, "a metric", place))
            title = _title(metric, kind)
            if isinstance(value, bool | int | float):
                scores[title] = value
                if metric == "perplexity":  # of LAMBADA: the log-likelihood of one word
                    scores[title] = (-value, 1.0)
                    collector.aggregates[title] = "perplexity"
            elif metric in _WEIGHTED and isinstance(value, list) and len(value) == 2:
                aggregate, sign = _WEIGHTED[metric]
                likelihood, weight = (0.0 if v is None else v for v in value)
                scores[title] = (sign * likelihood, weight)
                collector.aggregates[title] = aggregate
            elif value is None and row.get("metrics") is not None:
                scores[title] = None
            if title in scores and (lower := _lower(content, task, metric)) is not None:
                collector.lower[title] = lower
        told = row.get("doc_hash")
        doc = told if told is not None else json.dumps(row.get("doc"), sort_keys=True, default=str)
        target = row.get("target_hash", row.get("target"))
        prompt = row.get("prompt_hash")
        asked = prompt if prompt is not None else json.dumps(row.get("arguments"), default=str)
        collector.add(
            row["doc_id"], scores,
            content=fingerprint(doc, target), prompt=fingerprint(asked),
        )  # fmt: skip
    if not collectors:
        raise Unreadable("has no samples", where=where)
    told_conditions = conditions.get(task, conditions[""])
    return {
        metric.name: metric
        for collector in collectors.values()
        for metric in collector.measured(told_conditions)
    }
