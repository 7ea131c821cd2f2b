"""A frozen copy of a model's trainable tensors, for trainers that need a reference model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Reference:
    """The model in the state in which this object was created, whatever has been trained since.

    Attributes:
        tensors: the copies by parameter name; an audit compares their digests before and after.
    """

    def __init__(self, model: Any, state: Mapping[str, torch.Tensor]) -> None:
        self._model = model
        self.tensors = {name: tensor.detach().clone() for name, tensor in state.items()}

    def __call__(self, **inputs: Any) -> Any:
        """The reference's output for `inputs`, in evaluation mode and without gradients."""
        import torch

        training = {module: module.training for module in self._model.modules()}
        self._model.eval()
        try:
            with torch.no_grad():
                return torch.func.functional_call(self._model, self.tensors, kwargs=inputs)
        finally:
            for module, mode in training.items():
                module.training = mode

    def logits(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits of `input_ids`, of shape (batch, tokens, vocabulary).

        The logits of a soft prompt, which stand before them, are left out.

        Args:
            input_ids, attention_mask: (batch, tokens).
            position_ids: (batch, tokens); needed where rows are padded on the left.
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if position_ids is not None:
            inputs["position_ids"] = position_ids
        logits: torch.Tensor = self(**inputs, use_cache=False).logits
        return logits[:, -input_ids.shape[1] :]
