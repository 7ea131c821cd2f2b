"""Score stages in a plan: what each scorer asks for, as inputs of a stage."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from harness.core.errors import HarnessError, SuiteError, unknown
from harness.planning.between import Baseline, Rival, everyone, seated
from harness.planning.draft import Draft, NotAsked
from harness.planning.graph import Scored, VariantPath
from harness.planning.places import SuitePlaces
from harness.planning.preparing import Preparing, find_outside, places_of
from harness.planning.scored_models import ScoredModels
from harness.planning.sources import Sources
from harness.scorers._asks import (
    AnswersOf,
    Asked,
    ModelOf,
    NamedFile,
    NamedFolder,
    NamedFunction,
    NamedLabeller,
    NamedPrompt,
    NamedRule,
    PairsOf,
    Prepared,
    RankingOf,
    RewardModel,
    ScoredRows,
    Subject,
)
from harness.scorers.base import Scorer
from harness.scorers.listwise import LETTERS
from harness.stages._judging import ANSWERS
from harness.stages._models import CHECKPOINT, REWARD
from harness.stages.base import Known
from harness.stages.ranking import LABELLER, Ranking
from harness.stages.score import DATA, PREDICTIONS, Score, role_of
from harness.store.stage import Stage
from harness.suite.suite import Suite
from harness.variants.variant import Variant

Generate = Callable[[Variant, str, Stage | None, str], Stage]
"""(variant, data entry, its checkpoint, split) -> the stage of its answers."""
LeftOut = Callable[[str, str], list[int]]
"""(data entry, split) -> numbers of the rows that no variant's model is scored on."""
Rivals = Callable[[VariantPath], Sequence[VariantPath]]
"""path -> those of all other variants, as far as their answers, else NotAsked."""
Asks = Mapping[str, Asked]


@dataclass
class Scoring:
    """Makes the score stages of variants; equal ones are one stage by their key."""

    suite: Suite
    sources: Sources
    preparing: Preparing
    models: ScoredModels
    generate: Generate
    left_out: LeftOut
    baseline: Baseline
    rivals: Rivals
    _lacking: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)
    """(place of a scorer, what is lacking) -> the variants that lack it."""

    def require_named(self, scorers: Sequence[Scorer]) -> None:
        """Raise SuiteError where a scorer names a rule, a function or a folder that is not there,
        or something in one, whether any variant is scored by it or not."""
        for index, scorer in enumerate(scorers):
            where = f"scorers[{index}].{scorer.name}"
            scorer.require(where, places_of(scorer, self.sources, where))

    def reported(self, scorer: Scorer, evaluation: str) -> Sequence[str]:
        """The names of the metrics that a scorer will have on one of its own sets; empty if they
        are known only once it has run."""
        return scorer.reported(evaluation, places_of(scorer, self.sources, scorer.name))

    def of(self, scorer: Scorer, where: str, path: VariantPath) -> list[Scored]:
        """A scorer's stages for a variant on its test rows; none where the variant lacks what the
        scorer asks for.

        Args:
            path: the variant's path so far: its training, its answers, its start.

        Raises:
            SuiteError: rows that the suite does not have, or does not generate answers to.
        """
        scores = []
        sets = scorer.sets()
        for entry in sets or self._entries(scorer, where, path):
            try:
                stage = self.stage(sets.get(entry, scorer), where, path, entry, "test")
            except NotAsked as lack:
                if lack.noted:
                    who = self._lacking.setdefault((f"{where}.{scorer.name}", f"{lack}"), {})
                    who[path.variant.group] = None
                continue
            label, shows = scorer.label, scorer.shows()
            scores.append(Scored(stage, scorer.name, entry, label, shows, scorer.forgetting))
        return scores

    def stage(
        self, scorer: Scorer, where: str, path: VariantPath, entry: str, split: str,
        other: VariantPath | None = None,
    ) -> Stage:  # fmt: skip
        """One score stage.

        Args:
            other: what the variant is compared with, in the place of its baseline.

        Raises:
            NotAsked: the variant lacks what the scorer asks for.
        """
        asks = scorer.asks(Subject())
        draft = Draft(
            scorer, path, entry, split, f"{where}.{scorer.name}",
            {"scorer": scorer.identity(), "settings": scorer.planned()}, other=other,
        )  # fmt: skip
        _refuse_names(asks, draft.where)
        for name, asked in asks.items():
            self._add(draft, name, asked, asks)
        if not scorer.sets() and DATA not in draft.inputs and PREDICTIONS not in draft.inputs:
            raise HarnessError(f"{draft.where} asks for no rows and for no answers to them")
        rows = draft.inputs.get(DATA)
        counts = {} if rows is None else self.sources.counts(rows)
        return Score(**draft.fields).stage(
            draft.inputs,
            label=_label(scorer, path, entry, asks, other),
            resources=self.suite.resources,
            known=Known(self.sources.rates, rows=counts),
        )

    def lacking(self, where: str) -> str:
        """What variants lack that the scorer at this place asks for, as far as it was noted."""
        return "; ".join(reason for place, reason in self._lacking if place == where)

    def notes(self) -> Iterator[str]:
        """The variants that a scorer leaves out, each time with the reason."""
        for (where, reason), groups in self._lacking.items():
            yield f"{where} does not score {', '.join(groups)}: {reason}"

    def _entries(self, scorer: Scorer, where: str, path: VariantPath) -> tuple[str, ...]:
        """The data entries whose test rows are scored."""
        named = scorer.data
        if named is None:
            return path.variant.evaluations
        place = f"{where}.{scorer.name}.data"
        if named not in self.suite.data or self.suite.data[named].test is None:
            known = ", ".join(n for n, d in self.suite.data.items() if d.test is not None)
            raise SuiteError(
                f"data entry '{named}' has no test rows", where=place, fix=f"known: {known}"
            )
        if _answers(scorer.asks(Subject())) and named not in path.variant.evaluations:
            message = unknown("evaluation", named, path.variant.evaluations)
            raise SuiteError(message, where=place, fix=f"add '{named}' to `evaluate:`")
        return (named,)

    def _add(self, draft: Draft, name: str, asked: Asked, asks: Asks) -> None:
        """Adds one thing that the scorer asks for to its stage."""
        role, entry, split = role_of(name, asked), draft.entry, draft.split
        match asked:
            case AnswersOf(whose):
                policy = self.models.policy(draft, whose)
                if split == "test" and entry not in policy.variant.evaluations:
                    lack = f"{policy.variant.group} does not answer the rows of {entry}"
                    raise NotAsked(lack, noted=True)
                draft.inputs[role] = self.generate(policy.variant, entry, policy.train, split)
            case ModelOf():
                self.models.add_model(draft, role, asked, asks)
            case ScoredRows():
                draft.inputs[role] = self.sources.rows(entry, split)
                # Beside answers the rows are those that were answered.
                if not _answers(asks) and (left_out := self.left_out(entry, split)):
                    draft.fields["left_out"] = left_out
            case NamedRule() | NamedFunction() | NamedFolder() | NamedFile():
                located, content = find_outside(asked, name, self.sources, draft.where)
                draft.add("rules", name, located)
                draft.add("scorer", name, content)
            case Prepared(reads):
                draft.inputs[role] = self.preparing.stage(
                    draft.scorer, reads, draft.path.variant, entry, draft.where
                )
            case RewardModel():
                self.models.add_reward(draft, role)
            case NamedLabeller():
                self.models.add_labeller(draft, name, asked)
            case NamedPrompt(named, needed, known, option):
                place = SuitePlaces(self.sources.file, self.sources.store.file_digest, draft.where)
                text = place.prompt(named, option or name, needed, known)
                draft.add("prompts", name, text)
                draft.add("scorer", name, {"sha256": hashlib.sha256(text.encode()).hexdigest()})
            case PairsOf(by):
                self._pairs(draft, role, by)
            case RankingOf():
                draft.inputs[role] = self._ranking(draft, asked, asks)
            case _:
                assert_never(asked)

    def _everyone(self, draft: Draft) -> tuple[Rival, list[Rival]]:
        """The variant, and the others that answer the rows.

        Raises:
            NotAsked: there is no other, or trials are scored, of which there is one at a time.
        """
        entry, split = draft.entry, draft.split
        if split != "test":
            raise NotAsked("it compares variants, and there is one trial at a time")
        rivals = [p for p in self.rivals(draft.path) if entry in p.variant.evaluations]
        return everyone(
            draft.path, rivals, lambda path: self.generate(path.variant, entry, path.train, split)
        )

    def _pairs(self, draft: Draft, role: str, by: Scorer) -> None:
        """The stages that compare the variant with each other one: a pair is one stage, whichever
        of the two asks for it."""
        where = draft.where.rpartition(".")[0]
        mine, others = self._everyone(draft)
        for number, rival in enumerate(others):
            one, other = (at.path for at in seated(mine, rival, self.baseline))
            stage = self.stage(by, where, one, draft.entry, draft.split, other)
            draft.inputs[f"{role}.{number:03}"] = stage
            draft.add("scorer", LABELLER, stage.config["scorer"][LABELLER])

    def _ranking(self, draft: Draft, asked: RankingOf, asks: Asks) -> Stage:
        """The stage that ranks the answers of all variants, whichever of them asks for it."""
        mine, others = self._everyone(draft)
        if len(others) >= len(LETTERS):
            raise SuiteError(
                f"{len(others) + 1} variants are too many to rank at once; {len(LETTERS)} can be",
                where=draft.where, fix="use `pairwise: {against: variants}`",
            )  # fmt: skip
        shared = replace(draft, inputs={}, fields=dict(draft.fields))
        self._add(shared, LABELLER, asked.labeller, asks)
        self._add(shared, "prompt", asked.prompt, asks)
        draft.fields["scorer"] = shared.fields["scorer"]
        shared.inputs[DATA] = rows = self.sources.rows(draft.entry, draft.split)
        stages = {each.answers.key: each.answers for each in (mine, *others)}
        for number, key in enumerate(sorted(stages)):
            shared.inputs[f"{ANSWERS}.{number:03}"] = stages[key]
        return Ranking(**shared.fields).stage(
            shared.inputs, label=f"{draft.scorer.label or draft.scorer.name} on {draft.entry}",
            resources=self.suite.resources,
            known=Known(self.sources.rates, rows=self.sources.counts(rows)),
        )  # fmt: skip


def _answers(asks: Asks) -> bool:
    """Whether answers are among what is asked for, whosever they are."""
    return any(isinstance(asked, AnswersOf) for asked in asks.values())


def _label(
    scorer: Scorer, path: VariantPath, entry: str, asks: Asks, other: VariantPath | None
) -> str:
    """What people call the stage; after its model where no variant was trained and none answers."""
    variant, named = path.variant, scorer.label or scorer.name
    whole = rf"(?<![\w-]){re.escape(entry)}(?![\w-])"  # `letters` is not named by `newsletters`
    about = named if re.search(whole, named) else f"{named} on {entry}"
    if other is not None:
        return f"{variant.id} against {other.variant.id} {about}"
    name = variant.id if path.train is not None or _answers(asks) else variant.model
    return f"{name} {about}"


_ROLES = frozenset([CHECKPOINT, DATA, PREDICTIONS, REWARD])
"""Roles that a score stage has of its own."""


def _refuse_names(asks: Asks, where: str) -> None:
    for name, asked in asks.items():
        if not name.isidentifier() or (name in _ROLES and not role_of("", asked)):
            raise HarnessError(f"{where} cannot call what it asks for '{name}'", fix="rename it")
