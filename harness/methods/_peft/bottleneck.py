"""Bottleneck adapters as a tuner of PEFT; importing this module makes PEFT know them.

import harness.methods._peft.bottleneck
model = PeftModel.from_pretrained(base, "checkpoint")
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, cast

from peft import PeftConfig, PeftType
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import register_peft_method
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from harness.core.errors import ModelError
from harness.methods._peft.bottleneck_layer import ACTIVATIONS, BASE, BottleneckLayer, output_width
from harness.methods._peft.bottleneck_layouts import Placement, residual_width
from harness.methods._peft.bottleneck_structure import mixes_experts, sublayer_ends, suffixes

NAME = "BOTTLENECK"


def _extend_peft_types() -> Any:
    """PEFT registers methods of others only under a name that its enum holds."""
    member = str.__new__(PeftType, NAME)
    member._name_ = member._value_ = NAME
    type.__setattr__(PeftType, NAME, member)  # from Python 3.12 on, members are attributes
    PeftType._member_map_[NAME] = PeftType._value2member_map_[NAME] = member
    PeftType._member_names_.append(NAME)
    return member


@dataclass
class BottleneckConfig(PeftConfig):
    """An adapter_config.json of peft_type BOTTLENECK; the fields are those of the method."""

    placement: Placement = "houlsby"
    reduction_factor: int = 16
    activation: Literal["relu", "gelu", "silu", "tanh"] = "gelu"
    dropout: float = 0.0
    scaling: float = 1.0
    target_modules: set[str] | str | None = None
    """Names (or one regular expression) of the adapted projections; default: by `placement`."""
    exclude_modules: set[str] | str | None = None
    modules_to_save: list[str] | None = None
    """Modules trained in full beside the adapters, and saved with them."""
    layers_to_transform: list[int] | int | None = field(default=None)
    layers_pattern: list[str] | str | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = getattr(PeftType, NAME)
        for name in ("target_modules", "exclude_modules"):
            if isinstance(value := getattr(self, name), (list, tuple)):
                setattr(self, name, set(value))
        for name, value, known in (
            ("placement", self.placement, ("houlsby", "pfeiffer")),
            ("activation", self.activation, tuple(ACTIVATIONS)),
        ):
            if value not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, not {value!r}")
        if self.reduction_factor < 1 or not 0 <= self.dropout < 1:
            raise ValueError("reduction_factor is at least 1, dropout from 0 to below 1")

    @staticmethod
    def ends(base: Any, placement: Placement) -> list[str]:
        """Full names of the modules that get an adapter where no `target_modules` are given."""
        return sublayer_ends(base, placement)

    def to_dict(self) -> dict[str, Any]:
        """The fields, sets in order: saved bytes are the same in every process."""
        fields = cast(dict[str, Any], super().to_dict())
        return {k: sorted(v) if isinstance(v, set) else v for k, v in fields.items()}


class BottleneckModel(BaseTuner):
    """A model with bottleneck adapters on its sublayers' outputs."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer

    def _prepare_adapter_config(
        self, config: BottleneckConfig, model_config: dict[str, Any]
    ) -> BottleneckConfig:
        if config.target_modules is not None:
            return config
        names = sublayer_ends(self.model, config.placement)
        config.target_modules = suffixes(self.model, names)
        return config

    def _create_and_replace(
        self,
        config: BottleneckConfig,
        name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, BottleneckLayer):
            target.add(name, config)
            return
        self._require_sublayer_end(target, current_key)
        layer = BottleneckLayer(target, name, config, self._width(target))
        if name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _width(self, target: nn.Module) -> int:
        """How wide what a module gives is; of experts, which do not tell, as the stream."""
        width = output_width(target) or residual_width(self.get_model_config(self.model))
        if width is None:
            raise AssertionError("a target's width was required")
        return width

    def _require_sublayer_end(self, target: nn.Module, key: str) -> None:
        fix = "name projections whose output is added to the residual stream in target_modules"
        if isinstance(target, BaseTunerLayer):
            raise ModelError(f"'{key}' carries a {type(target).__name__} already", fix="unload it")
        width, expected = output_width(target), residual_width(self.get_model_config(self.model))
        if width is None and (expected is None or not mixes_experts(target)):
            raise ModelError(f"'{key}' is a {type(target).__name__}, no projection", fix=fix)
        if width is not None and expected is not None and width != expected:
            raise ModelError(
                f"'{key}' gives {width} numbers, the residual stream has {expected}", fix=fix
            )

    def _check_merge_allowed(self) -> None:
        raise ValueError(
            "a bottleneck adapter is not linear and cannot be merged into its base's weights;"
            " unload() gives the base back"
        )

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """PEFT opens this around forward and generate: hand each layer its rows' adapters."""
        names = kwargs.get("adapter_names")
        if names is None:
            yield
            return
        self._check_mixed(names)
        rows = [name for name in names for _ in range(_copies(kwargs))]
        handles = [
            module.register_forward_pre_hook(partial(_give, adapter_names=rows), with_kwargs=True)
            for module in self.modules()
            if isinstance(module, (BottleneckLayer, AuxiliaryTrainingWrapper))
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _check_mixed(self, names: list[str]) -> None:
        """Refuse what would be ignored somewhere on the way."""
        if self.training:
            raise ValueError("adapter_names mixes adapters for inference: call eval() first")
        wanted = set(names) - {BASE}
        if unknown := sorted(wanted - set(self.peft_config)):
            raise ValueError(
                f"adapter_names has {', '.join(map(repr, unknown))};"
                f" the model has {', '.join(map(repr, self.peft_config))}"
            )
        for key, module in self.named_modules():
            if not isinstance(module, AuxiliaryTrainingWrapper):
                continue
            if missing := (wanted | set(self.active_adapters)) - set(module._adapters):
                raise ValueError(f"'{key}' is trained in full, but not by {sorted(missing)}")


def _give(module: nn.Module, args: Any, kwargs: Any, adapter_names: list[str]) -> tuple[Any, Any]:
    return args, {**kwargs, "adapter_names": adapter_names}


def _copies(kwargs: dict[str, Any]) -> int:
    """How often `generate` repeats each row: beams, or samples."""
    config = kwargs.get("generation_config")
    return max(
        kwargs.get(name) or getattr(config, name, None) or 1
        for name in ("num_beams", "num_return_sequences")
    )


_extend_peft_types()
register_peft_method(name=NAME.lower(), config_cls=BottleneckConfig, model_cls=BottleneckModel)
