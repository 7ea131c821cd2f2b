"""Which tokenizer and chat template a variant reads with, apart from its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.models.files import ModelPlace
from harness.models.folder import tokenizer_identity
from harness.planning.checkpoints import Checkpoints
from harness.planning.sources import Sources
from harness.variants.variant import Variant

NOT_OF_TOKENIZERS = frozenset(["dtype", "attn_implementation", "master_weights"])
"""Parts of a model's identity that its tokenizer does not depend on."""


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer with its chat template, as a stage names them.

    Attributes:
        model: identity of the model's tokenizer, and of the suite's own template for it.
        checkpoint: identity of the tokenizer that the variant's checkpoint came with, if it is
            another one.
        place: where both lie.
    """

    model: Mapping[str, Any]
    checkpoint: Mapping[str, Any] | None
    place: ModelPlace


def tokenizer_of(variant: Variant, sources: Sources, checkpoints: Checkpoints) -> Tokenizer:
    """A variant's tokenizer. Those of one family of models, and of checkpoints that were saved with
    their base's, are one; and so is that which stands for the unknown ones of served models."""
    config, place = sources.model_config(variant.model), sources.place(variant.model)
    if place.endpoint is not None:
        return Tokenizer({"served": True}, None, place)
    model = {name: value for name, value in config.items() if name not in NOT_OF_TOKENIZERS}
    digest = sources.store.file_digest
    # Code that came with a model can read all of its files.
    if "content" in model and not place.trust_remote_code:
        del model["content"]
        model |= tokenizer_identity(Path(place.source), digest)
    elsewhere = variant.elsewhere
    if elsewhere is None or not checkpoints.own_tokenizer(elsewhere):
        return Tokenizer(model, None, place)
    place = checkpoints.place(elsewhere)
    own = tokenizer_identity(Path(str(place.checkpoint)), digest)
    same = own.items() <= model.items()
    return (
        Tokenizer(model, None, sources.place(variant.model))
        if same
        else Tokenizer(model, own, place)
    )
