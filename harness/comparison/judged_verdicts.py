"""What a judge said in a stage, read from its `verdicts.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.data.contests import VERDICTS, Compared, read_lines
from harness.store.score_table import SCORES, ScoreTable
from harness.store.stage import Stage
from harness.store.store import Store


@dataclass(frozen=True)
class Said:
    """What a judge said of a pair of answers.

    Attributes:
        lengths: of the first and the second answer, in characters.
        cluster: what the example belongs to; its id if it stands alone.
    """

    compared: Compared
    lengths: tuple[int, int]
    cluster: str

    @property
    def sign(self) -> int | None:
        """1 if the judge prefers the first answer, -1 the other, 0 for a tie; None if it gave no
        verdict."""
        decided = self.compared.decided
        return None if decided is None else int(2 * decided - 1)


def said_in(stage: Stage, store: Store) -> dict[str, Said]:
    """Example id -> what the judge said of its two answers; empty if the stage has not run."""
    folder = stage.path(store.root)
    record = store.record(stage)
    if record is None or not record.ok or not (folder / VERDICTS).is_file():
        return {}
    orders: dict[str, list[float | str]] = {}
    lines = {}
    for line in read_lines(folder):
        if line["form"] == "pairwise" and line["judge"] is None:
            verdict = line["reason"] if line["verdict"] is None else line["verdict"]
            orders.setdefault(line["example_id"], []).append(verdict)
            lines[line["example_id"]] = line
    clusters = _clusters(folder)
    return {
        name: Said(
            Compared(tuple(verdicts), asked=lines[name]["asked"]),
            (lines[name]["one_length"], lines[name]["other_length"]),
            clusters.get(name, name),
        )
        for name, verdicts in orders.items()
    }


def _clusters(folder: Path) -> dict[str, str]:
    """Example id -> its cluster, as the scores beside the verdicts have it; none without scores."""
    if not (folder / SCORES).is_file():
        return {}
    keys = ScoreTable(folder).read(["example_id", "cluster"])
    ids, clusters = (keys.column(name).to_pylist() for name in keys.column_names)
    return dict(zip(ids, clusters, strict=True))


def ratings_in(stage: Stage, store: Store) -> dict[str, dict[str, float | None]]:
    """Example id -> dimension -> the rating of its answer, None where there is none; empty if the
    stage has not run."""
    folder = stage.path(store.root)
    record = store.record(stage)
    if record is None or not record.ok or not (folder / VERDICTS).is_file():
        return {}
    ratings: dict[str, dict[str, float | None]] = {}
    for line in read_lines(folder):
        if line["form"] == "pointwise":
            ratings.setdefault(line["example_id"], {})[line["dimension"]] = line["value"]
    return ratings


def won_in(said: Mapping[str, Said]) -> dict[str, float]:
    """Example id -> 1 where the first answer wins, 0 where the other does, 1/2 for a tie; of the
    examples with a verdict."""
    decided = {name: one.compared.decided for name, one in said.items()}
    return {name: won for name, won in decided.items() if won is not None}
