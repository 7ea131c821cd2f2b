"""The contract of a method: load, attach, resume, save, load_trained, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.component import Component
from harness.model_files import ModelInfo, ModelRef

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Head = Literal["lm", "score"]


class Method(Component):
    """Which weights move. A method knows no objective."""

    axis = "method"
    paper: ClassVar[str] = ""
    traits: ClassVar[frozenset[str]] = frozenset()
    """What an objective may ask of it: `packing`, `gradient_checkpointing`, `resume`, `merge`."""

    def load(self, ref: ModelRef, head: Head = "lm") -> PreTrainedModel:
        """The base model, in the reference's dtype, from safetensors."""
        return ref.load(head)

    def attach(self, base: PreTrainedModel, also_train: tuple[str, ...] = ()) -> Any:
        """Make `base` trainable the method's way; modules in `also_train` are trained in full."""
        raise NotImplementedError

    def resume(self, base: PreTrainedModel, checkpoint: Path) -> Any:
        """The model of a checkpoint, trainable again (the start of another objective)."""
        raise NotImplementedError

    def save(self, model: Any, folder: Path) -> None:
        """Write the checkpoint in the format of the library that others will load it with."""
        model.save_pretrained(folder)

    def load_trained(self, ref: ModelRef, checkpoint: Path) -> Any:
        """The trained model, ready for inference."""
        raise NotImplementedError

    def switched_off(self, model: Any) -> Any:
        """A context in which the model computes what its base computes; None if there is none."""
        return None

    def trainable_state(self, model: Any) -> dict[str, torch.Tensor]:
        """The tensors that training moves, by name."""
        return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}

    def count_trainable(self, info: ModelInfo) -> int | None:
        """Trainable parameters by formula, from tensor shapes; None when the shapes are unknown."""
        raise NotImplementedError
