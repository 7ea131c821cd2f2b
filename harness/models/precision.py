"""The number formats of training and scoring: one rule for all methods and objectives.

Trained weights, their gradients and the optimizer's state are float32 ("master weights";
Micikevicius et al., 2018, arXiv:1710.03740, section 3.1). In bfloat16, with its 8 bits of
precision, a weight near 1 would not change in a step smaller than 0.002. Frozen weights keep the
model's dtype. The forward passes of training run under autocast in that dtype. The head of a reward
model, and log-probabilities and all that is computed from them, are float32. A checkpoint holds the
float32 weights, so that another objective can continue exactly. For scoring it is loaded in the
model's dtype, as any model.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterable, Iterator
from typing import Any

_SHORT = ("bfloat16", "float16")


class MasterWeights:
    """Converts trainable parameters to float32, in place, and remembers their dtypes from
    before."""

    def __init__(self, parameters: Iterable[Any]) -> None:
        self._loaded: dict[Any, Any] = {}
        for parameter in parameters:
            if parameter.requires_grad and is_short(parameter.dtype):
                self._loaded[parameter] = parameter.dtype
                parameter.data = parameter.data.float()

    @property
    def raised(self) -> bool:
        """True if any parameter had another dtype before."""
        return bool(self._loaded)

    @contextlib.contextmanager
    def as_loaded(self) -> Iterator[None]:
        """In the block, the weights are rounded to the dtypes in which they were loaded, as when a
        checkpoint is loaded for scoring. After the block they are as before, unrounded."""
        whole = {parameter: parameter.data for parameter in self._loaded}
        for parameter, dtype in self._loaded.items():
            parameter.data = parameter.data.to(dtype)
        try:
            yield
        finally:
            for parameter, data in whole.items():
                parameter.data = data


def is_short(dtype: Any) -> bool:
    """True if a torch dtype is bfloat16 or float16."""
    return str(dtype).removeprefix("torch.") in _SHORT


def lost(model: Any) -> str:
    """A message why a model whose weights changed may still give the same outputs; empty if its
    format is not the cause."""
    short = [p.dtype for p in model.parameters() if is_short(p.dtype)]
    if not short:
        return ""
    kind = str(short[0]).removeprefix("torch.")
    return (
        f"its weights changed by less than the precision of {kind}, in which the model is"
        " scored: raise learning_rate or the number of steps, or set `dtype: float32` on the model"
    )


def autocast(dtype: str, device: str) -> Any:
    """A context of mixed precision, as in transformers' Trainer; without effect for float32.

    Args:
        dtype: the model's dtype.
        device: `cpu` or `cuda`.
    """
    import torch

    if dtype in _SHORT:
        return torch.autocast(device, dtype=getattr(torch, dtype))
    return contextlib.nullcontext()


def autocast_of(model: Any) -> Any:
    """As `autocast`, with the dtype and device of a model. The model may hold trained weights in
    float32 beside frozen ones in a shorter format."""
    short = [p.dtype for p in model.parameters() if is_short(p.dtype)]
    device = next(model.parameters()).device.type
    return autocast(str(short[0]).removeprefix("torch.") if short else "float32", device)


def in_float32(head: Any) -> Any:
    """The linear layer, changed to compute in float32, whatever the dtypes of its weights and
    input.

    With 8 bits of precision, rewards would differ in steps of a hundredth. Copies of the layer
    compute in float32 too.
    """
    head.forward = types.MethodType(_linear_in_float32, head)
    return head


def _linear_in_float32(self: Any, values: Any) -> Any:
    import torch

    def whole(tensor: Any) -> Any:
        return tensor.float() if tensor is not None and is_short(tensor.dtype) else tensor

    with torch.autocast(values.device.type, enabled=False):
        result = torch.nn.functional.linear(whole(values), whole(self.weight), whole(self.bias))
    return result
