"""Low-rank adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from harness.methods.base import Method
from harness.model_files import ModelInfo, ModelRef

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Lora(Method):
    """LoRA: W + (alpha / r) B A, with the base frozen (Hu et al., 2021, arXiv:2106.09685).

    Options: rsLoRA's scaling alpha / sqrt(r) (Kalajdzievski, 2023, arXiv:2312.03732) and DoRA's
    split into magnitude and direction (Liu et al., 2024, arXiv:2402.09353).

    Trainable parameters: r (d_in + d_out) for each target, and d_out more with DoRA.
    """

    paper = "arXiv:2106.09685"
    traits = frozenset({"packing", "gradient_checkpointing", "resume", "merge"})

    r: int = Field(16, gt=0)
    """Rank of the update."""
    lora_alpha: int = Field(32, gt=0)
    """The update is scaled by lora_alpha / r."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: Literal["all-linear"] | list[str] = "all-linear"
    """Names of the layers that get an adapter; `all-linear` is every one but the head."""
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(r)."""
    use_dora: bool = False
    """Train the magnitude of each output's weights too."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which biases train as well."""
    init_lora_weights: bool | Literal["gaussian", "eva", "olora"] = True
    """As in PEFT; True starts at the base exactly (B = 0)."""

    def attach(self, base: PreTrainedModel, also_train: tuple[str, ...] = ()) -> Any:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            task_type="CAUSAL_LM", modules_to_save=list(also_train) or None, **self.model_dump()
        )
        return get_peft_model(base, config)

    def resume(self, base: PreTrainedModel, checkpoint: Path) -> Any:
        from peft import PeftModel

        return PeftModel.from_pretrained(base, checkpoint, is_trainable=True)

    def load_trained(self, ref: ModelRef, checkpoint: Path) -> Any:
        from peft import PeftModel

        return PeftModel.from_pretrained(ref.load("lm"), checkpoint).eval()

    def save(self, model: Any, folder: Path) -> None:
        # all-linear leaves the embeddings alone; without this PEFT asks the hub whether the
        # vocabulary grew.
        model.save_pretrained(folder, save_embedding_layers=False)
        _in_order(folder / "adapter_config.json")

    def switched_off(self, model: Any) -> Any:
        return model.disable_adapter()

    def count_trainable(self, info: ModelInfo) -> int | None:
        if not info.shapes or self.bias != "none":
            return None
        total = 0
        for name, (d_out, d_in) in info.linear_shapes().items():
            if self.targets(name):
                total += self.r * (d_in + d_out) + (d_out if self.use_dora else 0)
        return total

    def targets(self, weight: str) -> bool:
        """Whether the layer of this weight gets an adapter, by PEFT's rule for names."""
        if self.target_modules == "all-linear":
            return True
        layer = weight.removesuffix(".weight")
        return any(layer == t or layer.endswith(f".{t}") for t in self.target_modules)


def _in_order(config: Path) -> None:
    """PEFT writes sets of names in an order that differs from process to process."""
    fields = json.loads(config.read_text(encoding="utf-8"))
    for name, value in fields.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            fields[name] = sorted(value)
    config.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
