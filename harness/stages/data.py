"""The data stage: rows in one layout, counted and digested."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.outside import as_planned
from harness.data.load import Rows, load_rows
from harness.data.mixture import mix
from harness.data.render import layout_of, turns_of
from harness.data.scripts import count_scripts
from harness.data.statistics import content_bytes, row_statistics
from harness.stages.job import Job

ROWS = "rows.jsonl"
DROPPED = "dropped.jsonl"
"""One line for each reason: how many rows, and the first of them. Sentences of the data stay in
this file; the record has the counts alone."""
_EXCERPT = 500


def run(job: Job) -> dict[str, Any]:
    """Read or mix the rows and write them; metrics are counts, lengths, and the digest."""
    with job.ledger.phase("read"):
        if "mixture" in job.config:
            found, shares = _mixed(job)
        else:
            found, shares = _read(job), None
    with job.ledger.phase("write"):
        digest = hashlib.sha256()
        sizes = []
        with (job.folder / ROWS).open("w", encoding="utf-8") as handle:
            for row in found.rows:
                line = json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n"
                digest.update(line.encode())
                sizes.append(content_bytes(row))
                handle.write(line)
        _write_dropped(job.folder / DROPPED, found)
    metrics = {
        "rows": len(found.rows),
        "layout": found.layout,
        "conversational": turns_of(found.rows[0]) is not None,
        "dropped": dict(found.dropped),
        "digest": digest.hexdigest(),
        "groups": sorted({row["group"] for row in found.rows if row["group"]}),
        "ungrouped": sum(not row["group"] for row in found.rows),
        "longest_bytes": max(sizes),
        "mean_bytes": sum(sizes) / len(sizes),
        "without_reference": sum(not row.get("references") for row in found.rows),
        "references": sum(len(row.get("references", ())) for row in found.rows),
        "scripts": count_scripts(r for row in found.rows for r in row.get("references", ())),
        **row_statistics(found.rows),
    }
    if found.gathered:
        metrics["gathered"] = found.gathered
    if found.conversations:
        metrics["conversations"], metrics["silent_turns"] = found.conversations, found.silent
    return metrics if shares is None else {**metrics, "shares": shares}


def _read(job: Job) -> Rows:
    """The rows of a file as it was planned, or of a name on the hub."""
    source, sha256 = job.locators["data"], job.config.get("sha256")
    file = Path(source)
    with (
        contextlib.nullcontext()
        if sha256 is None
        else as_planned(file, sha256, lambda digest: digest(file))
    ):
        return load_rows(job.config, source, job.locators["where"])


def _mixed(job: Job) -> tuple[Rows, Mapping[str, Any]]:
    config = job.config
    parts = {name: read_rows(job.input(name)) for name in config["mixture"]}
    rows, shares = mix(parts, config["mixture"], config["seed"], config["stop"], config["limit"])
    return Rows(rows, str(layout_of(list(rows[0])))), shares


def _write_dropped(path: Path, found: Rows) -> None:
    with path.open("w", encoding="utf-8") as handle:
        for reason, count in found.dropped.items():
            number, row = found.examples[reason]
            excerpt = json.dumps(row, ensure_ascii=True, default=str)[:_EXCERPT]
            line = {"reason": reason, "rows": count, "first": number, "excerpt": excerpt}
            handle.write(json.dumps(line) + "\n")


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a finished data stage."""
    with (folder / ROWS).open(encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]
