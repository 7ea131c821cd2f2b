"""What the judges of a suite compare: whose answers with whose.

A judge that rates single answers compares too: two answers by their ratings. Its pairs are those of
each variant and its baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.planning.graph import Plan, VariantPath
from harness.planning.judging import Judged, judges_in
from harness.stages.score import PREDICTIONS, judging_stages
from harness.store.stage import Stage

OTHER = "other"
"""The name by which a scorer that compares asks for the other answers."""
REFERENCE = "reference"
RANKING = "ranking"
"""The name by which a scorer asks for the ranking of all answers."""


@dataclass(frozen=True)
class Duel:
    """What a score of the suite compares: a variant's answers with others.

    Attributes:
        one, other: whose answers they are: names of variants, or `reference`.
        stage: the score stage, whose verdicts are in its folder.
        rated: the score stage with the ratings of the other answers, of a judge that rates or
            ranks.
    """

    one: str
    other: str
    evaluation: str
    stage: Stage
    rated: Stage | None = None

    @property
    def others(self) -> Stage | None:
        """The stage that made the other answers; None for references."""
        return self.rated.inputs[PREDICTIONS] if self.rated else self.stage.inputs.get(OTHER)


def duels(planned: Plan, judged: Judged) -> list[Duel]:
    """What the judge compares in this suite: the first seed of each variant."""
    if not judged.compares:
        return _by_ratings(planned, judged)
    whose = _whose(planned)
    first: dict[tuple[frozenset[str], str], Duel] = {}
    for path in planned.paths:
        for scored in path.scores:
            if not _asks(scored.stage, judged):
                continue
            for stage in judging_stages(scored.stage):
                other = stage.inputs.get(OTHER)
                name = REFERENCE if other is None else whose.get(other.key, other.label)
                one = path.variant.group
                if stage is not scored.stage:
                    one = whose[stage.inputs[PREDICTIONS].key]
                duel = Duel(one, name, scored.evaluation, stage)
                first.setdefault((frozenset((one, name)), duel.evaluation), duel)
    return list(first.values())


def _by_ratings(planned: Plan, judged: Judged) -> list[Duel]:
    """Each variant against its baseline, where the judge rated the answers of both; every two
    variants, where it ranked the answers of all."""
    rated: dict[tuple[str, str], Stage] = {}
    for path in planned.paths:
        for scored in path.scores:
            if _asks(scored.stage, judged):
                rated.setdefault((path.variant.group, scored.evaluation), scored.stage)
    ranks = judged.stage.kind == "ranking"
    fought: dict[tuple[frozenset[str], str], Duel] = {}
    for (name, evaluation), stage in rated.items():
        baseline = planned.baselines.get(name, planned.baseline)
        others = [n for n, entry in rated if entry == evaluation and (ranks or n == baseline)]
        for other in others:
            if other != name and planned.baselines.get(other, planned.baseline) != name:
                duel = Duel(name, other, evaluation, stage, rated[other, evaluation])
                fought.setdefault((frozenset((name, other)), evaluation), duel)
    return list(fought.values())


def _asks(stage: Stage, judged: Judged) -> bool:
    """Whether a score stage asks this very judge about answers."""
    asks = any(other.identity == judged.identity for other in judges_in(stage))
    return asks and PREDICTIONS in stage.inputs


def _whose(planned: Plan) -> dict[str, str]:
    """Key of a generate stage -> the variant whose answers it makes."""
    paths: list[VariantPath] = [*planned.paths]
    paths += [path.start for path in planned.paths if path.start is not None]
    names: dict[str, str] = {}
    for path in paths:
        for stage in path.generate.values():
            names.setdefault(stage.key, path.variant.group)
    return names
