"""A loss over the whole batch of an optimizer step, however it is cut into forward passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from harness.objectives.base import TrainerObjective


class WholeBatch:
    """Makes each term of a trainer's loss a mean over the whole batch of an optimizer step.

    transformers takes the mean of the forward passes' own means. Where these are of tokens, or a
    pass holds fewer rows than the others, `gradient_accumulation_steps` would change the loss, and
    with it the weights. Each pass's mean is weighed here by what it is a mean of. Passes of the
    same size weigh 1, and the bits are as they were.
    """

    _passes: int = 1
    _whole: Mapping[str, float] = {}

    def counted(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        """How much of each thing a forward pass holds that a term of the loss is a mean of: its
        `rows`, which weigh the loss as a whole, and what other terms are means of."""
        raise NotImplementedError

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The forward passes of the next optimizer step, as transformers collects them."""
        samples, items = super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]
        whole: Counter[str] = Counter()
        for inputs in samples if len(samples) > 1 else ():
            whole.update(self.counted(inputs))
        self._passes, self._whole = len(samples), whole
        return samples, items

    def share(self, inputs: Mapping[str, Any], of: str = "rows") -> float:
        """A forward pass's weight in the mean over the step's passes; they are 1 on average."""
        whole = self._whole.get(of, 0)
        if not self.model.training or not whole:  # type: ignore[attr-defined]
            return 1.0
        return self.counted(inputs)[of] * self._passes / whole

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The trainer's own loss, weighed."""
        share = self.share(inputs)
        found = super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if share == 1:
            return found
        return (found[0] * share, found[1]) if isinstance(found, tuple) else found * share


def of_passes(objective: TrainerObjective, losses: Iterable[str], why: str) -> tuple[str, ...]:
    """What a reader must know of losses that are defined over a forward pass, where an optimizer
    step has several: the same rows would train otherwise if they were cut otherwise."""
    passes = objective.gradient_accumulation_steps
    if passes == 1 or not (named := sorted(losses)):
        return ()
    return (
        f"loss_type {', '.join(named)} {why}: gradient_accumulation_steps {passes} is part of what"
        " is trained",
    )
