"""The longest rows of a training: the objective's limit, or the model's context if shorter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.methods.base import Method
from harness.objectives.base import Objective

_LENGTHS = ("max_length", "ptx_max_length")


@dataclass(frozen=True)
class Room:
    """Tokens that a row may have.

    Attributes:
        tokens: None where nothing limits them.
        told: the limit for people: `max_length 64`, or the context that is shorter.
        fix: what raises it.
        asked: the objective's max_length, where the context is shorter; else None.
    """

    tokens: int | None
    told: str
    fix: str
    asked: int | None = None


def within(objective: Objective, method: Method, config: Any) -> tuple[Objective, Room]:
    """The objective with its lengths capped at the room that the model's context leaves, and that
    room. No row over it may reach the model: a learned position would be missing, and a rotary one
    is one that the model was never trained on.

    Args:
        config: the model's, as transformers has it.
    """
    places = method.places()
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    asked = int(getattr(objective, "max_length", 0)) or None
    if context is None:
        return objective, Room(asked, f"max_length {asked}", "raise max_length")
    room = context - places
    over = {n: room for n in _LENGTHS if getattr(objective, n, 0) > room}
    capped = objective.model_copy(update=over) if over else objective
    if "max_length" not in over:
        return capped, Room(asked, f"max_length {asked}", "raise max_length")
    less = f", less {places} of a learned prompt" if places else ""
    told = f"the {room} tokens that the model has room for (its context of {context}{less})"
    fix = "filter the rows (`max_chars`), or take a model of a longer context"
    return capped, Room(room, told, fix, asked)
