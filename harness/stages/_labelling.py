"""The labeller of a stage, and the model that it reads."""

from __future__ import annotations

from typing import Annotated, Any

from harness.labellers.base import Labeller
from harness.models.files import ModelPlace
from harness.stages._models import load_beside, model_ref
from harness.stages.base import AddedLater, Job, Member, NotHashed, StageKind
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

    def unhashed(self) -> dict[str, Any]:
        """With every field of the labeller: those that change no label are no part of the stage's
        identity, and a worker needs them."""
        fields = self.labeller.model_dump(mode="json")
        return {**super().unhashed(), "labeller": {"name": self.labeller.name, **fields}}

    def resources(self, asked: Resources) -> Resources:
        reads = self.labeller.reads_model or self.labeller.beside
        return asked if reads else asked.without_gpu()


def labellers_model(job: Job[Labelling]) -> tuple[Any, Any]:
    """Model and tokenizer; None of each for a labeller that reads none."""
    asked, labeller = job.config, job.config.labeller
    for role in labeller.beside:
        return load_beside(job, role, asked.beside[role])
    if asked.model is not None and asked.place is not None:
        ref = model_ref(asked.model, asked.device, asked.place)
        return ref.load("lm"), ref.tokenizer()
    return None, None
