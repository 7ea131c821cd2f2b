"""Full fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.methods.base import Method
from harness.model_files import ModelInfo, ModelRef

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(Method):
    """Every weight of the model moves.

    Trainable parameters: all of them. State: 4 bytes of weight, 4 of gradient and 8 of AdamW's two
    moments for each, in float32.
    """

    traits = frozenset({"packing", "gradient_checkpointing", "resume"})

    def attach(self, base: PreTrainedModel, also_train: tuple[str, ...] = ()) -> PreTrainedModel:
        base.requires_grad_(True)
        return base

    def resume(self, base: PreTrainedModel, checkpoint: Path) -> PreTrainedModel:
        import safetensors.torch

        safetensors.torch.load_model(base, checkpoint / "model.safetensors")
        return self.attach(base)

    def load_trained(self, ref: ModelRef, checkpoint: Path) -> Any:
        return ref.at(checkpoint).load("lm")

    def count_trainable(self, info: ModelInfo) -> int | None:
        return info.parameters
