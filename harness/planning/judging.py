"""The judges of a suite, for whoever asks them about something else than a variant's answers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import SuiteError, unknown
from harness.core.files import digest_json
from harness.labellers.base import Labeller
from harness.planning.graph import Plan
from harness.stages.base import member_of
from harness.stages.score import Score, judging_stages
from harness.stages.verdicts import NAME, Verdicts
from harness.store.stage import Stage
from harness.store.store import Store


@dataclass(frozen=True)
class Judged:
    """A judge of a suite, by a score stage that asks it.

    Attributes:
        name: of the labeller.
        asked: the name by which the scorer asks for it.
        stage: the stage that asks it: a score stage, or one of a ranking.
    """

    name: str
    asked: str
    stage: Stage

    @property
    def labeller(self) -> Labeller:
        """The labeller with its fields."""
        labeller: Labeller = member_of("labeller", Score.of(self.stage).labellers[self.asked])
        return labeller

    @property
    def form(self) -> str:
        """The name of the scorer that asks it."""
        return Score.of(self.stage).built().name

    @property
    def compares(self) -> bool:
        """Whether it is asked about two answers; else it rates single ones, or ranks several."""
        return hasattr(Score.of(self.stage).built(), "against")

    @property
    def dimensions(self) -> tuple[str, ...]:
        """What it rates answers for; nothing if it compares or ranks them."""
        return tuple(getattr(Score.of(self.stage).built(), "dimensions", ()))

    @property
    def reads_references(self) -> bool:
        """Whether it rates answers beside a good one."""
        return not self.compares and Score.of(self.stage).built().needs_references

    @property
    def questions(self) -> int:
        """Questions that a pair of answers makes, where none is asked again."""
        asked = Score.of(self.stage).built().questions()
        return 2 * asked if self.dimensions else asked

    @property
    def identity(self) -> str:
        """A digest of all that its verdicts depend on: its fields, its prompts, its models; of
        one that rates answers the rubric too."""
        score = Score.of(self.stage)
        trained = {role: stage.key for role, stage in self._mine(self.stage.inputs).items()}
        return digest_json([
            None if self.compares else score.scorer, self.labeller.identity(),
            self._mine(score.others), trained,
        ])  # fmt: skip

    def contests(self, file: Path, store: Store, repeat: int = 0) -> Stage:
        """The stage in which this judge judges the contests of a file.

        Args:
            file: JSON lines (see harness.data.contest_files.read_contests).
            repeat: number of an independent repetition.

        Raises:
            SuiteError: there is no such file.
        """
        if not file.is_file():
            raise SuiteError(f"there is no file '{file}'", fix="name a file of contests")
        score = Score.of(self.stage)
        rates = {} if self.compares else {
            "scorer": score.scorer, "settings": score.settings, "prompts": score.prompts,
        }  # fmt: skip
        verdicts = Verdicts(
            **rates,
            device=score.device or "cpu",
            labeller=self.labeller,
            sha256=store.file_digest(file),
            repeat=repeat,
            models=self._mine(score.others),
            places=self._mine(score.places),
            file=str(file.resolve()),
        )
        return verdicts.stage(
            self._mine(self.stage.inputs),
            label=f"{file.name} by {self.name}",
            resources=self.stage.resources,
        )

    def _mine(self, by_role: Mapping[str, Any]) -> dict[str, Any]:
        """What stands under this labeller's roles, by its roles in a stage of verdicts."""
        return {
            f"{NAME}{role.removeprefix(self.asked)}": value
            for role, value in by_role.items()
            if role == self.asked or role.startswith(f"{self.asked}.")
        }


def judges_in(stage: Stage) -> list[Judged]:
    """The judges that a score stage asks, or whose verdicts it reads."""
    if stage.kind != "score":
        return []
    return [
        Judged(fields["name"], name, asking)
        for asking in judging_stages(stage)
        for name, fields in Score.of(asking).labellers.items()
    ]


def judges_of(planned: Plan) -> dict[str, Judged]:
    """The judges of a suite's scorers, each once: by the scorer's label, else by the name of the
    labeller; several of one name are numbered (`judge`, `judge-2`)."""
    judges: dict[str, Judged] = {}
    seen: set[str] = set()
    for path in planned.paths:
        for scored in path.scores:
            for judged in judges_in(scored.stage):
                if judged.identity in seen:
                    continue
                seen.add(judged.identity)
                name = scored.label or judged.name
                names = (name if n == 1 else f"{name}-{n}" for n in itertools.count(1))
                judges[next(free for free in names if free not in judges)] = judged
    return judges


def judge_called(planned: Plan, name: str | None) -> Judged:
    """A judge of the suite; the only one, if none is named.

    Raises:
        SuiteError: the suite has no such judge.
    """
    judges = judges_of(planned)
    if not judges:
        raise SuiteError(
            "no scorer of the suite asks a judge",
            where=f"{planned.file}: scorers",
            fix="add one, such as `- pairwise: {labeller: reward}`",
        )
    if name is None and len(judges) > 1:
        told = ", ".join(f"{name} ({judge.form})" for name, judge in judges.items())
        raise SuiteError(
            f"the suite has {len(judges)} judges: {told}", fix="name one of them with --judge"
        )
    if name is not None and name not in judges:
        raise SuiteError(unknown("judge", name, judges))
    return judges[name] if name is not None else next(iter(judges.values()))
