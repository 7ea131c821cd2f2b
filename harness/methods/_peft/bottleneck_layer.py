"""The layer of bottleneck adapters: a frozen projection with two-layer networks on its output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from harness.methods._peft.bottleneck_config import BottleneckConfig
from harness.methods._peft.bottleneck_layouts import bottleneck_size

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": nn.functional.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}


def output_width(layer: nn.Module) -> int | None:
    """Output width of a projection (Linear, its 4-bit and 8-bit forms, GPT-2's Conv1D); None for
    any other module."""
    if isinstance(layer, BottleneckLayer):
        return layer.width
    for name in ("out_features", "nf"):
        if isinstance(width := getattr(layer, name, None), int):
            return width
    return None


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """h -> h + scaling * up(dropout(act(down(h)))), with h the output of the wrapped projection.

    Down has shape (bottleneck, width) and up (width, bottleneck), each with a bias. The weight of
    the wrapped projection is never read, so any quantised projection works. Several active adapters
    stack in order: each takes the output of the one before (Pfeiffer et al., 2020,
    arXiv:2005.00052).
    """

    base_layer: Any
    # Inherited from PEFT's class, which has no types.
    active_adapters: Any
    disable_adapters: bool
    get_base_layer: Any
    set_adapter: Any
    _cast_input_dtype: Any
    _move_adapter_to_device_of_base_layer: Any

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ("bottleneck_dropout", "bottleneck_activation", "bottleneck_scaling")

    def __init__(
        self, base_layer: nn.Module, name: str, config: BottleneckConfig, width: int
    ) -> None:
        super().__init__()
        self.base_layer, self.width = base_layer, width
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.bottleneck_dropout = nn.ModuleDict()
        self.bottleneck_activation: dict[str, str] = {}
        self.bottleneck_scaling: dict[str, float] = {}
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter = name
        self.add(name, config)

    def add(self, name: str, config: BottleneckConfig) -> None:
        """Add an adapter to this layer; the output stays the same until the adapter is trained.

        Down starts as Kaiming uniform with a = sqrt(5), up and both biases at zero (He et al.,
        2022, arXiv:2110.04366, and their code).
        """
        size = bottleneck_size(self.width, config.reduction_factor)
        down, up = nn.Linear(self.width, size), nn.Linear(size, self.width)
        for zero in (down.bias, up.weight, up.bias):
            nn.init.zeros_(zero)
        self.bottleneck_down[name], self.bottleneck_up[name] = down, up
        self.bottleneck_dropout[name] = nn.Dropout(config.dropout)
        self.bottleneck_activation[name] = config.activation
        self.bottleneck_scaling[name] = config.scaling
        # PEFT gets the device here, as it cannot read it from experts without a weight.
        device = next(self.base_layer.parameters()).device
        self._move_adapter_to_device_of_base_layer(name, device)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(
        self, x: torch.Tensor, *args: Any, adapter_names: Sequence[str] | None = None, **kwargs: Any
    ) -> Any:
        """The projection's output with the adapters applied; in a tuple, to the first element.

        Args:
            x: the projection's input, (batch, ...).
            adapter_names: one adapter for each row of the batch, `__base__` for none.

        Raises:
            ValueError: the number of `adapter_names` is not the batch size.
        """
        hidden: Any = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return hidden
        if isinstance(hidden, tuple):  # experts also return their router's output
            adapted = self._adapt(hidden[0], adapter_names)
            return (adapted, *hidden[1:])
        return self._adapt(hidden, adapter_names)

    def _adapt(self, hidden: torch.Tensor, adapter_names: Sequence[str] | None) -> torch.Tensor:
        if adapter_names is not None:
            return self._mixed(hidden, adapter_names)
        for name in self.active_adapters:
            hidden = self._adapted(name, hidden)
        return hidden

    def _adapted(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        if name not in self.bottleneck_down:  # an adapter of another placement
            return hidden
        down, up = cast(nn.Linear, self.bottleneck_down[name]), self.bottleneck_up[name]
        activation = _ACTIVATIONS[self.bottleneck_activation[name]]
        narrow = activation(down(self._cast_input_dtype(hidden, down.weight.dtype)))
        update: torch.Tensor = up(self.bottleneck_dropout[name](narrow))
        scaling = self.bottleneck_scaling[name]
        return (hidden + (update if scaling == 1 else scaling * update)).to(hidden.dtype)

    def _mixed(self, hidden: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        if len(names) != len(hidden):
            raise ValueError(f"{len(names)} adapter_names for a batch of {len(hidden)} rows")
        out = hidden.clone()
        for name in dict.fromkeys(names):
            if name in self.bottleneck_down:
                rows = [i for i, other in enumerate(names) if other == name]
                out[rows] = self._adapted(name, hidden[rows])
        return out
