"""Full fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ModelError
from harness.generation_defaults import plain_config
from harness.methods.base import BYTES, Method
from harness.model_files import ModelInfo, ModelRef

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(Method):
    """Every weight of the model moves.

    Trainable parameters: all N of them. State: 4 N bytes of weights, 4 N of gradients and 8 N of
    AdamW's two moments, whatever the model's dtype; its checkpoints are float32. With
    `master_weights: false` all of it is in that dtype, of s bytes: 4 s N.
    """

    traits = frozenset({"packing", "gradient_checkpointing", "resume", "new_head", "merge", "copy"})

    adapts = False

    master_weights: bool = True
    """Train in float32, and compute in the model's dtype. `false` trains in that dtype alone: half
    the memory in bfloat16, where steps much smaller than a weight are lost in its rounding."""

    def keeps_float32(self) -> bool:
        return self.master_weights

    def lacks(self) -> dict[str, str]:
        return {
            "swap": "its checkpoints are whole models and share no base",
            "mixed_batch": "its checkpoints are whole models and share no base",
        }

    def exceptions(self) -> dict[str, str]:
        return {
            "switched_off": "the base's own weights moved; there is no adapter to switch off",
            "base_unchanged": "every weight of the base trains",
        }

    def attach(self, base: PreTrainedModel, also_train: tuple[str, ...] = ()) -> PreTrainedModel:
        base.requires_grad_(True)
        return base

    def resume(
        self, base: PreTrainedModel, checkpoint: Path, also_train: tuple[str, ...] = ()
    ) -> PreTrainedModel:
        _load_weights(base, checkpoint, also_train)
        return self.attach(base)

    def refill(
        self, model: PreTrainedModel, checkpoint: Path, also_train: tuple[str, ...] = ()
    ) -> None:
        _load_weights(model, checkpoint, also_train)

    def load_trained(self, ref: ModelRef, checkpoint: Path) -> Any:
        head = "score" if _scores(checkpoint) else "lm"
        return ref.at(checkpoint).load(head)

    def unmatched(self, model: Any, ref: ModelRef, checkpoint: Path) -> tuple[list[str], list[str]]:
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

        # Loaded once more, as only transformers knows how the files' names become the model's.
        scores = _scores(checkpoint)
        auto = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
        config, _ = plain_config(str(checkpoint), None)
        _, told = auto.from_pretrained(
            str(checkpoint),
            dtype=getattr(torch, ref.dtype),
            trust_remote_code=ref.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            **({"num_labels": 1} if scores else {"generation_config": config}),
        )
        wrong = [str(name) for name, *_ in told.get("mismatched_keys", ())]
        return sorted([*told["missing_keys"], *wrong]), sorted(told["unexpected_keys"])

    def merged(self, ref: ModelRef, checkpoint: Path) -> PreTrainedModel:
        """The trained model itself: it is plain already."""
        model: PreTrainedModel = self.load_trained(ref, checkpoint).eval()
        return model

    def count_trainable(self, info: ModelInfo) -> int | None:
        return info.parameters

    def state_bytes(self, info: ModelInfo, dtype: str) -> dict[str, int] | None:
        if info.parameters is None:
            return None
        size = info.parameters * (4 if self.master_weights else BYTES[dtype])
        return {"weights": size, "gradients": size, "optimizer": 2 * size}


def _scores(checkpoint: Path) -> bool:
    """Whether the checkpoint has a score head, by the class that its config names."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    return any("SequenceClassification" in name for name in config.get("architectures") or [])


def _load_weights(model: PreTrainedModel, checkpoint: Path, fresh: tuple[str, ...]) -> None:
    """Every shard into the model; a tied weight stands in the file once.

    Args:
        fresh: modules that may be missing, in the place of the checkpoint's language-model head.

    Raises:
        ModelError: tensors are missing, or belong to another model.
    """
    import safetensors.torch

    state: dict[str, Any] = {}
    for shard in sorted(checkpoint.glob("*.safetensors")):
        state |= safetensors.torch.load_file(shard)
    unknown = sorted(set(state) - set(model.state_dict()))
    missing = sorted(set(dict(model.named_parameters())) - set(state))
    if fresh:
        unknown = [name for name in unknown if name.startswith(model.base_model_prefix + ".")]
        missing = [name for name in missing if name.split(".")[0] not in fresh]
        state = {name: tensor for name, tensor in state.items() if name in model.state_dict()}
    if unknown or missing:
        lacking = f"has no {missing[0]}" if missing else f"holds {unknown[0]}"
        raise ModelError(
            f"the checkpoint is of another model: it {lacking}",
            where=str(checkpoint),
            fix="resume from a checkpoint that was trained from this base",
        )
    model.load_state_dict(state, strict=False)
