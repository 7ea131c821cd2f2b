"""Base class of prompt tuning, p-tuning and prefix tuning, which learn a prompt for a frozen base.

PEFT refuses to continue training from an exported soft prompt. Here a prompt without an encoder is
loaded into a trainable one; a checkpoint of a prompt with an encoder also holds the encoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from harness.core.errors import ModelError
from harness.methods._peft.shared import PeftMethod, require_bare
from harness.methods._peft.soft_prompt_model import STATE, KeepsEncoder, KeepsPositions, mix
from harness.models.checks import text_config
from harness.models.files import ModelInfo
from harness.models.layers import attention_heads

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class SoftPrompt(PeftMethod):
    """A learned prompt of vectors; the model itself does not change."""

    traits = frozenset({"gradient_checkpointing", "resume", "swap", "mixed_batch"})

    keeps_inputs = False
    adds_tokens: ClassVar[bool] = True
    """True if the prompt is put before a row's embeddings, so that it has positions and logits."""

    num_virtual_tokens: int = Field(20, gt=0)
    """Length of the learned prompt in tokens; each takes a position of the model's context."""

    def added_tokens(self) -> int:
        return self.num_virtual_tokens if self.adds_tokens else 0

    def lacks(self) -> dict[str, str]:
        return {
            "packing": "documents packed into one row would share one prompt and see each other",
            "merge": "a learned prompt is not a part of the weights",
            "new_head": "a learned prompt works only with the head it was trained with",
            "copy": "a second prompt in one model takes the first one's place",
        }

    def refuse_model(self, info: ModelInfo) -> str | None:
        if not info.config or attention_heads(info.config) is not None:
            return None
        return "a soft prompt is read by attention, and this model has none (it is recurrent)"

    def exceptions(self) -> dict[str, str]:
        return {"starts_at_base": "a fresh prompt changes the output before it is trained"}

    def has_encoder(self) -> bool:
        """Whether an encoder computes the prompt; PEFT's export leaves the encoder out."""
        return False

    def attach(self, base: PreTrainedModel, also_train: tuple[str, ...] = ()) -> Any:
        return self._repaired(super().attach(base, also_train))

    def put_on(self, model: Any, checkpoint: Path, name: str = "default") -> Any:
        return self._repaired(super().put_on(model, checkpoint, name))

    def resume(
        self, base: PreTrainedModel, checkpoint: Path, also_train: tuple[str, ...] = ()
    ) -> Any:
        from peft import PeftConfig, get_peft_model

        require_bare(base, self.name)
        if also_train:
            raise ModelError(f"{self.name} cannot resume: {self.lacks()['new_head']}")
        if self.has_encoder() and not (checkpoint / STATE).is_file():
            raise ModelError(
                f"{checkpoint} holds the prompt but not the encoder that made it ({STATE}), so"
                f" {self.name} cannot continue training from it",
                fix="score it, or start from a checkpoint that was trained here",
            )
        config = PeftConfig.from_pretrained(checkpoint)
        config.inference_mode = False
        model = self._repaired(get_peft_model(base, config))
        model.load_adapter(str(checkpoint), "default", is_trainable=True)
        return model

    def _repaired(self, model: Any) -> Any:
        repairs = [KeepsPositions] if self.adds_tokens else []
        return mix(model, *repairs, *([KeepsEncoder] if self.has_encoder() else []))


def width(info: ModelInfo) -> int | None:
    """Size of a token's embedding, which may be smaller than the hidden size (OPT-350m)."""
    config = text_config(info.config)
    for layer in info.layers().values():
        if layer.kind == "embedding" and layer.d_in == config.get("vocab_size"):
            return layer.d_out
    return _first(info, "word_embed_proj_dim", "hidden_size", "n_embd", "d_model")


def embedding_width(base: PreTrainedModel) -> int:
    """Size of a token's embedding in a loaded model; PEFT would use the hidden size instead."""
    return int(base.get_input_embeddings().weight.shape[1])


def depth(info: ModelInfo) -> int | None:
    """Number of layers."""
    return _first(info, "num_hidden_layers", "num_layers", "n_layer", "n_layers")


def key_width(info: ModelInfo) -> int | None:
    """Size of a token's keys in one layer: number of key-value heads times their size."""
    config, queries = text_config(info.config), attention_heads(info.config)
    hidden = _first(info, "hidden_size", "n_embd", "d_model")
    if hidden is None or queries is None:
        return None
    groups = config.get("num_key_value_heads")
    groups = queries if groups is None else groups
    size = config.get("head_dim") or hidden // queries
    return int(size) * int(groups)


def _first(info: ModelInfo, *names: str) -> int | None:
    config = text_config(info.config)
    return next((int(config[name]) for name in names if config.get(name) is not None), None)
