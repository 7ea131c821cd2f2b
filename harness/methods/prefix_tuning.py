"""Prefix tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from harness.methods._peft.shared import task_of
from harness.methods._peft.soft_prompt import SoftPrompt, depth, key_width
from harness.models.checks import text_config
from harness.models.files import ModelInfo
from harness.models.layers import attention_heads

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


_WITHOUT_CACHE = ("openai-gpt",)
"""Model types that compute every token anew."""


class PrefixTuning(SoftPrompt):
    """Prefix tuning: n learned keys and values before every layer's own (Li and Liang, 2021).

    Trainable parameters, for L layers whose keys have size k (key-value heads times their size):
    2 n L k; with a `projection` of hidden size h, n k + (k + 1) h + (h + 1) 2 L k, and the exported
    checkpoint holds the resulting 2 n L k numbers. A mixture of experts trains without its balance
    loss, since its router is frozen. State: the base's N parameters at s bytes each, and 16 bytes
    for each trainable one.
    """

    paper = "arXiv:2101.00190"
    traits = frozenset({"resume", "swap", "mixed_batch"})
    adds_tokens = False

    projection: bool = False
    """Compute the prefix by a two-layer MLP, as the paper does to make training stable."""
    encoder_hidden_size: int | None = Field(None, gt=0)
    """Size of that MLP; default: the size of a layer's keys."""
    init: Literal["random", "zero"] = "random"
    """`zero` starts with keys and values of zero, which still receive attention."""

    def lacks(self) -> dict[str, str]:
        reason = "PEFT passes the prefix as a cache, which gradient checkpointing discards"
        return {**super().lacks(), "gradient_checkpointing": reason}

    def refuse_model(self, info: ModelInfo) -> str | None:
        config = text_config(info.config)
        if config.get("kv_lora_rank"):
            return "its attention caches a latent vector in place of keys and values"
        if config.get("multi_query") and not config.get("new_decoder_architecture"):
            return "its heads share one key and value, and PEFT makes a prefix for each head"
        if config.get("model_type") in _WITHOUT_CACHE:
            return "its attention keeps no keys and values, which a prefix extends"
        if reason := super().refuse_model(info):
            return reason
        kinds = {*(config.get("layer_types") or ()), *(config.get("block_types") or ())}
        mixed = "state_size" in config or any(name.startswith("mamba_") for name in config)
        if mixed or {"linear_attention", "conv", "mamba", "recurrent"} & kinds:
            return "some of its layers have no attention, and so no keys and values to extend"
        return None

    def _repaired(self, model: Any) -> Any:
        # A mixture's balance loss cannot be computed, as the mask covers the prefix and the router
        # logits do not. Nothing is lost: the router is frozen.
        text = model.get_base_model().config.get_text_config()
        if hasattr(text, "router_aux_loss_coef"):
            text.router_aux_loss_coef = 0.0
        return super()._repaired(model)

    def has_encoder(self) -> bool:
        return self.projection

    def config(self, base: PreTrainedModel, also_train: tuple[str, ...]) -> PeftConfig:
        from peft import PrefixTuningConfig

        return PrefixTuningConfig(
            task_type=task_of(base),
            num_virtual_tokens=self.num_virtual_tokens,
            num_attention_heads=attention_heads(base.config.to_dict()),
            prefix_projection=self.projection,
            encoder_hidden_size=self.encoder_hidden_size,
            init_weights="zero" if self.init == "zero" else None,
            modules_to_save=list(also_train) or None,
        )

    def count_trainable(self, info: ModelInfo) -> int | None:
        layers, keys = depth(info), key_width(info)
        if layers is None or keys is None:
            return None
        if not self.projection:
            return 2 * self.num_virtual_tokens * layers * keys
        h = self.encoder_hidden_size or keys
        return self.num_virtual_tokens * keys + (keys + 1) * h + (h + 1) * 2 * layers * keys
