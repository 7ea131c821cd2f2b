"""The base class of AI labellers, which decide which of two answers to a prompt is better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from harness.core.component import Component


@dataclass(frozen=True)
class Contest:
    """Two answers to one prompt, as strings or as lists of messages, like the rows they are of."""

    prompt: Any
    one: Any
    other: Any


Verdict = float | str
"""The probability, in [0, 1], that a contest's first answer is better; or, if the labeller gives
none, the reason as a sentence. Contests without a verdict are counted by reason."""


@dataclass
class LabelJob:
    """The work that the label stage gives to a labeller.

    Attributes:
        progress: receives (done, total, unit).
        work: a folder that the stages of a store share, for replies that cost money
            (harness.inference.replies).
        model, tokenizer: the model that the labeller declares in `beside` or `reads_model`, else
            None.
        cost: receives figures for the record's cost, such as the number of calls and tokens.
        figures: receives figures about the labeller for the record, such as its position bias.
    """

    contests: Sequence[Contest]
    progress: Callable[[int, int, str], None]
    work: Path
    model: Any = None
    tokenizer: Any = None
    cost: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


class Labeller(Component):
    """Decides which of two answers is better, independent of objective and policy."""

    axis = "labeller"
    beside: ClassVar[tuple[str, ...]] = ()
    """Objectives whose models the labeller reads: each is trained in a separate stage and passed
    as `LabelJob.model`."""
    reads_model: ClassVar[bool] = False
    """Whether the labeller reads an untrained model of the suite, named by its field `model`."""

    def label(self, job: LabelJob) -> list[Verdict]:
        """Return a verdict for each contest, in their order."""
        raise NotImplementedError

    def sequences(self, answers: int) -> int:
        """Number of texts to read for a prompt with so many answers, to estimate the cost."""
        return answers * (answers - 1)

    def calls_at_once(self) -> int:
        """Number of concurrent requests to another machine, to estimate the time; 0 for a local
        labeller."""
        return 0
