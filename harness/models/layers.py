"""Lists the layers of a model that an adapter can adapt, by its tensors' names, without torch."""

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
HEADS = ("lm_head", "embed_out", "output_projection", "score")
"""Names of output projections, which no method quantises and `all-linear` leaves out."""
_RENAMED = {"embed_out": "lm_head"}
"""Name of the head in GPT-NeoX's files -> its name in transformers 5."""
_TRANSPOSED = ("gpt2", "openai-gpt")
"""Model types whose layers (Conv1D) store a weight as (inputs, outputs)."""
_TOWERS = ("vision_config", "audio_config")
_SENSES = ("vision", "visual", "audio", "image", "multi_modal", "multimodal")
"""Parts of the names of modules that read images or sound, or connect them to the language
model."""
_BUFFERS = (
    "masked_bias", "inv_freq", "e_score_correction_bias", "act_fn.beta", "act_fn.eps",
)  # fmt: skip


class Layer(NamedTuple):
    """A layer that an adapter can adapt.

    Attributes:
        d_in: the number of its inputs.
        d_out: the number of its outputs.
        kind: `head` is the output projection, which `all-linear` leaves out; `experts` is one
            tensor in which many layers are stacked.
        copies: the number of low-rank updates that PEFT puts on it.
    """

    d_in: int
    d_out: int
    kind: Literal["linear", "head", "embedding", "experts"] = "linear"
    copies: int = 1


def layers_of(config: Mapping[str, Any], shapes: Shapes) -> dict[str, Layer]:
    """Module name -> layer, from the names and shapes of a model's tensors.

    Experts and the routers that choose among them are left out: transformers stacks experts in one
    tensor, and neither is a linear layer. Of a multimodal model, only the part that reads text is
    listed.
    """
    vocabulary = text_config(config).get("vocab_size")
    text_shapes = {name: shape for name, shape in shapes.items() if is_text(name, config)}
    mixture = any(".experts." in name for name in text_shapes)
    layers: dict[str, Layer] = {}
    for tensor, shape in text_shapes.items():
        name = tensor.removesuffix(".weight")
        if len(shape) != 2 or name == tensor or _EXPERT.search(tensor):
            continue
        if mixture and name.endswith(_ROUTERS):
            continue
        # Outside the blocks, as many rows as there are tokens: CTRL's `w`, RWKV's `head`.
        of_tokens = shape[0] == vocabulary and not any(map(str.isdigit, name.split(".")))
        head = any(part in HEADS for part in name.split(".")) or (
            of_tokens and name.endswith("head")
        )
        embeds = any(mark in name for mark in _EMBEDDINGS) or (of_tokens and not head)
        embeds = embeds and name not in _RENAMED
        turned = embeds or text_config(config).get("model_type") in _TRANSPOSED
        d_out, d_in = reversed(shape) if turned and not head else shape
        kind: Any = "embedding" if embeds else "head" if head else "linear"
        layers[_RENAMED.get(name, name)] = Layer(d_in, d_out, kind)
    return layers | _tied_head(config, layers)


def _tied_head(config: Mapping[str, Any], layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """The head that shares its tensor with the input embedding, and so is in no file; empty if the
    model has another head."""
    if any(layer.kind == "head" for layer in layers.values()):
        return {}
    vocabulary = text_config(config).get("vocab_size")
    for layer in layers.values():
        if layer.kind == "embedding" and layer.d_in == vocabulary:
            return {"lm_head": Layer(layer.d_out, layer.d_in, "head")}
    return {}


def attention_heads(config: Mapping[str, Any]) -> int | None:
    """The number of attention heads; None for a model without attention, such as a recurrent
    one."""
    fields = text_config(config)
    names = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")
    return next((int(fields[name]) for name in names if fields.get(name) is not None), None)


def is_multimodal(config: Mapping[str, Any]) -> bool:
    """True if a part of the model reads images or sound."""
    return any(config.get(name) for name in _TOWERS)


def is_text(tensor: str, config: Mapping[str, Any]) -> bool:
    """True if a tensor belongs to the part of a model that reads text."""
    if not is_multimodal(config):
        return True
    return not any(mark in part for mark in _SENSES for part in tensor.split("."))


def parameters_of(config: Mapping[str, Any], shapes: Shapes) -> dict[str, int]:
    """Name of a parameter -> the number of its values. Buffers (such as the causal mask in older
    files) and tied heads are left out."""
    sizes = {
        name: math.prod(shape)
        for name, shape in shapes.items()
        if not name.endswith(_BUFFERS) and not (len(shape) == 4 and name.endswith("attn.bias"))
    }
    embedded = [n for n in sizes if n.endswith(("embed_tokens.weight", "wte.weight"))]
    if text_config(config).get("tie_word_embeddings") is True and embedded:
        sizes.pop("lm_head.weight", None)
    return sizes


def readable(targets: Any) -> Any:
    """The targets, unchanged.

    Raises:
        ValueError: they are one string that is not a regular expression.
    """
    if isinstance(targets, str):
        try:
            re.compile(targets)
        except re.error as error:
            raise ValueError(f"'{targets}' is no regular expression: {error}") from None
    return targets


def targeted(layer: str, targets: Targets, exclude: Targets | None = None) -> bool:
    """True if PEFT would adapt a layer: if its name ends with a target, or the whole name matches
    the regular expression."""
    return not (exclude and _matches(layer, exclude)) and _matches(layer, targets)


def _matches(layer: str, targets: Targets) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(targets, layer) is not None
    return any(layer == target or layer.endswith(f".{target}") for target in targets)


def names_of(layers: Iterable[str]) -> str:
    """The last parts of the layers' names as a text, sorted and without repetition."""
    return ", ".join(sorted({name.rsplit(".", 1)[-1] for name in layers})) or "none"


def vocabulary_rows(files: Shapes, layers: Mapping[str, Layer], vocabulary: int) -> int | None:
    """The number of rows of the embedding or head in a checkpoint's files; None if it has neither.

    Args:
        files: tensor name -> shape, with the names of PEFT or transformers.
        layers: the layers of the model that it is put on.
        vocabulary: the number of rows of that model's embedding.
    """
    sides = {"embedding": 0, "head": 1}
    for tensor, shape in files.items():
        name = tensor.removeprefix("base_model.model.").removesuffix(".weight")
        layer = layers.get(name.removesuffix(".base_layer"))
        if layer is not None and layer.kind in sides and layer[sides[layer.kind]] == vocabulary:
            return shape[0]
    return None
