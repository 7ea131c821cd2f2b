"""The tokenizer of a model or of a checkpoint, loaded without any weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import ModelError, StageFailed
from harness.inference.service_text import ServiceText
from harness.models.files import ModelPlace
from harness.models.folder import held
from harness.stages._models import model_ref, own_tokenizer


def load_tokenizer(
    model: Mapping[str, Any],
    checkpoint: Mapping[str, Any] | None,
    place: ModelPlace,
    where: str,
) -> Any:
    """A model's tokenizer, or the one that a checkpoint of it came with; for a served model, what
    stands for it.

    Args:
        model: identity of the model, as far as its tokenizer depends on it.
        checkpoint: identity of the checkpoint; None: the model's tokenizer is used.
        place: where both lie.
        where: the model's place in the suite, for messages.

    Raises:
        ModelError: it cannot be loaded.
        StageFailed: it is not what was planned.
    """
    if place.endpoint is not None:
        return ServiceText()
    ref = model_ref({"dtype": "float32", "attn_implementation": "eager", **model}, "cpu", place)
    try:
        if checkpoint is not None and place.checkpoint is not None:
            with held(place.checkpoint, checkpoint):
                return own_tokenizer(ref, Path(place.checkpoint))
        return ref.tokenizer()
    except StageFailed:
        raise
    except Exception as error:
        raise ModelError(
            f"its tokenizer cannot be loaded: {type(error).__name__}: {error}",
            where=where,
            fix="save it again: AutoTokenizer.from_pretrained(X).save_pretrained(Y)",
        ) from error
