"""What the judges of a suite compare: whose answers with whose."""

from __future__ import annotations

from dataclasses import dataclass

from harness.planning.graph import Plan, VariantPath
from harness.planning.judging import Judged, judges_in
from harness.stages.score import PREDICTIONS, Score
from harness.store.stage import Stage

OTHER = "other"
"""The name by which a scorer that compares asks for the other answers."""
REFERENCE = "reference"


@dataclass(frozen=True)
class Duel:
    """What a score of the suite compares: a variant's answers with others.

    Attributes:
        one, other: whose answers they are: names of variants, or `reference`.
        stage: the score stage, whose verdicts are in its folder.
    """

    one: str
    other: str
    evaluation: str
    stage: Stage


def duels(planned: Plan, judged: Judged) -> list[Duel]:
    """What the judge compares in this suite: the first seed of each variant."""
    whose = _whose(planned)
    first: dict[tuple[str, str, str], Duel] = {}
    for path in planned.paths:
        for scored in path.scores:
            if not _compares(scored.stage, judged):
                continue
            other = scored.stage.inputs.get(OTHER)
            name = REFERENCE if other is None else whose.get(other.key, other.label)
            duel = Duel(path.variant.group, name, scored.evaluation, scored.stage)
            first.setdefault((duel.one, duel.other, duel.evaluation), duel)
    return list(first.values())


def _compares(stage: Stage, judged: Judged) -> bool:
    """Whether a score stage asks this very judge about two answers."""
    asks = any(other.identity == judged.identity for other in judges_in(stage))
    return asks and PREDICTIONS in stage.inputs and hasattr(Score.of(stage).built(), "against")


def _whose(planned: Plan) -> dict[str, str]:
    """Key of a generate stage -> the variant whose answers it makes."""
    paths: list[VariantPath] = [*planned.paths]
    paths += [path.start for path in planned.paths if path.start is not None]
    names: dict[str, str] = {}
    for path in paths:
        for stage in path.generate.values():
            names.setdefault(stage.key, path.variant.group)
    return names
