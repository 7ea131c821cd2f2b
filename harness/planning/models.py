"""Models that a plan's methods cannot train, or that nothing here can: refused before any cost."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.core.errors import ModelError
from harness.models.files import ModelInfo
from harness.models.kinds import refuse_kind
from harness.planning.recipe import trainings
from harness.planning.sources import Sources
from harness.variants.variant import Variant


def require_language_model(info: ModelInfo, name: str, file: Path) -> None:
    """Refuse encoders, and encoders with a decoder.

    Raises:
        ModelError: by its config.json the model is one.
    """
    refusal = refuse_kind(info.config)
    if refusal is not None:
        reason, fix = refusal
        raise ModelError(
            f"model '{name}' cannot be used: {reason}", where=f"{file}: models.{name}", fix=fix
        )


def require_trainable(variant: Variant, sources: Sources) -> None:
    """Refuse methods that cannot train the model they are to train, with the reason.

    Raises:
        ModelError: for the variant's own recipe, or for a model beside it; or a model that is
            served elsewhere.
    """
    for training in trainings(variant):
        name, method, objective = training.cell.model, training.method, training.objective
        use = f"by the method '{method.name}'"
        info = sources.model(name) if method.at_service else sources.weights(name, use)
        reason = method.refuse_model(info)
        if not objective.trains_adapted_head and method.adapts_head(sources.model(name)):
            reason = (
                f"TRL's trainer of {objective.name} reads the head's weight past an adapter on"
                " it; leave the head out of target_modules, or train it whole with modules_to_save"
            )
        if reason is not None:
            raise ModelError(
                f"method '{method.name}' cannot train model '{name}': {reason}",
                where=f"variant {training.cell.id}",
                fix="change the method's options, or leave the cell out with `exclude:`",
            )


def remarks(variants: Iterable[Variant], sources: Sources) -> tuple[str, ...]:
    """What a user should know of methods on models, each said once."""
    texts = (
        f"method '{training.method.name}' on model '{training.cell.model}': {remark}"
        for variant in variants
        for training in trainings(variant)
        for remark in training.method.remarks(sources.model(training.cell.model))
    )
    return tuple(dict.fromkeys(texts))
