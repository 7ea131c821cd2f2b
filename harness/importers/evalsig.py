"""Inputs of EVALSIG: a run frame as JSON, or as Parquet in its canonical schema (v1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.comparison.measured import Run
from harness.core.errors import why
from harness.core.text import label
from harness.importers.base import MAX_NAME, a_name, mapping, sequence
from harness.importers.collector import Collector
from harness.importers.files import Unreadable, digest, json_file

NAME = "evalsig"
TITLE = "EVALSIG: a run frame as .json or .parquet"
_FIELDS = ("run_id", "model_id", "task_id", "metric_name")


def recognises(path: Path, start: bytes) -> bool:
    """Whether it has the fields of a run frame."""
    if path.is_dir():
        return False
    if start.startswith(b"PAR1"):
        import pyarrow.parquet as pq

        try:
            return {*_FIELDS, "item_id", "score"} <= set(pq.read_schema(path).names)
        except (OSError, ValueError):
            return False
    return b'"task_id"' in start and b'"metric_name"' in start and b'"run_id"' in start


def read(path: Path) -> list[Run]:
    """One run of JSON; a run for each `run_id` of Parquet.

    Raises:
        Unreadable: it is damaged, or no run frame.
    """
    with path.open("rb") as handle:
        table = handle.read(4) == b"PAR1"
    if table:
        return [_run(frame, path) for frame in _frames(path)]
    return [_run(mapping(json_file(path), "it", str(path)), path)]


def _frames(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [*_FIELDS, "item_id", "cluster_id", "epoch", "score", "config_hash"]
    try:
        present = set(pq.read_schema(path).names)
        rows = pq.read_table(path, columns=[n for n in names if n in present]).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Unreadable(f"is damaged: {why(error)}", where=str(path)) from error
    frames: dict[str, dict[str, Any]] = {}
    for row in rows:
        if not all(row.get(name) for name in _FIELDS):
            raise Unreadable("a row has no run_id, model_id, task_id or metric_name",
                             where=str(path))  # fmt: skip
        frame = frames.setdefault(row["run_id"], {**row, "items": []})
        frame["items"].append(row)
    return list(frames.values())


def _run(frame: dict[str, Any], path: Path) -> Run:
    where = str(path)
    names = {name: a_name(frame.get(name), name, where) for name in _FIELDS}
    collector = Collector(names["task_id"], where, answers=True)
    seen = set()
    told = enumerate(sequence(frame.get("items"), "items", where))
    items = [mapping(item, f"item {number}", where) for number, item in told]
    clustered = any(item.get("cluster_id") is not None for item in items)
    for item in items:
        key = a_name(item.get("item_id"), "item_id", where), str(item.get("epoch") or 0)
        if key in seen:
            raise Unreadable(f"item '{key[0]}' occurs twice in epoch {key[1]}", where=where)
        seen.add(key)
        cluster = item.get("cluster_id")
        if cluster is None and clustered:  # it may be null: such an item stands alone
            cluster = f"alone\x1f{key[0]}"[:MAX_NAME]
        collector.add(key[0], {names["metric_name"]: item.get("score")}, cluster=cluster)
    return Run(
        label(names["model_id"]),
        tuple(collector.measured()),
        source={"tool": "EVALSIG", "file": path.name, "sha256": digest(path),
                "run": names["run_id"]},
    )  # fmt: skip
