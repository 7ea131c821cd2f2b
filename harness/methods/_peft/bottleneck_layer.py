"""The layer: a frozen projection with small two-layer networks on its output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from harness.methods._peft.bottleneck_layouts import bottleneck_size

if TYPE_CHECKING:
    from harness.methods._peft.bottleneck import BottleneckConfig

BASE = "__base__"
"""PEFT's name for a row of a mixed batch that no adapter touches."""
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": nn.functional.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}


def output_width(layer: nn.Module) -> int | None:
    """How many numbers a projection gives: Linear, its 4-bit and 8-bit forms, or GPT-2's Conv1D."""
    if isinstance(layer, BottleneckLayer):
        return layer.width
    for name in ("out_features", "nf"):
        if isinstance(width := getattr(layer, name, None), int):
            return width
    return None


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """h -> h + scaling * up(dropout(act(down(h)))), with h the output of the wrapped projection.

    Down is (bottleneck, width), up is (width, bottleneck), each with a bias. The weight of the
    wrapped projection is never read, so that any quantised one will do. Several active adapters
    stack, in order: each works on the output of the one before (Pfeiffer et al., 2020,
    arXiv:2005.00052).
    """

    base_layer: Any
    # What PEFT's class, untyped, brings along.
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
        """Give this layer the adapter `name`, which changes nothing until it is trained.

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
        # A 4-bit layer's dtype is its compute dtype; experts have no weight that tells PEFT.
        device = next(self.base_layer.parameters()).device
        self._move_adapter_to_device_of_base_layer(name, device)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(
        self, x: torch.Tensor, *args: Any, adapter_names: Sequence[str] | None = None, **kwargs: Any
    ) -> Any:
        """The projection's output, adapted; of a tuple the first part.

        Args:
            x: what the projection takes, batch first.
            adapter_names: one adapter for each row of the batch, `__base__` for none.
        """
        hidden: Any = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return hidden
        if isinstance(hidden, tuple):  # experts, with what their router says
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
        activation = ACTIVATIONS[self.bottleneck_activation[name]]
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
