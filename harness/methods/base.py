"""The contract of a method: load, attach, resume, save, load_trained, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.core.component import Component
from harness.core.errors import ModelError
from harness.methods._layers import loaded_layers
from harness.methods._reference import Reference
from harness.models.files import ModelInfo, ModelRef
from harness.models.generation_defaults import keep_asks

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Head = Literal["lm", "score"]
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


class Method(Component):
    """Which weights move. A method knows no objective."""

    axis = "method"
    paper: ClassVar[str] = ""
    traits: ClassVar[frozenset[str]] = frozenset()
    """What may be asked of it: `packing`, `gradient_checkpointing`, `resume` (its checkpoint can
    start another objective), `new_head` (under another head too: a reward model from an SFT),
    `merge` (`merged` works), `copy` (a frozen copy can stand beside it in one model), `swap`
    (several checkpoints can share one loaded base), `mixed_batch` (`harness.adapters` mixes them in
    one batch exactly)."""
    adapts: ClassVar[bool] = True
    """Whether it leaves the base whole and adds to it."""
    reload_tolerance: ClassVar[float] = 1e-5
    """Largest difference of a logit between the trained model and its reloaded checkpoint, relative
    to the largest logit; the same arithmetic runs twice, so next to nothing is left."""

    def lacks(self) -> Mapping[str, str]:
        """Traits that it, or these options of it, cannot have, each with the reason."""
        return {}

    def exceptions(self) -> Mapping[str, str]:
        """Audits whose promise does not hold for it, each with the reason.

        Keys: `starts_at_base` (before training it computes what the base does), `switched_off` (it
        can be switched off), `base_unchanged` (the base's own weights stay as they were).
        """
        return {}

    def refusal(self, trait: str) -> str | None:
        """Why it does not have a trait; None when it does."""
        missing = self.lacks()
        if trait in missing:
            return missing[trait]
        return None if trait in self.traits else f"{self.name} does not carry {trait}"

    def load(self, ref: ModelRef, head: Head = "lm") -> PreTrainedModel:
        """The base model, in the reference's dtype, from safetensors."""
        return ref.load(head)

    def attach(self, base: PreTrainedModel, also_train: tuple[str, ...] = ()) -> Any:
        """Make `base` trainable the method's way; modules in `also_train` are trained in full."""
        raise NotImplementedError

    def resume(
        self, base: PreTrainedModel, checkpoint: Path, also_train: tuple[str, ...] = ()
    ) -> Any:
        """The model of a checkpoint, trainable again (the start of another objective).

        Args:
            also_train: modules of `base` that the checkpoint lacks, and that train in full: the
                score head of a reward model that starts from a language model.
        """
        raise NotImplementedError

    def refill(self, model: Any, checkpoint: Path, also_train: tuple[str, ...] = ()) -> None:
        """Once more the checkpoint's values into a model that `resume` gave, where what trains was
        made float32 since: the first time they were rounded to the model's dtype."""
        raise NotImplementedError

    def keeps_float32(self) -> bool:
        """Whether what trains is float32 whatever the model's dtype (`models.precision`)."""
        return True

    def gates(self, model: Any) -> dict[str, str]:
        """Trainable tensor -> another, through which its gradient passes: none while that is 0."""
        return {}

    def save(self, model: Any, folder: Path) -> None:
        """Write the checkpoint in the format of the library that others will load it with."""
        model.save_pretrained(folder)
        keep_asks(folder, getattr(model, "generation_asks", {}))

    def load_trained(self, ref: ModelRef, checkpoint: Path) -> Any:
        """The trained model, ready for inference; its head is the one it was trained with."""
        raise NotImplementedError

    def merged(self, ref: ModelRef, checkpoint: Path) -> PreTrainedModel:
        """The trained model as one plain model in the reference's dtype, without an adapter.

        Raises:
            ModelError: the method cannot be merged (no trait `merge`).
        """
        reason = self.refusal("merge")
        raise ModelError(
            f"method '{self.name}' cannot be merged: {reason}",
            where=str(checkpoint),
            fix="evaluate it unmerged",
        )

    def switched_off(self, model: Any) -> Any:
        """A context in which the model computes what its base computes; None if there is none."""
        return None

    def added_tokens(self) -> int:
        """Tokens by which every row is longer in the model than in the data."""
        return 0

    def places(self) -> int:
        """Places of the model's context that are not left for text: those of a learned prompt."""
        return int(getattr(self, "num_virtual_tokens", 0))

    def proofs(self, model: Any) -> Mapping[str, tuple[bool, str]]:
        """Audits of this method alone, on the trained model: name -> (holds, what was seen)."""
        return {}

    def unmatched(
        self, model: Any, ref: ModelRef, checkpoint: Path
    ) -> tuple[list[str], list[str]] | None:
        """What loading a checkpoint left out, which libraries pass over with a warning at most.

        Returns:
            Names of tensors that `model`, as `load_trained` gives it, wanted and the files lack,
            and of those in the files that it has no place for; None where it cannot be told.
        """
        return None

    def brought(self, model: Any, checkpoint: Path) -> list[str]:
        """Tensors of the base itself that an adapter's checkpoint brings along, such as those of a
        larger vocabulary."""
        return []

    def trainable_state(self, model: Any) -> dict[str, torch.Tensor]:
        """The tensors that training moves, by name."""
        return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}

    def add_reference(self, model: Any) -> Reference:
        """Keep the model as it is now, frozen, while `model` trains on (PPO's starting policy).

        The reference is a copy of the tensors that training moves, put in their place for one
        forward pass: the base is shared, no adapter is added (so PiSSA does not decompose again),
        and nothing of it is among the model's parameters, its checkpoints or its counts.
        """
        return Reference(model, self.trainable_state(model))

    def describe(self, base: PreTrainedModel) -> ModelInfo:
        """What the formulas below need, from a loaded base that nothing is attached to yet."""
        shapes = {name: tuple(p.shape) for name, p in base.named_parameters()}
        return ModelInfo("", None, {}, base.config.to_dict(), shapes, modules=loaded_layers(base))

    def adapts_head(self, info: ModelInfo) -> bool:
        """Whether it puts an adapter on the language model's head."""
        return False

    def refuse_model(self, info: ModelInfo) -> str | None:
        """Why it cannot train this model, with what to do; None where it can, or may."""
        return None

    def remarks(self, info: ModelInfo) -> tuple[str, ...]:
        """What a user should know of it on this model, though it works."""
        return ()

    def count_trainable(self, info: ModelInfo) -> int | None:
        """Trainable parameters by formula, from tensor shapes; None when the shapes are unknown."""
        raise NotImplementedError

    def state_bytes(self, info: ModelInfo, dtype: str) -> dict[str, int] | None:
        """Bytes of `weights`, `gradients` and `optimizer` (AdamW's two moments) by formula.

        For N base parameters of s bytes and T trainable ones beside them in float32: s N + 4 T,
        4 T and 8 T. None when the shapes are unknown.
        """
        trainable = self.count_trainable(info)
        if info.parameters is None or trainable is None:
            return None
        weights = info.parameters * BYTES[dtype]
        return {
            "weights": weights + 4 * trainable,
            "gradients": 4 * trainable,
            "optimizer": 8 * trainable,
        }
