"""Results of LightEval: results_*.json, details_*.parquet, or the folder that has both.

As logging/info_loggers.py and evaluation_tracker.py write them. In older files a task is
`suite|task|shots`, its configuration stands under `suite|task`, and the columns of details are flat
(`metrics`, `full_prompt`); if rows had shapes of their own, all columns are text.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.comparison.measured import Measured, Run
from harness.core.errors import why
from harness.core.text import label
from harness.importers.base import fingerprint, mapping
from harness.importers.collector import Collector, published
from harness.importers.files import Unreadable, digest, inside, json_file

NAME = "lighteval"
TITLE = "LightEval: results_*.json, details_*.parquet, or the output folder"
_DETAILS = re.compile(r"details_(?P<task>.+?)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)$")
_MAX_ROWS, _MAX_TEXT = 5_000_000, 20_000


def recognises(path: Path, start: bytes) -> bool:
    """Whether it has LightEval's general configuration, or columns of its details."""
    if path.is_dir():
        return (path / "details").is_dir() or any(path.glob("details_*.parquet"))
    if start.startswith(b"PAR1"):
        import pyarrow.parquet as pq

        try:
            names = set(pq.read_schema(path).names)
        except (OSError, ValueError):
            return False
        return ("metric" in names and "doc" in names) or {"metrics", "full_prompt"} <= names
    return b'"config_general"' in start


def read(path: Path) -> list[Run]:
    """One run.

    Raises:
        Unreadable: it is damaged, or not of LightEval, or a folder has several runs.
    """
    if path.is_dir():
        results = inside(path, "**/results_*.json")
        details = inside(path, "**/details_*.parquet")
        dates = {m["date"] for f in details if (m := _DETAILS.match(f.stem))}
        if len(results) > 1 or len(dates) > 1:
            raise Unreadable(
                f"has {max(len(results), len(dates))} runs", where=str(path),
                fix="give a folder with one run: one results file and its details",
            )  # fmt: skip
        if not results and not details:
            raise Unreadable("has no results_*.json and no details_*.parquet", where=str(path))
        content = mapping(json_file(results[0]), "it", str(results[0])) if results else {}
        return [_run(content, details, path)]
    if path.suffix == ".parquet":
        return [_run({}, [path], path)]
    return [_run(mapping(json_file(path), "it", str(path)), [], path)]


def _run(content: dict[str, Any], details: list[Path], path: Path) -> Run:
    where = str(path)
    general = mapping(content.get("config_general") or {}, "config_general", where)
    conditions = _conditions(content, where)
    metrics = _summary(content, conditions, where)
    tables: dict[str, Measured] = {}
    for file in details:
        match = _DETAILS.match(file.stem)
        task = (match["task"] if match else file.stem).split("/")[-1]
        tables |= {m.name: m for m in _details(file, task, _of(conditions, task), content)}
    merged = [tables.pop(m.name, m) for m in metrics] + list(tables.values())
    if not merged:
        raise Unreadable("has no results", where=where)
    notes = (
        ()
        if details
        else (
            f"{path.name} has no scores of examples (LightEval writes them with --save-details):"
            " differences are tested as if the models had answered other questions.",
        )
    )
    return Run(
        label(general.get("model_name") or path.stem),
        tuple(merged),
        source={"tool": "LightEval", "version": general.get("lighteval_sha"), "file": path.name,
                "sha256": {f.name: digest(f) for f in details} or digest(path)},
        notes=notes,
    )  # fmt: skip


def _conditions(content: Mapping[str, Any], where: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for task, version in mapping(content.get("versions") or {}, "versions", where).items():
        found[task] = {"task version": str(version)}
    return found


def _of(conditions: Mapping[str, dict[str, str]], task: str) -> dict[str, str]:
    """The conditions of a task, which older files keep without its number of shots."""
    return conditions.get(task) or conditions.get(task.rpartition("|")[0], {})


def _summary(
    content: Mapping[str, Any], conditions: Mapping[str, dict[str, str]], where: str
) -> list[Measured]:
    found = []
    for task, metrics in mapping(content.get("results") or {}, "results", where).items():
        if task == "all" or ":_average" in task:
            continue  # means of the others
        for name, value in mapping(metrics, f"results.{task}", where).items():
            if not name.endswith("_stderr"):
                found.append(
                    published(
                        name, task, value, where, lower=_lower(content, task, name),
                        stderr=metrics.get(f"{name}_stderr"), conditions=_of(conditions, task),
                        n=_size(content, task),
                    )
                )  # fmt: skip
    return found


def _task(content: Mapping[str, Any], task: str) -> dict[str, Any]:
    configs = content.get("config_tasks")
    plain = task.rpartition("|")[0] or task
    for name, config in configs.items() if isinstance(configs, dict) else ():
        if isinstance(config, dict) and (name in (task, plain) or name.endswith(f"|{plain}")):
            return config
    return {}


def _size(content: Mapping[str, Any], task: str) -> object:
    return _task(content, task).get("effective_num_docs")


def _lower(content: Mapping[str, Any], task: str, metric: str) -> bool | None:
    config = _task(content, task)
    told = config.get("metrics") or config.get("metric")
    for one in told if isinstance(told, list) else []:
        name = one.get("metric_name") if isinstance(one, dict) else None
        if name == metric or (isinstance(name, list) and metric in name):
            higher = one.get("higher_is_better")  # of several metrics: one for each name
            higher = higher.get(metric) if isinstance(higher, dict) else higher
            if isinstance(higher, bool):
                return not higher
    return None


def _scores(value: object, where: str) -> dict[str, Any]:
    """The metrics of one row; older files may hold them as Python's text of a dict."""
    if isinstance(value, str) and len(value) <= _MAX_TEXT:
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise Unreadable("the metrics are no text of numbers", where=where) from None
    return mapping(value, "metric", where)


def _details(
    file: Path, task: str, conditions: Mapping[str, str], content: Mapping[str, Any]
) -> list[Measured]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = str(file)
    try:
        reader = pq.ParquetFile(file)
        if reader.metadata.num_rows > _MAX_ROWS:
            raise Unreadable(f"has {reader.metadata.num_rows} rows", where=where)
        kept = [n for n in ("metric", "metrics", "doc", "model_response", "example", "full_prompt")
                if n in reader.schema_arrow.names]  # fmt: skip
        rows = reader.read(columns=kept, use_threads=False).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Unreadable(f"is damaged: {why(error)}", where=where) from error
    collector = Collector(task, where)
    for number, row in enumerate(rows):
        scores = _scores(row.get("metric") or row.get("metrics"), f"{where}: row {number}")
        doc = row.get("doc") if isinstance(row.get("doc"), dict) else {}
        answer = row.get("model_response") if isinstance(row.get("model_response"), dict) else {}
        asked = (doc or {}).get("query", row.get("example"))
        prompt = (answer or {}).get("input", row.get("full_prompt"))
        for name in scores:
            if (lower := _lower(content, task, name)) is not None:
                collector.lower[name] = lower
        plain = {k: v for k, v in scores.items() if v is None or isinstance(v, bool | int | float)}
        collector.add(
            number, plain,
            content=fingerprint(asked, json.dumps((doc or {}).get("choices"), default=str)),
            prompt=fingerprint(json.dumps(prompt, default=str)),
        )  # fmt: skip
    return collector.measured(conditions)
