"""Loads what a training reads from other stages: its starting checkpoint, and other models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.core.measure import free_leftovers
from harness.methods.base import Method
from harness.models.files import ModelRef
from harness.models.precision import MasterWeights
from harness.objectives.base import Objective
from harness.stages import _audit, _audit_movement
from harness.stages._models import CHECKPOINT, REWARD, START, model_beside, require_files
from harness.stages.base import Job


@dataclass
class Given:
    """Models beside the one that trains, and fingerprints of them before training.

    Attributes:
        reference_logits, reward_model, reward_tokenizer, value_model: as in TrainJob.
        before: name -> fingerprint of its tensors.
    """

    reference_logits: Callable[..., Any] | None = None
    reward_model: Any = None
    reward_tokenizer: Any = None
    value_model: Callable[[], Any] | None = None
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)
    before: dict[str, dict[str, str]] = field(default_factory=dict)

    def keep(self, name: str, tensors: dict[str, Any]) -> None:
        """Remember tensors that training must leave as they are."""
        self.tensors[name], self.before[name] = tensors, _audit.fingerprint(tensors)

    def audit(self) -> list[_audit_movement.Check]:
        """Checks that training left each of them unchanged."""
        return [
            _audit_movement.unmoved(
                before, _audit.fingerprint(self.tensors[name]), f"the {name} stayed"
            )
            for name, before in self.before.items()
        ]


def starting_point(job: Job) -> Path | None:
    """The checkpoint that the training starts from; None if it starts from the base."""
    if not job.has(START):
        return None
    checkpoint = job.input(START) / CHECKPOINT
    require_files(checkpoint)
    return checkpoint


def trainable(
    method: Method, objective: Objective, base: Any, start: Path | None
) -> tuple[Any, MasterWeights]:
    """The model to train: a fresh adapter on the base, or the start's own, trainable again. What
    trains is float32 from here on, and as exact as the start's checkpoint has it."""
    also = (objective.also_train,) if objective.also_train else ()
    if start is None:
        model = method.attach(base, objective.also_train)
    else:
        model = method.resume(base, start, *also)
    masters = MasterWeights(model.parameters() if method.keeps_float32() else ())
    if masters.raised and start is not None:
        method.refill(model, start, *also)
    return model, masters


def promised(method: Method, ref: ModelRef, start: Path | None, ids: Any, head: str) -> Any:
    """Logits of the starting checkpoint on the probe `ids`; None where the stage has none, or
    another head. To be asked for before the stage's own model is there: two would need twice the
    memory."""
    if start is None or head != "lm":
        return None
    logits = _audit.logits(method.load_trained(ref, start), ids).cpu()
    free_leftovers()
    return logits


def starts_there(method: Method, promise: Any, begun: Any) -> _audit_movement.Check:
    """Before the first step the model computes what its starting checkpoint does.

    Args:
        promise: as `promised` gives it. begun: the model's logits, before the first step.
    """
    name = "it starts as its starting checkpoint"
    if promise is None:
        return {"check": name, "status": "skipped", "detail": "it has a head of its own"}
    return _audit.same(name, begun, promise.to(begun.device), method.reload_tolerance)


def given(job: Job, method: Method, objective: Objective, model: Any) -> Given:
    """The starting policy, frozen, and the models beside it, as far as the objective wants them."""
    companions = Given()
    if objective.keeps_reference:
        reference = method.add_reference(model)
        companions.reference_logits = reference.logits
        companions.keep("reference", reference.tensors)
    if job.has(REWARD):
        _reward(job, companions)
    return companions


def _reward(job: Job, companions: Given) -> None:
    method, ref, checkpoint = model_beside(job, REWARD, job.config.beside[REWARD])
    companions.reward_model = method.load_trained(ref, checkpoint).eval().requires_grad_(False)
    companions.reward_tokenizer = ref.tokenizer()
    whole = replace(ref, dtype="float32")  # it trains
    companions.value_model = lambda: method.merged(whole, checkpoint)
    state = {name: p.detach() for name, p in companions.reward_model.named_parameters()}
    companions.keep("reward model", state)
