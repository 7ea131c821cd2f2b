"""Bottleneck adapters as a tuner of PEFT; importing this module registers them with PEFT.

import harness.methods._peft.bottleneck
model = PeftModel.from_pretrained(base, "checkpoint")
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import register_peft_method
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from harness.core.errors import ModelError
from harness.methods._peft.bottleneck_config import BASE, NAME, BottleneckConfig
from harness.methods._peft.bottleneck_layer import BottleneckLayer, output_width
from harness.methods._peft.bottleneck_layouts import Placement, residual_width
from harness.methods._peft.bottleneck_structure import mixes_experts, sublayer_ends, suffixes


class BottleneckModel(BaseTuner):
    """A model with bottleneck adapters on its sublayers' outputs."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    config_class = BottleneckConfig

    @staticmethod
    def ends(base: Any, placement: Placement) -> list[str]:
        """Full names of the modules that get an adapter if the config has no `target_modules`."""
        return sublayer_ends(base, placement)

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
        """The width of a module's output; for experts, which have no such attribute, the width of
        the residual stream."""
        width = output_width(target) or residual_width(self.get_model_config(self.model))
        if width is None:
            raise AssertionError("_require_sublayer_end accepted a target without a width")
        return width

    def _require_sublayer_end(self, target: nn.Module, key: str) -> None:
        fix = "name projections whose output is added to the residual stream in target_modules"
        if isinstance(target, BaseTunerLayer):
            raise ModelError(f"'{key}' carries a {type(target).__name__} already", fix="unload it")
        width, expected = output_width(target), residual_width(self.get_model_config(self.model))
        if width is None and (expected is None or not mixes_experts(target)):
            raise ModelError(f"'{key}' is a {type(target).__name__}, not a projection", fix=fix)
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
        """Give each layer the adapters of the batch's rows; PEFT calls this around forward and
        generate."""
        names = kwargs.get("adapter_names")
        if names is None:
            yield
            return
        self._check_mixed(names)
        rows = [name for name in names for _ in range(_copies(kwargs))]
        handles = [
            module.register_forward_pre_hook(partial(_add, adapter_names=rows), with_kwargs=True)
            for module in self.modules()
            if isinstance(module, (BottleneckLayer, AuxiliaryTrainingWrapper))
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _check_mixed(self, names: list[str]) -> None:
        """Check the names of a mixed batch, which PEFT would ignore in some layers.

        Raises:
            ValueError: the model is in training mode, lacks an adapter, or has modules that train
                in full and that an adapter does not cover.
        """
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


def _add(module: nn.Module, args: Any, kwargs: Any, adapter_names: list[str]) -> tuple[Any, Any]:
    return args, {**kwargs, "adapter_names": adapter_names}


def _copies(kwargs: dict[str, Any]) -> int:
    """How often `generate` repeats each row, for beams or samples."""
    config = kwargs.get("generation_config")
    return max(
        kwargs.get(name) or getattr(config, name, None) or 1
        for name in ("num_beams", "num_return_sequences")
    )


register_peft_method(name=NAME.lower(), config_cls=BottleneckConfig, model_cls=BottleneckModel)
