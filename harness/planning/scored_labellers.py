"""The labellers of scorers: built from their YAML, each with the model that it judges by."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from harness.core import from_yaml
from harness.core.errors import SuiteError, unknown
from harness.labellers.base import Labeller
from harness.planning.places import SuitePlaces
from harness.planning.sources import Sources
from harness.scorers._asks import NamedLabeller


def built_labeller(asked: NamedLabeller, sources: Sources, where: str) -> Labeller:
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


def judging_model(labeller: Labeller, models: Collection[str], where: str) -> str:
    """The entry of `models:` that judges: one for all variants."""
    named = getattr(labeller, "model", None)
    if named is None and len(models) == 1:
        return next(iter(models))
    if named not in models:
        message = unknown("model", f"{named or ''}", models)
        raise SuiteError(message, where=where, fix="name the model that judges all variants")
    return str(named)
