"""Prompt tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from harness.methods._peft.shared import task_of
from harness.methods._peft.soft_prompt import SoftPrompt, embedding_width, width
from harness.models.files import ModelInfo
from harness.models.layers import attention_heads

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class PromptTuning(SoftPrompt):
    """Prompt tuning: n learned embeddings before every input (Lester et al., 2021).

    Trainable parameters: n d, for an embedding of size d. State: the base's N parameters at s bytes
    each, and 16 n d bytes (float32 weight, gradient and AdamW's two moments). Every row becomes n
    tokens longer, so activations grow with n.
    """

    paper = "arXiv:2104.08691"

    init: Literal["vocabulary", "text", "random"] = "vocabulary"
    """The initial values: embeddings of random tokens (drawn with the seed), embeddings of
    `init_text`, or draws from a normal distribution, which lie far from every token's embedding."""
    init_text: str | None = None
    """The initial text for `init: text`, cut or repeated to the prompt's length."""

    @model_validator(mode="after")
    def _text(self) -> PromptTuning:
        if (self.init == "text") != (self.init_text is not None):
            raise ValueError("init_text is needed with `init: text`, and refused without it")
        return self

    def config(self, base: PreTrainedModel, also_train: tuple[str, ...]) -> PeftConfig:
        from peft import PromptTuningConfig

        kind = {"vocabulary": "SAMPLE_VOCAB", "text": "TEXT", "random": "RANDOM"}[self.init]
        source = str(base.config._name_or_path) if self.init == "text" else None
        return PromptTuningConfig(
            task_type=task_of(base),
            num_virtual_tokens=self.num_virtual_tokens,
            num_attention_heads=attention_heads(base.config.to_dict()),
            token_dim=embedding_width(base),
            prompt_tuning_init=kind,
            prompt_tuning_init_text=self.init_text,
            tokenizer_name_or_path=source,
            modules_to_save=list(also_train) or None,
        )

    def count_trainable(self, info: ModelInfo) -> int | None:
        size = width(info)
        return None if size is None else self.num_virtual_tokens * size
