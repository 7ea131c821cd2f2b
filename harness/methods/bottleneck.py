"""Bottleneck adapters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from harness.methods._bottleneck_layouts import (
    Placement,
    bottleneck_size,
    matches,
    residual_width,
    targets,
)
from harness.methods._peft import PeftMethod, task_of
from harness.model_files import ModelInfo

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class Bottleneck(PeftMethod):
    """Bottleneck adapters: h + s up(act(down(h))) on a sublayer's output h, with the base frozen.

    `houlsby` puts one after the attention's output projection and one after the feed-forward's,
    `pfeiffer` the second only; each before the residual is added (Houlsby et al., 2019,
    arXiv:1902.00751, section 2.1; Pfeiffer et al., 2021, arXiv:2005.00247). An adapter reads the
    projection's own output: in Gemma 2 and 3 it comes before the norm that follows the sublayer,
    and, unlike AdapterHub's pfeiffer, the residual is never part of its input. Up starts at zero,
    so that training starts at the base exactly.

    Trainable parameters: 2 d b + b + d for each adapter, d the hidden size and b = d //
    reduction_factor, with two adapters a layer for houlsby and one for pfeiffer. State: 16 bytes
    for each of them in float32 (weight, gradient, AdamW's two moments), beside the base's weights.
    Saved activations: 4 (d + 2 b) bytes a token and adapter, 4 (d + b) with relu or tanh; dropout
    keeps its mask too.
    """

    paper = "arXiv:1902.00751"
    traits = frozenset(
        {"packing", "gradient_checkpointing", "resume", "new_head", "swap", "copy", "mixed_batch"}
    )
    impl = "harness.methods._bottleneck:BottleneckConfig"

    placement: Placement = "houlsby"
    """Two adapters a layer, or one after the feed-forward."""
    reduction_factor: int = Field(16, gt=0)
    """The bottleneck has hidden_size // reduction_factor numbers, at least 1."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "gelu"
    """Between down and up; gelu is the exact one."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout between the activation and up."""
    scaling: float = Field(1.0, gt=0)
    """Multiplies the update (s above; He et al., 2022, arXiv:2110.04366)."""
    target_modules: list[str] | None = None
    """Names of the projections to adapt instead of `placement`'s: for architectures not known."""

    def lacks(self) -> dict[str, str]:
        return {"merge": "with an activation inside it an adapter is no sum of weights"}

    def config(self, base: PreTrainedModel, also_train: tuple[str, ...]) -> PeftConfig:
        made: PeftConfig = self.working_part()(
            task_type=task_of(base), modules_to_save=list(also_train) or None, **self.model_dump()
        )
        return made

    def resume(
        self, base: PreTrainedModel, checkpoint: Path, also_train: tuple[str, ...] = ()
    ) -> Any:
        self.working_part()  # makes PEFT know the type
        return super().resume(base, checkpoint, also_train)

    def put_on(self, model: Any, checkpoint: Path, name: str = "default") -> Any:
        self.working_part()
        return super().put_on(model, checkpoint, name)

    def gates(self, model: Any) -> dict[str, str]:
        """Down waits for up, which starts at 0."""
        names = {name for name, p in model.named_parameters() if p.requires_grad}
        ups = {n: n.replace("bottleneck_down", "bottleneck_up") for n in names}
        gated = {n: f"{up.rpartition('.')[0]}.weight" for n, up in ups.items() if up != n}
        return {name: up for name, up in gated.items() if up in names}

    def count_trainable(self, info: ModelInfo) -> int | None:
        width = residual_width(info.config, info.shapes)
        if not info.shapes or width is None:
            return None
        names = self.target_modules or targets(info.config.get("model_type"), self.placement)
        size = bottleneck_size(width, self.reduction_factor)
        layers = [n.removesuffix(".weight") for n in info.shapes if n.endswith(".weight")]
        adapters = sum(matches(layer, names) for layer in layers)
        return adapters * (2 * width * size + size + width)
