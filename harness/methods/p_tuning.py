"""P-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.methods._peft.shared import task_of
from harness.methods._peft.soft_prompt import SoftPrompt, embedding_width, width
from harness.models.files import ModelInfo
from harness.models.layers import attention_heads

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class PTuning(SoftPrompt):
    """P-tuning: n embeddings before every input, computed by a small encoder (Liu et al., 2021).

    Trainable parameters, for an embedding of size d and an encoder of size h: n d, and with `mlp`
    (d + 1) h + (h + 1) h + (h + 1) d; with `lstm` (two directions, k layers)
    8 h (d + h + 2) + (k - 1) 8 h (3 h + 2) + (2 h + 1) 2 h + (2 h + 1) d. The exported checkpoint
    holds the n d numbers of the prompt, without the encoder. State: the base's N parameters at s
    bytes each, and 16 bytes for each trainable one. Every row becomes n tokens longer.
    """

    paper = "arXiv:2103.10385"

    encoder: Literal["mlp", "lstm"] = "mlp"
    """The encoder's architecture; the paper uses the LSTM."""
    encoder_hidden_size: int | None = Field(None, gt=0)
    """Size of the encoder; default: the model's embedding size."""
    encoder_num_layers: int = Field(2, gt=0)
    """Layers of the LSTM; the MLP always has three."""
    encoder_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout between the LSTM's layers."""

    def has_encoder(self) -> bool:
        return True

    def config(self, base: PreTrainedModel, also_train: tuple[str, ...]) -> PeftConfig:
        from peft import PromptEncoderConfig

        # The MLP ignores the number of layers, and PEFT warns if it is not the default.
        layers = {"encoder_num_layers": self.encoder_num_layers} if self.encoder == "lstm" else {}
        return PromptEncoderConfig(
            task_type=task_of(base),
            num_virtual_tokens=self.num_virtual_tokens,
            num_attention_heads=attention_heads(base.config.to_dict()),
            token_dim=embedding_width(base),
            encoder_reparameterization_type=self.encoder.upper(),
            encoder_hidden_size=self.encoder_hidden_size,
            encoder_dropout=self.encoder_dropout,
            modules_to_save=list(also_train) or None,
            **layers,
        )

    def count_trainable(self, info: ModelInfo) -> int | None:
        d = width(info)
        if d is None:
            return None
        h = self.encoder_hidden_size or d
        prompt = self.num_virtual_tokens * d
        if self.encoder == "mlp":
            return prompt + (d + 1) * h + (h + 1) * h + (h + 1) * d
        lstm = 8 * h * (d + h + 2) + (self.encoder_num_layers - 1) * 8 * h * (3 * h + 2)
        return prompt + lstm + (2 * h + 1) * 2 * h + (2 * h + 1) * d
