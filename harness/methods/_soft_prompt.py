"""What prompt tuning, p-tuning and prefix tuning share: they learn a prompt, and the base is whole.

PEFT exports the prompt that an encoder made, without the encoder, and refuses to train on it. So
that both a killed stage and another objective can go on from a checkpoint, a model with an encoder
writes the tensors that train into `resume/` beside PEFT's export, whoever saves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness.errors import ModelError
from harness.methods._peft import PeftMethod, require_bare
from harness.model_files import ModelInfo

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STATE = Path("resume") / "trainable_state.safetensors"
"""Under a checkpoint's folder; in one of its own, as only the export is shipped."""


class SoftPrompt(PeftMethod):
    """A prompt of vectors that is learned; nothing inside the model changes."""

    traits = frozenset({"gradient_checkpointing", "resume", "swap"})

    num_virtual_tokens: int = Field(20, gt=0)
    """Length of the learned prompt, in tokens; each takes a place in the model's context."""

    def lacks(self) -> dict[str, str]:
        return {
            "packing": "documents packed into one row would share one prompt and see each other",
            "merge": "a learned prompt is no part of the weights",
            "mixed_batch": "PEFT ignores adapter_names for soft prompts without a word",
        }

    def exceptions(self) -> dict[str, str]:
        return {"starts_at_base": "a fresh prompt changes the output before it is trained"}

    def has_encoder(self) -> bool:
        """Whether the exported prompt is computed by an encoder that the export leaves out."""
        return False

    def attach(self, base: PreTrainedModel, also_train: tuple[str, ...] = ()) -> Any:
        return self._resumable(super().attach(base, also_train))

    def resume(self, base: PreTrainedModel, checkpoint: Path) -> Any:
        from peft import PeftConfig, get_peft_model

        require_bare(base, self.name)
        if self.has_encoder() and not (checkpoint / STATE).is_file():
            raise ModelError(
                f"{checkpoint} holds the prompt but not the encoder that made it ({STATE}), so"
                f" {self.name} cannot go on training from it",
                fix="score it, or start from a checkpoint that was trained here",
            )
        config = PeftConfig.from_pretrained(checkpoint)
        config.inference_mode = False
        model = self._resumable(get_peft_model(base, config))
        model.load_adapter(str(checkpoint), "default", is_trainable=True)
        return model

    def _resumable(self, model: Any) -> Any:
        """The same model, of a class whose checkpoints hold the encoder."""
        if self.has_encoder():
            kind = type(model)
            model.__class__ = type(kind.__name__, (_Resumable, kind), {})
        return model


class _Resumable:
    """Mixed into a PeftModel, so that whatever trainer saves and loads it keeps the encoder."""

    def save_pretrained(self, save_directory: str, *args: Any, **options: Any) -> None:
        """PEFT's export, and beside it what trains."""
        import safetensors.torch

        super().save_pretrained(save_directory, *args, **options)  # type: ignore[misc]
        path = Path(save_directory) / STATE
        path.parent.mkdir(exist_ok=True)
        state = {name: tensor.contiguous() for name, tensor in _trained(self).items()}
        safetensors.torch.save_file(state, path)

    def load_adapter(self, model_id: str, adapter_name: str, *args: Any, **options: Any) -> Any:
        """What trains, into an adapter that is there; else as PEFT does."""
        import safetensors.torch

        path = Path(model_id) / STATE
        if adapter_name not in self.peft_config or not path.is_file():  # type: ignore[attr-defined]
            return super().load_adapter(  # type: ignore[misc]
                model_id, adapter_name, *args, **options
            )
        import torch

        found, own = safetensors.torch.load_file(path), _trained(self)
        if found.keys() != own.keys():
            raise ModelError(
                f"{path} holds {sorted(found)}, and the model trains {sorted(own)}",
                fix="give the method the options that the checkpoint was trained with",
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(found[name])
        return None


def _trained(model: Any) -> dict[str, Any]:
    return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}


def width(info: ModelInfo) -> int | None:
    """Size of a token's embedding, by the names that models give it."""
    return _first(info.config, "hidden_size", "n_embd", "d_model")


def depth(info: ModelInfo) -> int | None:
    """Number of layers."""
    return _first(info.config, "num_hidden_layers", "num_layers", "n_layer")


def key_width(info: ModelInfo) -> int | None:
    """Size of a token's keys in one layer: key-value heads times their size."""
    hidden, heads = width(info), _first(info.config, "num_attention_heads", "n_head")
    if hidden is None or heads is None:
        return None
    if info.config.get("num_key_value_heads") is None:
        return hidden
    size = info.config.get("head_dim") or hidden // heads
    return int(size) * int(info.config["num_key_value_heads"])


def _first(config: Mapping[str, Any], *names: str) -> int | None:
    return next((int(config[name]) for name in names if config.get(name) is not None), None)
