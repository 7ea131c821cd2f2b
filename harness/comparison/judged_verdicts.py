"""What a judge said in a stage, read from its `verdicts.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.data.contests import Compared, Standing
from harness.data.verdict_lines import VERDICTS, compared_in, read_lines
from harness.planning.duels import RANKING, Duel
from harness.stages._judging import standing_in, standing_lines, standings_of
from harness.stages.score import PREDICTIONS
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


def said_in(stage: Stage, store: Store, dimension: str | None = None) -> dict[str, Said]:
    """Example id -> what the judge said of its two answers; empty if the stage has not run.

    Args:
        dimension: by its ratings for this; None: on the whole.
    """
    folder = stage.path(store.root)
    record = store.record(stage)
    if record is None or not record.ok or not (folder / VERDICTS).is_file():
        return {}
    lines = read_lines(folder)
    lengths = {line["example_id"]: (line["one_length"], line["other_length"]) for line in lines}
    clusters = _clusters(folder)
    return {
        name: Said(compared, lengths[name], clusters.get(name, name))
        for name, compared in compared_in(lines, dimension).items()
    }


def said_of(duel: Duel, store: Store) -> dict[str, Said]:
    """Example id -> what the judge said of the answers of a duel: in words, or by the ranks that it
    gave them. Empty for one that rates single answers, and if a stage has not run."""
    if duel.rated is None:
        return said_in(duel.stage, store)
    ones, others = _standings(duel.stage, store), _standings(duel.rated, store)
    lengths = _lengths(duel.stage, store), _lengths(duel.rated, store)
    clusters = _clusters(duel.stage.path(store.root)) if ones else {}
    return {
        name: Said(
            ones[name].beside(others[name]),
            (lengths[0][name], lengths[1][name]),
            clusters.get(name, name),
        )
        for name in ones.keys() & others.keys()
    }


def _standings(stage: Stage, store: Store) -> dict[str, Standing]:
    record, ranking = store.record(stage), stage.inputs.get(RANKING)
    if record is None or not record.ok or ranking is None:
        return {}
    return standings_of(ranking.path(store.root), stage.inputs[PREDICTIONS].key)


def rankings_of(stage: Stage, store: Store) -> list[tuple[str, list[Standing]]]:
    """Of each example of a ranking stage its cluster, and how the answers to it stand; empty if the
    stage is of another kind, or has not run."""
    record = store.record(stage)
    if stage.kind != "ranking" or record is None or not record.ok:
        return []
    lists: dict[str, tuple[str, list[Standing]]] = {}
    for line in standing_lines(stage.path(store.root)):
        of = lists.setdefault(line["example_id"], (line["cluster"], []))
        of[1].append(standing_in(line))
    return list(lists.values())


def _lengths(stage: Stage, store: Store) -> dict[str, int]:
    """Example id -> characters of the variant's answer."""
    if not (stage.path(store.root) / VERDICTS).is_file():
        return {}
    lines = read_lines(stage.path(store.root))
    return {line["example_id"]: line["one_length"] for line in lines}


def _clusters(folder: Path) -> dict[str, str]:
    """Example id -> its cluster, as the scores beside the verdicts have it; none without scores."""
    if not (folder / SCORES).is_file():
        return {}
    keys = ScoreTable(folder).read(["example_id", "cluster"])
    ids, clusters = (keys.column(name).to_pylist() for name in keys.column_names)
    return dict(zip(ids, clusters, strict=True))


def won_in(said: Mapping[str, Said]) -> dict[str, float]:
    """Example id -> 1 where the first answer wins, 0 where the other does, 1/2 for a tie; of the
    examples with a verdict."""
    decided = {name: one.compared.decided for name, one in said.items()}
    return {name: won for name, won in decided.items() if won is not None}
