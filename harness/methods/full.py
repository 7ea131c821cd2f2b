"""Full fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import ModelError
from harness.methods._layers import beside_text
from harness.methods.base import BYTES, Method
from harness.models.files import ModelInfo, ModelRef
from harness.models.generation_defaults import plain_config
from harness.models.layers import is_text, parameters_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(Method):
    """Every weight of the model trains.

    In a model that also takes images or sound, the part that processes text trains, and the rest is
    frozen.

    Trainable parameters: all N. State: 4 N bytes of weights, 4 N of gradients and 8 N of AdamW's
    two moments, whatever the model's dtype; its checkpoints are float32. With `master_weights:
    false` everything is in the model's dtype of s bytes: 4 s N.
    """

    traits = frozenset({"packing", "gradient_checkpointing", "resume", "new_head", "merge", "copy"})

    adapts = False

    master_weights: bool = True
    """Train in float32 and compute in the model's dtype. `false` also trains in that dtype: in
    bfloat16 this takes half the memory, but rounding loses steps that are much smaller than the
    weight."""

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
        for name in beside_text(base):
            base.get_submodule(name).requires_grad_(False)
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

        # Load once more: only transformers knows how the names in the files map to the model's.
        scores = _scores(checkpoint)
        auto = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
        config, _ = plain_config(str(checkpoint), None)
        _, loading = auto.from_pretrained(
            str(checkpoint),
            dtype=getattr(torch, ref.dtype),
            trust_remote_code=ref.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            **({"num_labels": 1} if scores else {"generation_config": config}),
        )
        wrong = [str(name) for name, *_ in loading.get("mismatched_keys", ())]
        return sorted([*loading["missing_keys"], *wrong]), sorted(loading["unexpected_keys"])

    def merged(self, ref: ModelRef, checkpoint: Path) -> PreTrainedModel:
        """The trained model itself, which has no adapter."""
        model: PreTrainedModel = self.load_trained(ref, checkpoint).eval()
        return model

    def describe(self, base: PreTrainedModel) -> ModelInfo:
        return super().describe(base).without(beside_text(base))

    def count_trainable(self, info: ModelInfo) -> int | None:
        if not info.shapes:
            return None
        sizes = parameters_of(info.config, info.shapes)
        return sum(size for name, size in sizes.items() if is_text(name, info.config))

    def state_bytes(self, info: ModelInfo, dtype: str) -> dict[str, int] | None:
        if info.parameters is None:
            return None
        size = 4 if self.master_weights else BYTES[dtype]
        trained = (self.count_trainable(info) or 0) * size
        return {
            "weights": trained + (info.parameters - trained // size) * BYTES[dtype],
            "gradients": trained,
            "optimizer": 2 * trained,
        }


def _scores(checkpoint: Path) -> bool:
    """Whether the checkpoint has a score head, judged by the class that its config names."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    return any("SequenceClassification" in name for name in config.get("architectures") or [])


def _load_weights(model: PreTrainedModel, checkpoint: Path, fresh: tuple[str, ...]) -> None:
    """Copy a checkpoint's weights into the model.

    transformers loads them, since files may name or stack tensors in another way (GPT-NeoX's head,
    experts).

    Args:
        fresh: modules that the checkpoint may lack; its language-model head is then ignored.

    Raises:
        ModelError: tensors are missing, or belong to another model.
    """
    import torch

    with torch.random.fork_rng():  # missing weights are drawn at random, and not used
        loaded, loading = type(model).from_pretrained(
            str(checkpoint),
            config=model.config,
            dtype=torch.float32,  # holds the values of every smaller dtype exactly
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    wrong = [str(name) for name, *_ in loading.get("mismatched_keys", ())]
    missing = sorted([*wrong, *loading["missing_keys"]])
    unknown = sorted(loading["unexpected_keys"])
    if fresh:
        unknown = [name for name in unknown if name.startswith(model.base_model_prefix + ".")]
        missing = [name for name in missing if name.split(".")[0] not in fresh]
    if unknown or missing:
        lacking = f"has no {missing[0]} of its size" if missing else f"holds {unknown[0]}"
        raise ModelError(
            f"the checkpoint is of another model: it {lacking}",
            where=str(checkpoint),
            fix="resume from a checkpoint that was trained from this base",
        )
    state = loaded.state_dict()
    kept = {name: tensor for name, tensor in state.items() if name.split(".")[0] not in fresh}
    model.load_state_dict(kept, strict=False)
