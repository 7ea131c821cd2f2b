"""The models that a scorer reads, and its labellers with the models that these read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never, cast

from harness.core import from_yaml
from harness.core.errors import SuiteError, unknown
from harness.executors.base import Executor
from harness.labellers.base import Labeller
from harness.models.files import ModelPlace
from harness.planning.between import Baseline
from harness.planning.checkpoints import Checkpoints
from harness.planning.draft import Draft, NotAsked
from harness.planning.graph import VariantPath
from harness.planning.places import SuitePlaces
from harness.planning.policies import base_of
from harness.planning.recipe import Recipes, refuse_pairs
from harness.planning.sources import Sources
from harness.scorers._asks import Asked, ModelOf, NamedLabeller, Subject, Whose
from harness.stages._judging import roles_of
from harness.stages._models import REWARD
from harness.suite.suite import Suite
from harness.variants.reward import scoring_reward
from harness.variants.variant import Cell, Merged


@dataclass
class ScoredModels:
    """Adds models and labellers to the score stages of variants.

    Attributes:
        judges: reward models that score answers, by their training stage.
    """

    suite: Suite
    sources: Sources
    checkpoints: Checkpoints
    recipes: Recipes
    executor: Executor
    baseline: Baseline
    judges: dict[str, Cell] = field(default_factory=dict)

    def policy(self, draft: Draft, whose: Whose) -> VariantPath:
        """The path whose answers or model are asked for.

        Raises:
            NotAsked: the variant has no such thing.
        """
        path = draft.path
        match whose:
            case "variant":
                return path
            case "start":
                if path.start is None:
                    raise NotAsked("it starts from the base, or was trained elsewhere")
                return path.start
            case "base":
                return path if path.train is None else base_of(path)
            case "baseline":
                return draft.other or self.baseline(path)
            case _:
                assert_never(whose)

    def add_model(self, draft: Draft, role: str, asked: ModelOf, asks: Mapping[str, Asked]) -> None:
        """A model of the variant, its start, its base or its baseline as an input.

        Raises:
            NotAsked: the variant has no such model, or a service answers for it.
        """
        whose = asked.whose
        policy = self.policy(draft, whose)
        if whose == "base" and Subject().model() in asks.values():
            return  # the worker knows it by the variant's checkpoint
        which: dict[str, Any] = {"merged": True} if isinstance(policy.variant, Merged) else {}
        if policy.train is not None:
            draft.inputs[role] = policy.train
        else:
            served = self.sources.model(policy.variant.model).endpoint
            if served is not None and not asked.or_service:
                raise NotAsked(f"it reads the model itself, and {served.unreadable}", noted=True)
            which["model"] = self.sources.model_config(policy.variant.model)
        if whose == "variant":
            draft.fields |= which
        elif which:
            draft.add("others", role, which)
        self._place(draft, role, self.checkpoints.place(policy.variant))

    def _place(self, draft: Draft, role: str, place: ModelPlace) -> None:
        """Where a model lies, which the stage loads under a role."""
        draft.add("places", role, place)
        draft.fields["device"] = self.executor.device()

    def add_reward(self, draft: Draft, role: str) -> None:
        """The reward model as an input.

        Raises:
            NotAsked: the suite has several, and the variant was trained on no data entry.
        """
        judge = scoring_reward(self.suite, draft.path.variant, draft.where)
        if judge is None:
            raise NotAsked("it was trained on no data entry, and each has its own reward model")
        refuse_pairs(judge)
        self.sources.model(judge.model)
        stage = self.recipes.train(judge)
        self.judges.setdefault(stage.key, judge)
        draft.inputs[role] = stage
        self._place(draft, role, self.sources.place(judge.model))

    def add_labeller(self, draft: Draft, name: str, asked: NamedLabeller) -> None:
        """A labeller with the models that it reads: the suite's reward model, or an untrained one.

        Raises:
            SuiteError: no such labeller, or a model that a scorer cannot give it.
        """
        where = f"{draft.where}.{name}"
        labeller = _built_labeller(asked, self.sources, where)
        draft.add("scorer", name, labeller.identity())
        fields = labeller.model_dump(mode="json")
        draft.add("labellers", name, {"name": labeller.name, **fields})
        for role, member in roles_of(labeller, name):
            for model in member.beside:
                if model != REWARD:
                    raise SuiteError(
                        f"a scorer has no {model} model for {member.name}", where=where
                    )
                self.add_reward(draft, f"{role}.{REWARD}")
            if member.reads_model:
                entry = _judging_model(member, self.suite.models, f"{where}.{member.name}.model")
                self.sources.weights(entry, f"as the labeller {member.name}")
                draft.add("others", role, {"model": self.sources.model_config(entry)})
                self._place(draft, role, self.sources.place(entry))


def _built_labeller(asked: NamedLabeller, sources: Sources, where: str) -> Labeller:
    """The labeller that a scorer names, with the files that it reads.

    Raises:
        SuiteError: there is none, or it cannot answer the scorer's questions.
    """
    labeller = cast(Labeller, from_yaml.build("labeller", asked.spec, where))
    mute = [judge.name for judge in labeller.judges() if not judge.answers_questions]
    if asked.questions and mute:
        raise SuiteError(
            f"'{mute[0]}' compares two answers, and rates none by a rubric",
            where=where,
            fix="name a judge that reads text, such as `judge` or `endpoint`",
        )
    digest = sources.store.file_digest
    return labeller.placed(SuitePlaces(sources.file, digest, f"{where}.{labeller.name}"))


def _judging_model(labeller: Labeller, models: Collection[str], where: str) -> str:
    """The entry of `models:` that judges: one for all variants."""
    named = getattr(labeller, "model", None)
    if named is None and len(models) == 1:
        return next(iter(models))
    if named not in models:
        message = unknown("model", f"{named or ''}", models)
        raise SuiteError(message, where=where, fix="name the model that judges all variants")
    return str(named)
