"""The labeller of a stage, and the model that it reads."""

from __future__ import annotations

from typing import Annotated, Any

from harness.labellers.base import Labeller
from harness.models.files import ModelPlace
from harness.stages._cost import BYTES_A_TOKEN, weights_bytes
from harness.stages._models import load_beside, model_ref
from harness.stages.base import AddedLater, Job, Known, Member, NotHashed, StageKind
from harness.store.stage import Resources


class Labelling(StageKind):
    """A kind whose stages ask a labeller."""

    long = True

    device: str
    """`cpu` or `cuda`."""
    labeller: Annotated[Labeller, Member("labeller")]
    """Who is asked."""
    model: Annotated[dict[str, Any] | None, AddedLater] = None
    """Identity of the untrained model that the labeller reads."""
    place: Annotated[ModelPlace | None, NotHashed] = None
    """Where that model lies."""
    beside: Annotated[dict[str, ModelPlace], NotHashed] = {}
    """Role of a trained model that the labeller reads -> where its base lies."""

    def resources(self, asked: Resources) -> Resources:
        reads = self.labeller.reads_model or self.labeller.beside
        return asked if reads else asked.without_gpu()

    def reading(
        self, known: Known, answers: int, prompts: int | None, max_new_tokens: int
    ) -> dict[str, float]:
        """Expected cost of the verdicts on `answers` answers to each prompt: calls and their
        seconds where another machine is asked, else forward passes (2 N D) over texts of a prompt
        and two answers, and the weights' bytes.

        Args:
            prompts: the first so many rows are read; None: all.
            max_new_tokens: tokens of an answer, beside the mean row.
        """
        info, rows = known.model, known.rows
        cost = {} if info is None else weights_bytes(info, known.dtype)
        if "mean_bytes" not in rows:
            return cost
        sequences = min(rows["rows"], prompts or rows["rows"]) * self.labeller.sequences(answers)
        if self.labeller.calls_at_once():
            calls, rate = float(sequences), known.rates.calls()
            return {**cost, "calls": calls, **({"seconds": calls / rate} if rate else {})}
        if info is not None and info.parameters is not None:
            tokens = rows["mean_bytes"] / BYTES_A_TOKEN + max_new_tokens
            cost["flops"] = sequences * tokens * 2.0 * info.parameters
            rate = known.rates.flops("train", info.parameters)
            cost |= {} if rate is None else {"seconds": cost["flops"] / rate}
        return cost


def labellers_model(job: Job[Labelling]) -> tuple[Any, Any]:
    """Model and tokenizer; None of each for a labeller that reads none."""
    asked, labeller = job.config, job.config.labeller
    for role in labeller.beside:
        return load_beside(job, role, asked.beside[role])
    if asked.model is not None and asked.place is not None:
        ref = model_ref(asked.model, asked.device, asked.place)
        return ref.load("lm"), ref.tokenizer()
    return None, None
