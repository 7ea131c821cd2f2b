"""Stored baselines: one readable JSON file with the scores of all examples, packed, and digests.

    {"format": "harness-baseline", "version": 1, "name": ..., "variant": ..., "source": {...},
     "examples": {"tasks": {"n": 200, "sha256": ..., "ids": PACKED, ...}},
     "metrics": [{"metric": "rougeL", "evaluation": "tasks", "value": 0.41, "n": 200, "seed": 0,
                  "columns": {"value": PACKED}, "sha256": ..., ...}]}

PACKED is base64 of zlib: of a JSON list for names, of little-endian 8-byte floats for scores, and
of 4-byte integers for fingerprints. Values stand beside them, so that a change can be reviewed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.comparison.measured import Examples, Measured, Run
from harness.core.aggregate import AGGREGATES
from harness.importers.base import MAX_NAME, a_name, a_number, mapping, sequence
from harness.importers.collector import published, table_metric
from harness.importers.files import Unreadable, json_file

NAME = "baseline"
TITLE = "a stored baseline (harness baseline set)"
FORMAT, VERSION = "harness-baseline", 1
_MAX_EXAMPLES = 20_000_000


def recognises(path: Path, start: bytes) -> bool:
    """Whether it says so."""
    return not path.is_dir() and f'"format": "{FORMAT}"'.encode() in start


def read(path: Path) -> list[Run]:
    """A run for each seed.

    Raises:
        Unreadable: it is damaged, or of a newer version.
    """
    where = str(path)
    content = mapping(json_file(path), "it", where)
    if content.get("format") != FORMAT:
        raise Unreadable("is no stored baseline", where=where)
    if content.get("version") != VERSION:
        raise Unreadable(f"is of version {content.get('version')!r}, not {VERSION}", where=where)
    tables = mapping(content.get("examples"), "examples", where)
    examples = {name: _examples(told, f"{where}: examples.{name}") for name, told in tables.items()}
    by_seed: dict[int, list[Measured]] = {}
    for number, told in enumerate(sequence(content.get("metrics"), "metrics", where)):
        place = f"{where}: metrics[{number}]"
        told = mapping(told, "it", place)
        seed = told.get("seed", 0)
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise Unreadable(f"the seed is {seed!r}", where=place)
        by_seed.setdefault(seed, []).append(_metric(told, examples, place))
    variant = a_name(content.get("variant"), "variant", where)
    source = {**mapping(content.get("source") or {}, "source", where), "file": path.name}
    return [Run(variant, tuple(found), seed, source) for seed, found in by_seed.items()]


def _examples(told: Any, where: str) -> Examples:
    import pyarrow as pa

    told = mapping(told, "it", where)
    count = told.get("n")
    if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= _MAX_EXAMPLES:
        raise Unreadable(f"n is {count!r}", where=where)
    kept = {
        name: _unpacked(told[name], where, count * (4 if name in _PRINTS else 6 * MAX_NAME))
        for name in (*_TEXTS, *_PRINTS)
        if told.get(name) is not None
    }
    if _digest(kept) != told.get("sha256"):
        raise Unreadable("is damaged: its digest is another one", where=where)
    texts = {name: _names(kept[name], count, f"{where}.{name}") for name in _TEXTS if name in kept}
    if "ids" not in texts:
        raise Unreadable("has no ids", where=where)
    prints = {}
    for name in _PRINTS:
        if name in kept:
            if len(kept[name]) != 4 * count:
                raise Unreadable(f"{name} are not {count}", where=where)
            prints[name] = np.frombuffer(kept[name], "<u4").astype(np.uint32)
    return Examples(
        pa.array(texts["ids"], pa.string()),
        pa.array(texts["clusters"], pa.string()) if "clusters" in texts else None,
        prints.get("contents"),
        prints.get("prompts"),
    )


_TEXTS, _PRINTS = ("ids", "clusters"), ("contents", "prompts")


def _names(content: bytes, count: int, where: str) -> list[str]:
    try:
        names = json.loads(content)
    except (ValueError, RecursionError):
        raise Unreadable("is damaged", where=where) from None
    if not isinstance(names, list) or len(names) != count:
        raise Unreadable(f"is no list of {count} names", where=where)
    return [a_name(name, "a name", where) for name in names]


def _metric(told: dict[str, Any], examples: Mapping[str, Examples], where: str) -> Measured:
    metric = a_name(told.get("metric"), "metric", where)
    evaluation = told.get("evaluation")
    if not isinstance(evaluation, str):
        raise Unreadable("evaluation is no text", where=where)
    lower = told.get("higher_is_better") is False
    conditions = {
        str(k): str(v)
        for k, v in mapping(told.get("conditions") or {}, "conditions", where).items()
    }
    if "columns" not in told:
        return published(
            metric, evaluation, told.get("value"), where, lower=lower, stderr=told.get("stderr"),
            n=told.get("n"), conditions=conditions,
        )  # fmt: skip
    table = examples.get(str(told.get("examples")))
    if table is None:
        raise Unreadable(f"the file has no examples {told.get('examples')!r}", where=where)
    aggregate = told.get("aggregate", "mean")
    if aggregate not in AGGREGATES:
        raise Unreadable(f"the aggregate {aggregate!r} is not known", where=where)
    packed = {
        name: _unpacked(value, where, 8 * len(table))
        for name, value in mapping(told["columns"], "columns", where).items()
    }
    if _digest(packed) != told.get("sha256"):
        raise Unreadable("is damaged: its digest is another one", where=where)
    columns = {}
    for name, content in packed.items():
        if len(content) != 8 * len(table):
            raise Unreadable(f"{name} has not {len(table)} scores", where=where)
        columns[name] = np.frombuffer(content, "<f8").astype(np.float64)
        if not np.isfinite(columns[name]).all():
            raise Unreadable(f"{name} is not always a finite number", where=where)
    if missing := set(AGGREGATES[aggregate].statistics) - set(columns):
        raise Unreadable(f"has no column {sorted(missing)[0]}", where=where)
    if not columns:
        raise Unreadable("has no columns", where=where)
    lost = told.get("unscored", 0)
    if isinstance(lost, bool) or not isinstance(lost, int) or lost < 0:
        raise Unreadable(f"unscored is {lost!r}", where=where)
    least, most = (_end(told.get("bounds"), i, where) for i in (0, 1))
    return table_metric(
        metric, evaluation, table, columns, where=where, lower=lower, aggregate=aggregate,
        conditions=conditions, bounds=(least, most), unscored=lost,
    )  # fmt: skip


def _end(bounds: Any, place: int, where: str) -> float:
    value = bounds[place] if isinstance(bounds, list) and len(bounds) == 2 else None
    if value is None:
        return (-np.inf, np.inf)[place]
    return a_number(value, "a bound", where)


def text_of(name: str, runs: Sequence[Run], version: str) -> str:
    """The file of a baseline: the runs of one variant, with the scores of all examples.

    Args:
        version: of this package.
    """
    examples: dict[str, dict[str, Any]] = {}
    lines = []
    for run in runs:
        for metric in run.metrics:
            lines.append(json.dumps(_told(metric, run.seed, examples), ensure_ascii=True))
    tables = [f"  {json.dumps(key)}: {json.dumps(told)}" for key, told in examples.items()]
    head = {
        "format": FORMAT, "version": VERSION, "name": name, "variant": runs[0].variant,
        "source": {"harness": version, **runs[0].source},
    }  # fmt: skip
    start = json.dumps(head, indent=1, default=str)[:-2]
    parts = ",\n".join(tables), ",\n".join(f"  {line}" for line in lines)
    return f'{start},\n "examples": {{\n{parts[0]}\n }},\n "metrics": [\n{parts[1]}\n ]\n}}\n'


def _told(metric: Measured, seed: int, examples: dict[str, dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "metric": metric.metric, "evaluation": metric.evaluation, "value": metric.value,
        "n": metric.n, "seed": seed, "higher_is_better": metric.higher_is_better,
    }  # fmt: skip
    if metric.conditions:
        told["conditions"] = dict(metric.conditions)
    if metric.examples is None:
        return told | ({} if metric.stderr is None else {"stderr": metric.stderr})
    packed = {name: column.astype("<f8").tobytes() for name, column in metric.columns.items()}
    return told | {
        "aggregate": metric.aggregate,
        "bounds": [end if np.isfinite(end) else None for end in metric.bounds],
        "unscored": metric.unscored,
        "examples": _place(metric, examples),
        "sha256": _digest(packed),
        "columns": {name: _packed(content) for name, content in packed.items()},
    }


def _place(metric: Measured, examples: dict[str, dict[str, Any]]) -> str:
    """The name under which the metric's examples stand; metrics of the same ones share it."""
    table = metric.examples
    assert table is not None
    kept = {"ids": json.dumps(table.ids.to_pylist(), separators=(",", ":")).encode()}
    if table.clusters is not None:
        kept["clusters"] = json.dumps(table.clusters.to_pylist(), separators=(",", ":")).encode()
    for name in _PRINTS:
        if (prints := getattr(table, name)) is not None:
            kept[name] = prints.astype("<u4").tobytes()
    digest = _digest(kept)
    for known, told in examples.items():
        if told["sha256"] == digest:
            return known
    name, number = metric.evaluation or "examples", 2
    while name in examples:
        name, number = f"{metric.evaluation or 'examples'} {number}", number + 1
    packed = {key: _packed(content) for key, content in kept.items()}
    examples[name] = {"n": len(table), "sha256": digest, **packed}
    return name


def _digest(parts: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(parts):
        total.update(name.encode("utf-8", "surrogatepass") + b"\0" + parts[name] + b"\0")
    return total.hexdigest()


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 6)).decode()


def _unpacked(text: Any, where: str, most: int) -> bytes:
    """The content, of at most so many bytes.

    Raises:
        Unreadable: it is damaged or larger.
    """
    if not isinstance(text, str):
        raise Unreadable("is damaged: a packed part is no text", where=where)
    try:
        stream = zlib.decompressobj()
        content = stream.decompress(base64.b64decode(text, validate=True), most + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise Unreadable(f"is damaged: {error}", where=where) from error
    if len(content) > most or not stream.eof:
        raise Unreadable("is damaged: a packed part is cut off or too large", where=where)
    return content
