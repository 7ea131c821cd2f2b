"""The layers of a model that an adapter can go on, told by its tensors' names (no torch)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from harness.models.checks import Shapes, text_config

Targets = str | list[str]
"""Names of layers, or one regular expression over whole names, as in PEFT."""
_EXPERT = re.compile(r"\.experts\.\d+\.")
_ROUTERS = (".gate", ".router")
_EMBEDDINGS = ("embed", "wte", "wpe")
HEADS = ("lm_head", "embed_out", "score")
"""Names of output projections, which no method quantises and `all-linear` leaves out."""
_RENAMED = {"embed_out": "lm_head"}
"""transformers 5 calls the head of GPT-NeoX otherwise than its files do."""
_TRANSPOSED = ("gpt2", "openai-gpt")
"""Model types whose layers (Conv1D) store a weight as (inputs, outputs)."""
_TOWERS = ("vision_config", "audio_config")
_SENSES = ("vision", "visual", "audio", "image", "multi_modal", "multimodal")
"""In the names of what sees or hears, and of what brings that to the language model."""
_BUFFERS = ("masked_bias", "inv_freq", "e_score_correction_bias")


class Layer(NamedTuple):
    """What a layer takes and gives.

    Attributes:
        kind: `head` is the output projection, which `all-linear` leaves out; `experts` is one
            tensor in which many layers are stacked.
        copies: how many low-rank updates PEFT puts on it.
    """

    d_in: int
    d_out: int
    kind: Literal["linear", "head", "embedding", "experts"] = "linear"
    copies: int = 1


def layers_of(config: Mapping[str, Any], shapes: Shapes) -> dict[str, Layer]:
    """Every layer of a model, by the names and shapes of its tensors.

    Experts are left out, and so are the routers that choose among them: transformers stacks the
    former in one tensor, and neither is a linear layer. Of a model that sees or hears, only the
    part that reads text counts.
    """
    own = {name: shape for name, shape in shapes.items() if is_text(name, config)}
    mixture = any(".experts." in name for name in own)
    found: dict[str, Layer] = {}
    for tensor, shape in own.items():
        name = tensor.removesuffix(".weight")
        if len(shape) != 2 or name == tensor or _EXPERT.search(tensor):
            continue
        if mixture and name.endswith(_ROUTERS):
            continue
        embeds = any(mark in name for mark in _EMBEDDINGS) and name not in _RENAMED
        head = any(part in HEADS for part in name.split("."))
        turned = embeds or text_config(config).get("model_type") in _TRANSPOSED
        d_out, d_in = reversed(shape) if turned and not head else shape
        kind: Any = "embedding" if embeds else "head" if head else "linear"
        found[_RENAMED.get(name, name)] = Layer(d_in, d_out, kind)
    return found | _tied_head(config, found)


def _tied_head(config: Mapping[str, Any], found: Mapping[str, Layer]) -> dict[str, Layer]:
    """The head that shares the input embedding's tensor, and so stands in no file."""
    if any(layer.kind == "head" for layer in found.values()):
        return {}
    vocabulary = text_config(config).get("vocab_size")
    for layer in found.values():
        if layer.kind == "embedding" and layer.d_in == vocabulary:
            return {"lm_head": Layer(layer.d_out, layer.d_in, "head")}
    return {}


def attention_heads(config: Mapping[str, Any]) -> int | None:
    """Number of attention heads; None of a model without attention, as a recurrent one."""
    own = text_config(config)
    names = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")
    return next((int(own[name]) for name in names if own.get(name) is not None), None)


def is_multimodal(config: Mapping[str, Any]) -> bool:
    """Whether the model has a part that sees or hears."""
    return any(config.get(name) for name in _TOWERS)


def is_text(tensor: str, config: Mapping[str, Any]) -> bool:
    """Whether a tensor belongs to the part of a model that reads text."""
    if not is_multimodal(config):
        return True
    return not any(mark in part for mark in _SENSES for part in tensor.split("."))


def parameters_of(config: Mapping[str, Any], shapes: Shapes) -> dict[str, int]:
    """Numbers in each tensor that is a parameter: no buffer (as a causal mask that older files
    keep), and a tied head no second time."""
    found = {
        name: math.prod(shape)
        for name, shape in shapes.items()
        if not name.endswith(_BUFFERS) and not (len(shape) == 4 and name.endswith("attn.bias"))
    }
    embedded = [n for n in found if n.endswith(("embed_tokens.weight", "wte.weight"))]
    if text_config(config).get("tie_word_embeddings") is True and embedded:
        found.pop("lm_head.weight", None)
    return found


def readable(targets: Any) -> Any:
    """Targets as they are given.

    Raises:
        ValueError: an expression that cannot be read.
    """
    if isinstance(targets, str):
        try:
            re.compile(targets)
        except re.error as error:
            raise ValueError(f"'{targets}' is no regular expression: {error}") from None
    return targets


def targeted(layer: str, targets: Targets, exclude: Targets | None = None) -> bool:
    """Whether PEFT would adapt a layer: by the end of its name, or by a match of the whole."""
    return not (exclude and _matches(layer, exclude)) and _matches(layer, targets)


def _matches(layer: str, targets: Targets) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(targets, layer) is not None
    return any(layer == target or layer.endswith(f".{target}") for target in targets)


def names_of(layers: Iterable[str]) -> str:
    """The last parts of layers' names, each once, as a person lists them."""
    return ", ".join(sorted({name.rsplit(".", 1)[-1] for name in layers})) or "none"


def vocabulary_rows(files: Shapes, layers: Mapping[str, Layer], vocabulary: int) -> int | None:
    """Of a checkpoint's tensors: the rows of the embedding or the head, where it brings one.

    Args:
        files: names and shapes in its files, as PEFT or transformers names them.
        layers: the model's that it is put on. vocabulary: rows of that model's embedding.
    """
    sides = {"embedding": 0, "head": 1}
    for tensor, shape in files.items():
        name = tensor.removeprefix("base_model.model.").removesuffix(".weight")
        layer = layers.get(name.removesuffix(".base_layer"))
        if layer is not None and layer.kind in sides and layer[sides[layer.kind]] == vocabulary:
            return shape[0]
    return None
