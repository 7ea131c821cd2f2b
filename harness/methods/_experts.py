"""LoRA on a mixture of experts: which tensors PEFT adapts there, and their parameter counts.

transformers 5 stacks the experts of a block in two tensors, gate_up_proj and down_proj. For the
model types in `ADAPTED`, PEFT adapts these tensors and the router, as it adapted the linear layers
of older files; in other mixtures `all-linear` leaves experts and routers alone. An update of rank r
on n stacked experts has r n (d_in + d_out) parameters. gate_up_proj gets rank 2 r, since it holds
two layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from harness.models.files import ModelInfo
from harness.models.layers import Layer, targeted

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

ADAPTED = frozenset(
    {"mixtral", "minimax", "deepseek_v2", "deepseek_v3", "qwen3_moe", "qwen3_next", "olmoe",
     "flex_olmo", "glm4_moe", "dots1", "ernie4_5_moe", "hunyuan_v1_moe"}
)  # fmt: skip
"""Model types whose experts PEFT adapts. A test compares them with PEFT's list, whose import needs
torch."""
_UP, _DOWN = ("gate_proj", "up_proj", "w1", "w3"), ("down_proj", "w2")
_REPLACED = {*_UP, *_DOWN, "gate"}
"""Layer names that PEFT maps to the stacked experts and the router."""


class LowRank(Protocol):
    """The parts of a LoRA method that are used here."""

    @property
    def r(self) -> int: ...

    @property
    def lora_dropout(self) -> float: ...

    @property
    def use_dora(self) -> bool: ...

    @property
    def target_modules(self) -> str | list[str]: ...

    def config(self, base: PreTrainedModel, also_train: tuple[str, ...]) -> PeftConfig: ...

    def chosen(self, layers: Mapping[str, Layer]) -> dict[str, Layer]: ...


def has_experts(info: ModelInfo) -> bool:
    """Whether the model is a mixture of experts, judged by the names of its tensors."""
    return any(mark in name for name in info.shapes for mark in (".experts.", "_moe."))


def adapted_layers(method: LowRank, base: PreTrainedModel, info: ModelInfo) -> dict[str, Layer]:
    """The layers and the tensors of stacked experts that PEFT adapts in a loaded model."""
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    config: Any = method.config(base, ())
    convert_peft_config_for_transformers(config, base, None)
    tensors = getattr(config, "target_parameters", None)
    if not tensors:
        return method.chosen(info.layers())
    adapted = {
        name: layer
        for name, layer in info.layers().items()
        if targeted(name, sorted(config.target_modules), config.exclude_modules)
    }
    for name, parameter in base.named_parameters():
        if targeted(name, sorted(tensors)):
            rank = next((r for p, r in config.rank_pattern.items() if re.match(p, name)), method.r)
            *stacked, d_out, d_in = parameter.shape
            copies = (stacked[0] if stacked else 1) * rank // method.r
            adapted[name] = Layer(d_in, d_out, "experts", copies)
    return adapted


def expected_layers(method: LowRank, info: ModelInfo) -> dict[str, Layer] | None:
    """As `adapted_layers`, but by the tensor names in a model's files; None where these are not
    enough to tell."""
    layers = info.layers()
    every = method.target_modules == "all-linear"
    if not has_experts(info):
        return method.chosen(layers)
    if info.config.get("model_type") not in ADAPTED:
        return None  # the files do not show whether the routers are linear layers
    names = set() if every or isinstance(method.target_modules, str) else method.target_modules
    if not every and (not names or any(name.rsplit(".", 1)[-1] in _REPLACED for name in names)):
        return None
    chosen = method.chosen(layers)
    if not every:
        return chosen
    kept = {n: layer for n, layer in chosen.items() if n.rsplit(".", 1)[-1] not in _REPLACED}
    return kept | _stacked(info)


def _stacked(info: ModelInfo) -> dict[str, Layer]:
    """The tensors that transformers builds from the experts and routers in a model's files."""
    tensors: dict[str, Layer] = {}
    for tensor, shape in info.shapes.items():
        block, inside, rest = tensor.removesuffix(".weight").partition(".experts.")
        leaf = rest.rsplit(".", 1)[-1]
        if not inside:
            continue
        router = info.shapes.get(f"{block}.gate.weight")
        if router is not None:
            tensors[f"{block}.gate.weight"] = Layer(router[1], router[0], "experts")
        wide = leaf in _UP
        if len(shape) != 2 or not (wide or leaf in _DOWN):
            continue
        name = f"{block}.experts.{'gate_up_proj' if wide else 'down_proj'}"
        d_out, d_in = shape
        layer = tensors.get(name, Layer(d_in, 2 * d_out if wide else d_out, "experts", 0))
        # gate_up_proj has rank 2 r: its gate and its up projection count as one copy each.
        tensors[name] = layer._replace(copies=layer.copies + 1)
    return tensors


def experts_refusal(method: LowRank, info: ModelInfo) -> str | None:
    """The reason why PEFT refuses these options on stacked experts; None if it does not."""
    names = method.target_modules if isinstance(method.target_modules, list) else []
    leaves = {name.rsplit(".", 1)[-1] for name in names}
    if has_experts(info) and info.config.get("model_type") in ADAPTED:
        for both in ({"gate_proj", "up_proj"}, {"w1", "w3"}):
            if len(both & leaves) == 1:
                pair = " and ".join(sorted(both))
                return f"{pair} of the experts are one tensor, and PEFT adapts both or neither"
    layers = expected_layers(method, info)
    stacked = layers is not None and any(layer.kind == "experts" for layer in layers.values())
    option = "use_dora" if method.use_dora else "lora_dropout" if method.lora_dropout else None
    if not stacked or option is None:
        return None
    return (
        f"PEFT has no {option} on the experts of a mixture, which all-linear means here; set"
        f" target_modules to the attention's layers, as [q_proj, k_proj, v_proj, o_proj]"
    )


def experts_remarks(method: LowRank, info: ModelInfo) -> tuple[str, ...]:
    """A note where `all-linear` leaves the experts of this model alone."""
    mixed = has_experts(info) and method.target_modules == "all-linear"
    if not mixed or info.config.get("model_type") in ADAPTED:
        return ()
    return (
        "all-linear reaches neither the experts nor the router of this mixture: both are frozen",
    )
