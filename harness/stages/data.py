"""The data stage: rows in one layout, counted and digested."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from harness.core.outside import as_planned
from harness.core.text import number_of
from harness.data.load import Rows, load_rows
from harness.data.mixture import mix
from harness.data.render import layout_of, turns_of
from harness.data.row import RowDict
from harness.data.scripts import count_scripts
from harness.data.statistics import content_bytes, row_statistics
from harness.stages.base import Job, NotHashed, StageKind
from harness.store.kind import RowCounts
from harness.store.rows_used import rows_used
from harness.store.stage import Record, Resources
from harness.suite.data import Split

ROWS = "rows.jsonl"
DROPPED = "dropped.jsonl"
"""One line for each reason: how many rows, and the first of them. Sentences of the data stay in
this file; the record has the counts alone."""
_EXCERPT = 500
_NOT_HASHED = {"path", "mixture", "mixture_seed", "mixture_stop", "overlong", "max_tokens"}
_LATER = {"turns": "last", "roles": {}, "min_chars": {}, "max_chars": {}}
"""Options that came later, and what they are without being asked: rows read before are the same."""


class Data(StageKind):
    """Rows of a file, of a data set on the hub, or of a mixture, in one layout."""

    VERSION = 5
    purpose = "read"
    reads = {"*": "data"}

    split: Split
    """What the suite asks for; its `path` is where the rows lie on this machine."""
    sha256: str | None = None
    """Of the file; None for the hub and for a mixture."""
    place: Annotated[str, NotHashed]
    """Where it stands in the suite, for messages."""

    def identity(self) -> dict[str, Any]:
        """The file's content or the hub's name, and every option that says how rows are read; of a
        mixture, whose parts are inputs of the stage, how they are mixed."""
        split = self.split
        if split.mixture:
            return {
                "version": self.VERSION,
                "mixture": split.mixture,
                "seed": split.mixture_seed,
                "stop": split.mixture_stop,
                "limit": split.limit,
            }
        fields = split.model_dump(exclude=_NOT_HASHED)
        fields = {k: v for k, v in fields.items() if k not in _LATER or v != _LATER[k]}
        content = {"hub": split.path} if self.sha256 is None else {"sha256": self.sha256}
        return {"version": self.VERSION, **content, **fields}

    def unhashed(self) -> dict[str, Any]:
        """The whole split, as the suite has it, and its place."""
        split = self.split.model_dump(mode="json", exclude_unset=True)
        return {"split": split, "place": self.place}

    @classmethod
    def from_spec(cls, config: Mapping[str, Any], unhashed: Mapping[str, Any]) -> Data:
        return cls(sha256=config.get("sha256"), **unhashed)

    def resources(self, asked: Resources) -> Resources:
        return asked.without_gpu()

    @classmethod
    def headline(cls, record: Record) -> str:
        rows, used = record.metrics["rows"], rows_used(record)
        said = used is not None and used.used == rows < used.given  # `55 of 100 rows`, by itself
        return "" if said else number_of(rows, "row")

    @classmethod
    def row_counts(cls, metrics: Mapping[str, Any]) -> RowCounts:
        used = metrics.get("gathered") or metrics.get("conversations") or metrics["rows"]
        return RowCounts(used, dict(metrics["dropped"]))

    def run(self, job: Job[Data]) -> dict[str, Any]:
        """Read or mix the rows and write them; metrics are counts, lengths, and the digest."""
        with job.ledger.phase("read"):
            if self.split.mixture:
                parts = {name: read_rows(job.input(name)) for name in self.split.mixture}
                loaded, shares = self.mixed(parts)
            else:
                loaded, shares = self._read(), None
        with job.ledger.phase("write"):
            written = write_rows(job.folder, loaded.rows)
            _write_dropped(job.folder / DROPPED, loaded)
        metrics = {
            **written,
            "layout": loaded.layout,
            "dropped": dict(loaded.dropped),
            **_lacking(loaded.rows),
            "references": sum(len(row.get("references", ())) for row in loaded.rows),
            "scripts": count_scripts(r for row in loaded.rows for r in row.get("references", ())),
            **row_statistics(loaded.rows),
        }
        if loaded.gathered:
            metrics["gathered"] = loaded.gathered
        if loaded.conversations:
            metrics["conversations"], metrics["silent_turns"] = loaded.conversations, loaded.silent
        return metrics if shares is None else {**metrics, "shares": shares}

    def peek(self, head: int | None) -> Rows:
        """The rows of a local file, for a plan.

        Args:
            head: read only about so many of its first bytes; None: read all.

        Raises:
            DataError: as when all rows are read, except for what later rows may mend.
        """
        return load_rows(self.split.model_dump(), self.split.path, self.place, head)

    def mixed(self, parts: Mapping[str, Sequence[RowDict]]) -> tuple[Rows, Mapping[str, Any]]:
        """The mixture's rows, and each part's share of them (see `harness.data.mixture.mix`)."""
        split = self.split
        rows, shares = mix(
            parts,
            split.mixture,
            split.mixture_seed,
            split.mixture_stop,
            split.limit,
            f"{self.place}.mixture",
        )
        return Rows(rows, str(layout_of(list(rows[0])))), shares

    def _read(self) -> Rows:
        """The rows of a file as it was planned, or of a name on the hub."""
        file, sha256 = Path(self.split.path), self.sha256
        with (
            contextlib.nullcontext()
            if sha256 is None
            else as_planned(file, sha256, lambda digest: digest(file))
        ):
            return load_rows(self.split.model_dump(), self.split.path, self.place)


def told_by(rows: Sequence[Mapping[str, Any]], layout: str) -> dict[str, Any]:
    """The metrics of a data stage that say what its rows can be used for."""
    return {"rows": len(rows), **_kind_of(rows), **_lacking(rows), "layout": layout}


def _kind_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "layout": layout_of(list(rows[0])),
        "conversational": turns_of(rows[0]) is not None,
        "groups": sorted({row["group"] for row in rows if row["group"]}),
    }


def _lacking(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {
        "ungrouped": sum(not row["group"] for row in rows),
        "without_reference": sum(not row.get("references") for row in rows),
    }


def _write_dropped(path: Path, loaded: Rows) -> None:
    with path.open("w", encoding="utf-8") as handle:
        for reason, count in loaded.dropped.items():
            number, row = loaded.examples[reason]
            excerpt = json.dumps(row, ensure_ascii=True, default=str)[:_EXCERPT]
            line = {"reason": reason, "rows": count, "first": number, "excerpt": excerpt}
            handle.write(json.dumps(line) + "\n")


def write_rows(folder: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write the rows of a stage, for others to read by `read_rows`; returns what they are, for its
    record: how many, their layout, groups, sizes in bytes, and the digest of the file.

    Args:
        rows: one or more, in one layout.
    """
    digest, sizes = hashlib.sha256(), [content_bytes(row) for row in rows]
    with (folder / ROWS).open("w", encoding="utf-8") as handle:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n"
            digest.update(line.encode())
            handle.write(line)
    return {
        "rows": len(rows),
        **_kind_of(rows),
        "digest": digest.hexdigest(),
        "longest_bytes": max(sizes),
        "mean_bytes": sum(sizes) / len(sizes),
    }


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a finished data stage."""
    with (folder / ROWS).open(encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]
