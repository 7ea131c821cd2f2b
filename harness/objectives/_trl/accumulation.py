"""A loss over the whole batch of a step, independent of the split into forward passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from harness.objectives._trainer import TrainerObjective


class WholeBatch:
    """Makes each term of a trainer's loss a mean over the whole batch of an optimizer step.

    transformers averages the means of the forward passes. If these are means over tokens, or a pass
    has fewer rows than the others, `gradient_accumulation_steps` would change the loss and so the
    weights. Here each pass's mean is weighted by the number of its elements. Passes of equal size
    have weight 1, and their loss stays the same, bit for bit.
    """

    _passes: int = 1
    _whole: Mapping[str, float] = {}

    def counted(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        """The numbers of elements in a forward pass that the loss's terms are means over.

        Returns:
            `rows`, which weights the loss as a whole, and further names for other terms.
        """
        raise NotImplementedError

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Collect the forward passes of the next optimizer step, and count their elements."""
        samples, items = super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]
        whole: Counter[str] = Counter()
        for inputs in samples if len(samples) > 1 else ():
            whole.update(self.counted(inputs))
        self._passes, self._whole = len(samples), whole
        return samples, items

    def share(self, inputs: Mapping[str, Any], of: str = "rows") -> float:
        """A forward pass's weight in the mean over the step's passes; the average weight is 1."""
        whole = self._whole.get(of, 0)
        if not self.model.training or not whole:  # type: ignore[attr-defined]
            return 1.0
        return self.counted(inputs)[of] * self._passes / whole

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The trainer's loss times the weight of this forward pass."""
        share = self.share(inputs)
        loss = super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if share == 1:
            return loss
        return (loss[0] * share, loss[1]) if isinstance(loss, tuple) else loss * share


def of_passes(objective: TrainerObjective, losses: Iterable[str], why: str) -> tuple[str, ...]:
    """A note for losses that are defined over one forward pass, if a step has several.

    With another split into passes, the same rows would train differently.

    Args:
        losses: the `loss_type`s of this kind that the objective uses.
        why: the reason, a verb phrase.
    """
    passes = objective.gradient_accumulation_steps
    if passes == 1 or not (named := sorted(losses)):
        return ()
    return (
        f"loss_type {', '.join(named)} {why}: gradient_accumulation_steps {passes} is part of what"
        " is trained",
    )
