"""The base class of methods: loading, attaching, resuming, saving, and formulas of the cost."""

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
    """Decides which weights train; independent of the objective."""

    axis = "method"
    paper: ClassVar[str] = ""
    traits: ClassVar[frozenset[str]] = frozenset()
    """What the method supports: `packing`, `gradient_checkpointing`, `resume` (another objective
    can start from its checkpoint), `new_head` (so can a model with another head, such as a reward
    model that starts from an SFT), `merge` (`merged` works), `copy` (a frozen copy can stand beside
    it in one model), `swap` (several checkpoints can share one loaded base), `mixed_batch`
    (`harness.adapters` can mix them in one batch, with the exact results)."""
    at_service: ClassVar[bool] = False
    """True if a service trains its own models (see harness.methods._service). Such a method and a
    model whose files are here make no cell of a matrix, nor do the others and a served model."""
    elsewhere: ClassVar[bool] = False
    """True if a service computes the steps and gives the weights back (see
    harness.methods._elsewhere); all else is done here."""
    adapts: ClassVar[bool] = True
    """True if it adds parameters to a base that stays unchanged."""
    keeps_inputs: ClassVar[bool] = True
    """True if what trains stands beside linear layers of the base (or is these), so that autograd
    keeps their inputs."""
    raises_base: ClassVar[bool] = False
    """True if the base's embeddings and norms are float32 whatever its dtype, and so is what passes
    between its layers."""
    reload_tolerance: ClassVar[float] = 1e-5
    """Largest allowed difference of a logit between the trained model and its reloaded checkpoint,
    relative to the largest logit. The same arithmetic runs twice, so it is almost zero."""

    def lacks(self) -> Mapping[str, str]:
        """Traits that the method lacks, in general or with these options: trait -> reason."""
        return {}

    def exceptions(self) -> Mapping[str, str]:
        """Audits that do not apply to the method: audit -> reason.

        Keys: `starts_at_base` (before training, the outputs equal the base's), `switched_off` (the
        adapter can be switched off), `base_unchanged` (training leaves the base's weights alone).
        """
        return {}

    def refusal(self, trait: str) -> str | None:
        """The reason why the method lacks a trait; None if it has the trait."""
        missing = self.lacks()
        if trait in missing:
            return missing[trait]
        return None if trait in self.traits else f"{self.name} does not carry {trait}"

    def refuse_objective(self, objective: str, start: str | None) -> str | None:
        """The reason why the method cannot train an objective of this name, whatever its options;
        None if it may.

        Args:
            start: the objective whose checkpoint the training goes on from.
        """
        return None

    def load(self, ref: ModelRef, head: Head = "lm") -> PreTrainedModel:
        """The base model, in the reference's dtype, from safetensors."""
        return ref.load(head)

    def attach(self, base: PreTrainedModel, also_train: tuple[str, ...] = ()) -> Any:
        """Make `base` trainable the method's way; modules in `also_train` are trained in full."""
        raise NotImplementedError

    def resume(
        self, base: PreTrainedModel, checkpoint: Path, also_train: tuple[str, ...] = ()
    ) -> Any:
        """Load a checkpoint onto `base`, trainable again: another objective starts from it.

        Args:
            also_train: modules of `base` that the checkpoint lacks and that train in full, such as
                the score head of a reward model that starts from a language model.
        """
        raise NotImplementedError

    def refill(self, model: Any, checkpoint: Path, also_train: tuple[str, ...] = ()) -> None:
        """Copy a checkpoint's values again into a model that `resume` returned.

        `resume` rounds them to the model's dtype; this restores their full precision after the
        trainable parameters were converted to float32.
        """
        raise NotImplementedError

    def keeps_float32(self) -> bool:
        """Whether the trainable parameters are float32 whatever the model's dtype is."""
        return True

    def gates(self, model: Any) -> dict[str, str]:
        """Trainable tensor -> the tensor that its gradient is multiplied by: the first gets no
        gradient while the second is 0."""
        return {}

    def save(self, model: Any, folder: Path) -> None:
        """Write the checkpoint in the format of PEFT or transformers, so that they can load it."""
        model.save_pretrained(folder)
        keep_asks(folder, getattr(model, "generation_asks", {}))

    def load_trained(self, ref: ModelRef, checkpoint: Path) -> Any:
        """Load the trained model for inference, with the head it was trained with."""
        raise NotImplementedError

    def merged(self, ref: ModelRef, checkpoint: Path) -> PreTrainedModel:
        """Load the trained model and merge its adapter into the weights, in the dtype of `ref`.

        Raises:
            ModelError: the method cannot be merged (it lacks the trait `merge`).
        """
        reason = self.refusal("merge")
        raise ModelError(
            f"method '{self.name}' cannot be merged: {reason}",
            where=str(checkpoint),
            fix="evaluate it unmerged",
        )

    def switched_off(self, model: Any) -> Any:
        """A context manager that disables the adapter; None if the method has no such switch."""
        return None

    def added_tokens(self) -> int:
        """Number of tokens that the method adds to every row."""
        return 0

    def places(self) -> int:
        """Number of positions of the model's context that a learned prompt takes from the text."""
        return int(getattr(self, "num_virtual_tokens", 0))

    def kept_numbers(self, info: ModelInfo) -> int:
        """Numbers that autograd keeps for each token for the method's own layers, beside what the
        base's layers keep."""
        return 0

    def proofs(self, model: Any) -> Mapping[str, tuple[bool, str]]:
        """Audits of the trained model for this method alone: name -> (passed, observation)."""
        return {}

    def unmatched(
        self, model: Any, ref: ModelRef, checkpoint: Path
    ) -> tuple[list[str], list[str]] | None:
        """Compare a loaded model with its checkpoint; libraries at most warn of differences.

        Args:
            model: the result of `load_trained`.

        Returns:
            Names of the tensors that are missing in the checkpoint, and of those that only the
            checkpoint has; None where the method cannot tell.
        """
        return None

    def brought(self, model: Any, checkpoint: Path) -> list[str]:
        """Tensors of the base that an adapter's checkpoint holds as well, such as the embeddings
        of a larger vocabulary."""
        return []

    def trainable_state(self, model: Any) -> dict[str, torch.Tensor]:
        """The trainable tensors by name, detached."""
        return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}

    def add_reference(self, model: Any) -> Reference:
        """Return a frozen copy of the model's present state, while `model` trains on (as PPO's
        starting policy).

        Only the trainable tensors are copied; a forward pass of the reference puts the copies in
        their place. The base is shared, no adapter is added (so PiSSA does not decompose again),
        and the copies appear neither in the model's parameters nor in its checkpoints and counts.
        """
        return Reference(model, self.trainable_state(model))

    def describe(self, base: PreTrainedModel) -> ModelInfo:
        """Shapes and config of a loaded base without an adapter, for the formulas below."""
        shapes = {name: tuple(p.shape) for name, p in base.named_parameters()}
        return ModelInfo("", None, {}, base.config.to_dict(), shapes, modules=loaded_layers(base))

    def adapts_head(self, info: ModelInfo) -> bool:
        """Whether the method puts an adapter on the language model's head."""
        return False

    def refuse_model(self, info: ModelInfo) -> str | None:
        """The reason why the method cannot train this model, and the fix; None if no reason is
        known."""
        return None

    def remarks(self, info: ModelInfo) -> tuple[str, ...]:
        """Notes for the user about the method on this model, which can be trained all the same."""
        return ()

    def count_trainable(self, info: ModelInfo) -> int | None:
        """Number of trainable parameters, computed from tensor shapes; None if they are unknown."""
        raise NotImplementedError

    def state_bytes(self, info: ModelInfo, dtype: str) -> dict[str, int] | None:
        """Bytes of `weights`, `gradients` and `optimizer` (AdamW's two moments) by formula.

        With N base parameters of s bytes and T additional trainable parameters in float32 these are
        s N + 4 T, 4 T and 8 T bytes. None if the shapes are unknown.
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
