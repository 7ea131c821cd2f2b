"""The optimizer steps of a training as plain numbers, to be computed wherever a model is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

IGNORED = -100
"""The label of a token that is not in the loss (torch.nn.CrossEntropyLoss's ignore_index)."""


@dataclass(frozen=True)
class Labelled:
    """A sequence without padding. A label is the token itself, or IGNORED where it is not in the
    loss; that of the first token, which nothing comes before, has no effect."""

    ids: Sequence[int]
    labels: Sequence[int]

    @property
    def learnt(self) -> list[bool]:
        """For each token but the first, whether it is in the loss."""
        return [label != IGNORED for label in self.labels[1:]]


@dataclass(frozen=True)
class OptimizerStep:
    """One update of the weights.

    Attributes:
        learning_rate: of this step, by the schedule.
        passes: the sequences of each forward and backward pass; their gradients are summed.
        labels: tokens that the loss of the step is the mean over.
    """

    learning_rate: float
    passes: Sequence[Sequence[Labelled]]
    labels: int

    @property
    def sequences(self) -> Iterator[Labelled]:
        """All of the step."""
        return (sequence for one in self.passes for sequence in one)

    @property
    def tokens(self) -> int:
        """Tokens that the model reads in it."""
        return sum(len(sequence.ids) for sequence in self.sequences)


@dataclass(frozen=True)
class AdamW:
    """What all steps have in common (Loshchilov and Hutter, 2017, arXiv:1711.05101).

    Attributes:
        max_grad_norm: gradients are clipped to this norm; 0 for no clipping.
    """

    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    max_grad_norm: float


@dataclass(frozen=True)
class Schedule:
    """A whole training, in the order of its steps."""

    steps: Sequence[OptimizerStep]
    optimizer: AdamW

    @property
    def tokens(self) -> int:
        """Tokens that the model reads in all steps."""
        return sum(step.tokens for step in self.steps)
