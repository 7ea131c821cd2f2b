"""The contract of an AI labeller: which of two answers to a prompt is the better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from harness.core.component import Component


@dataclass(frozen=True)
class Contest:
    """Two answers to one prompt, in the form their rows have: strings, or lists of messages."""

    prompt: Any
    one: Any
    other: Any


Verdict = float | str
"""Probability that a contest's first answer is the better one, in [0, 1]; or, as a sentence, why
the labeller gave none: those contests are counted by it."""


@dataclass
class LabelJob:
    """What the label stage hands to a labeller.

    Attributes:
        model, tokenizer: what the labeller declares that it reads; None for one that reads none.
        work: a folder that outlives a kill and a failure: answers paid for are kept there.
        cost: figures for the record's cost, such as calls and their tokens.
        figures: figures of the labeller itself for the record, such as its position bias.
    """

    contests: Sequence[Contest]
    progress: Callable[[int, int, str], None]
    work: Path
    model: Any = None
    tokenizer: Any = None
    cost: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


class Labeller(Component):
    """Says which of two answers is better. It knows no objective and no policy."""

    axis = "labeller"
    beside: ClassVar[tuple[str, ...]] = ()
    """Objectives whose models it reads: each a stage of its own, given to `LabelJob.model`."""
    reads_model: ClassVar[bool] = False
    """Whether it reads an untrained model of the suite, which its field `model` names."""

    def label(self, job: LabelJob) -> list[Verdict]:
        """A verdict for each contest, in their order."""
        raise NotImplementedError

    def sequences(self, answers: int) -> int:
        """Texts it reads for a prompt with so many answers, for what it is expected to cost."""
        return answers * (answers - 1)

    def calls_at_once(self) -> int:
        """Requests to another machine that are under way at once, for how long it is expected to
        take; 0 where it makes none."""
        return 0
