"""The formats that a model trains and is scored in: one rule for every method and objective.

What trains, its gradients and the optimizer's state are float32 ("master weights"; Micikevicius et
al., 2018, arXiv:1710.03740, section 3.1): in bfloat16, with 8 bits, a weight near 1 does not feel a
step smaller than 0.002. What is frozen stays in the model's dtype. The forward passes of training
compute under autocast in that dtype; a reward's head, log-probabilities and all that is made of
them compute in float32. A checkpoint holds the float32 weights, so that another objective goes on
exactly; to be scored it is loaded in the model's dtype, as any model is.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterable, Iterator
from typing import Any

_SHORT = ("bfloat16", "float16")


class MasterWeights:
    """Makes float32 of what trains, in place, and remembers the dtypes that it was loaded in."""

    def __init__(self, parameters: Iterable[Any]) -> None:
        self._loaded: dict[Any, Any] = {}
        for parameter in parameters:
            if parameter.requires_grad and is_short(parameter.dtype):
                self._loaded[parameter] = parameter.dtype
                parameter.data = parameter.data.float()

    @property
    def raised(self) -> bool:
        """Whether any weight was in another dtype before."""
        return bool(self._loaded)

    @contextlib.contextmanager
    def as_loaded(self) -> Iterator[None]:
        """Inside, the weights are what a checkpoint of them gives when it is loaded to be scored:
        rounded to the dtypes that they were loaded in. Nothing is rounded afterwards."""
        whole = {parameter: parameter.data for parameter in self._loaded}
        for parameter, dtype in self._loaded.items():
            parameter.data = parameter.data.to(dtype)
        try:
            yield
        finally:
            for parameter, data in whole.items():
                parameter.data = data


def is_short(dtype: Any) -> bool:
    """Whether a torch dtype is bfloat16 or float16."""
    return str(dtype).removeprefix("torch.") in _SHORT


def lost(model: Any) -> str:
    """Why a model that moved may compute what it did before, for people; empty where no format is
    to blame."""
    short = [p.dtype for p in model.parameters() if is_short(p.dtype)]
    if not short:
        return ""
    kind = str(short[0]).removeprefix("torch.")
    return (
        f"its weights moved by less than what {kind} feels, in which the model is scored: raise"
        " learning_rate or the number of steps, or set `dtype: float32` on the model"
    )


def autocast(dtype: str, device: str) -> Any:
    """Mixed precision as transformers' Trainer has it; nothing for float32.

    Args:
        dtype: the model's. device: `cpu` or `cuda`.
    """
    import torch

    if dtype in _SHORT:
        return torch.autocast(device, dtype=getattr(torch, dtype))
    return contextlib.nullcontext()


def autocast_of(model: Any) -> Any:
    """As `autocast`, for what a model is: it may hold float32 weights that train amid frozen ones
    of a shorter format."""
    short = [p.dtype for p in model.parameters() if is_short(p.dtype)]
    device = next(model.parameters()).device.type
    return autocast(str(short[0]).removeprefix("torch.") if short else "float32", device)


def in_float32(head: Any) -> Any:
    """The linear layer, from now on computing in float32, whatever its weights and its input are.

    A reward of 8 bits tells two answers apart by steps of a hundredth. Copies of the layer compute
    so too.
    """
    head.forward = types.MethodType(_linear_in_float32, head)
    return head


def _linear_in_float32(self: Any, values: Any) -> Any:
    import torch

    def whole(tensor: Any) -> Any:
        return tensor.float() if tensor is not None and is_short(tensor.dtype) else tensor

    with torch.autocast(values.device.type, enabled=False):
        found = torch.nn.functional.linear(whole(values), whole(self.weight), whole(self.bias))
    return found
