"""LoRA on a mixture of experts: what PEFT adapts there, and how it counts.

transformers 5 stacks the experts of a block in two tensors, gate_up_proj and down_proj. PEFT goes
on them, and on the router, where older files had linear layers; other mixtures keep their experts
and routers as they are under `all-linear`. On n stacked experts an update of rank r has r n (d_in +
d_out) parameters, and gate_up_proj, being two layers in one, gets rank 2 r.
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
"""Model types whose experts PEFT adapts; a test holds them to its own list, which imports torch."""
_UP, _DOWN = ("gate_proj", "up_proj", "w1", "w3"), ("down_proj", "w2")
_REPLACED = {*_UP, *_DOWN, "gate"}
"""Layers by whose names PEFT means the experts and the router, and nothing else."""


class LowRank(Protocol):
    """What is asked of a LoRA here."""

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
    """Whether the model is a mixture of experts, by the names of its tensors."""
    return any(mark in name for name in info.shapes for mark in (".experts.", "_moe."))


def adapted_layers(method: LowRank, base: PreTrainedModel, info: ModelInfo) -> dict[str, Layer]:
    """Where PEFT puts a LoRA on a loaded model: layers, and tensors of stacked experts."""
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    config: Any = method.config(base, ())
    convert_peft_config_for_transformers(config, base, None)
    tensors = getattr(config, "target_parameters", None)
    if not tensors:
        return method.chosen(info.layers())
    found = {
        name: layer
        for name, layer in info.layers().items()
        if targeted(name, sorted(config.target_modules), config.exclude_modules)
    }
    for name, parameter in base.named_parameters():
        if targeted(name, sorted(tensors)):
            rank = next((r for p, r in config.rank_pattern.items() if re.match(p, name)), method.r)
            *stacked, d_out, d_in = parameter.shape
            copies = (stacked[0] if stacked else 1) * rank // method.r
            found[name] = Layer(d_in, d_out, "experts", copies)
    return found


def expected_layers(method: LowRank, info: ModelInfo) -> dict[str, Layer] | None:
    """The same by the names in a model's files; None where these do not tell."""
    layers = info.layers()
    every = method.target_modules == "all-linear"
    if not has_experts(info):
        return method.chosen(layers)
    if info.config.get("model_type") not in ADAPTED:
        return None  # their routers are linear layers, or are not
    names = set() if every or isinstance(method.target_modules, str) else method.target_modules
    if not every and (not names or any(name.rsplit(".", 1)[-1] in _REPLACED for name in names)):
        return None
    found = method.chosen(layers)
    if not every:
        return found
    kept = {n: layer for n, layer in found.items() if n.rsplit(".", 1)[-1] not in _REPLACED}
    return kept | _stacked(info)


def _stacked(info: ModelInfo) -> dict[str, Layer]:
    """The tensors that transformers makes of the experts and routers in a model's files."""
    found: dict[str, Layer] = {}
    for tensor, shape in info.shapes.items():
        block, inside, rest = tensor.removesuffix(".weight").partition(".experts.")
        leaf = rest.rsplit(".", 1)[-1]
        if not inside:
            continue
        router = info.shapes.get(f"{block}.gate.weight")
        if router is not None:
            found[f"{block}.gate.weight"] = Layer(router[1], router[0], "experts")
        wide = leaf in _UP
        if len(shape) != 2 or not (wide or leaf in _DOWN):
            continue
        name = f"{block}.experts.{'gate_up_proj' if wide else 'down_proj'}"
        d_out, d_in = shape
        made = found.get(name, Layer(d_in, 2 * d_out if wide else d_out, "experts", 0))
        # Of an up projection and its gate each stands for one of the two halves of rank 2 r.
        found[name] = made._replace(copies=made.copies + 1)
    return found


def experts_refusal(method: LowRank, info: ModelInfo) -> str | None:
    """Options that PEFT refuses on stacked experts."""
    names = method.target_modules if isinstance(method.target_modules, list) else []
    leaves = {name.rsplit(".", 1)[-1] for name in names}
    if has_experts(info) and info.config.get("model_type") in ADAPTED:
        for both in ({"gate_proj", "up_proj"}, {"w1", "w3"}):
            if len(both & leaves) == 1:
                told = " and ".join(sorted(both))
                return f"{told} of the experts are one tensor, and PEFT adapts both or neither"
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
    """That `all-linear` leaves the experts of this model alone."""
    mixed = has_experts(info) and method.target_modules == "all-linear"
    if not mixed or info.config.get("model_type") in ADAPTED:
        return ()
    return (
        "all-linear reaches neither the experts nor the router of this mixture: both are frozen",
    )
