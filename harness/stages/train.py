"""The train stage: a method and an objective meet, and prove that they did."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, cast

from harness.core.determinism import float32_restored
from harness.core.device import matmul_rate
from harness.core.measure import free_leftovers
from harness.data.render import layout_of, template_digest
from harness.methods._elsewhere import Elsewhere
from harness.methods.base import Method
from harness.models.files import ModelPlace
from harness.objectives._trl import movement as _movement
from harness.objectives.base import Objective, TrainJob, TrainResult
from harness.stages import _audit, _audit_movement, _companions
from harness.stages._audit_loss import audit_loss, audit_prompts
from harness.stages._audit_movement import require
from harness.stages._elsewhere import computed_elsewhere, expected_elsewhere
from harness.stages._models import CHECKPOINT
from harness.stages._own_config import own_config
from harness.stages._prepared import Prepared, prepared, row_notes
from harness.stages._reference import reference_file
from harness.stages._training_cost import expected_training, training_cost
from harness.stages.base import Job, Known, Member, NotHashed, StageKind
from harness.store.kind import RowCounts
from harness.store.stage import Record, Stage

STEP_LOG = "steps.jsonl"


class Train(StageKind):
    """A training: a method and an objective meet, and prove that they did."""

    VERSION = 5
    purpose = "training"
    reads = {
        "train": "*", "validation": "data", "start": "train", "reference": "reference",
        "reward": "train", "*": "data",
    }  # fmt: skip
    long = True

    model: dict[str, Any]
    """Identity of the base."""
    device: str
    """`cpu` or `cuda`."""
    method: Annotated[Method, Member("method")]
    objective: Annotated[Objective, Member("objective")]
    seed: int
    data_seed: int
    """Of the order of the rows."""
    place: Annotated[ModelPlace, NotHashed]
    """Where the base lies."""
    beside: Annotated[dict[str, ModelPlace], NotHashed] = {}
    """Role of a model that the objective reads -> where that one's base lies."""

    def expected(self, known: Known, inputs: Mapping[str, Stage]) -> dict[str, float]:
        """Seconds, tokens, and bytes of state and checkpoint."""
        if known.model is None:
            return {}
        if isinstance(self.method, Elsewhere):
            return expected_elsewhere(
                known.model, self.method, self.objective, known.rows, known.lengths
            )
        return expected_training(
            known.model, self.method, self.objective, known.rows, known.rates, known.dtype,
            known.lengths,
        )  # fmt: skip

    @classmethod
    def headline(cls, record: Record) -> str:
        # Means of the first and the last tenth of the steps: one batch of a mixture, or of rows
        # that are grouped by length, is of one kind alone.
        first = record.metrics.get("early_loss", record.metrics.get("first_loss"))
        last = record.metrics.get("final_loss")
        if first is None or last is None:  # an objective need not tell them
            return f"{record.metrics['steps']} steps"
        return f"loss {first:.2f} -> {last:.2f}"

    @classmethod
    def row_counts(cls, metrics: Mapping[str, Any]) -> RowCounts | None:
        counts = metrics.get("rows")
        if not isinstance(counts, Mapping) or "trained_on" not in counts:
            return None
        over, drops = counts["over_length"], counts["overlong"] == "drop"
        left_out = {
            **counts.get("unusable", {}),
            "over-long": over if drops else 0,
            "without a token in the loss": counts.get("without_loss", 0),
        }
        return RowCounts(counts["trained_on"], left_out, counts.get("cut", 0 if drops else over))

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Train, keep the checkpoint, audit it. Metrics: losses, counts, the audit's findings.

        The stage never holds two of its own models in memory at the same time. Another model is
        loaded before the training's own, or after that one is freed.
        """
        with job.ledger.phase("import"):
            import_libraries()
            rate = matmul_rate(self.device, self.model["dtype"])
        reset(self.seed)
        ready = prepared(job)
        if isinstance(self.method, Elsewhere):
            return _elsewhere(job, ready)
        result, audit, after = _trained(job, ready, rate)
        free_leftovers()
        with job.ledger.phase("reload"):
            checkpoint = job.folder / CHECKPOINT
            audit.append(_audit.reloads(ready.method, ready.ref, checkpoint, ready.probe, after))
        require(audit)
        return {
            **result.metrics,
            "steps": result.steps,
            "rows": ready.lengths,
            "arguments": dict(result.arguments),
            "chat_template": template_digest(ready.tokenizer),
            "audit": audit,
            **({"notes": notes} if (notes := [*row_notes(ready.lengths), *result.notes]) else {}),
        }


def _elsewhere(job: Job[Train], ready: Prepared) -> dict[str, Any]:
    """The metrics of a training that a service computes."""
    parts = (ready.ref, ready.objective, ready.tokenizer, ready.rows)
    metrics, evidence = computed_elsewhere(job, *parts)
    ready.tokenizer.save_pretrained(job.folder / CHECKPOINT)
    claim = ready.objective.answers_only(str(layout_of(list(ready.rows[0]))))
    audit = [
        *metrics["audit"],
        *audit_loss(ready.tokenizer, ready.index, evidence, claim),
        audit_prompts(ready.tokenizer, ready.rows),
    ]
    require(audit)
    notes = list(row_notes(ready.lengths))
    told = {"rows": ready.lengths, "chat_template": template_digest(ready.tokenizer)}
    return {**metrics, **told, "audit": audit, **({"notes": notes} if notes else {})}


def _trained(
    job: Job[Train], ready: Prepared, rate: float | None
) -> tuple[TrainResult, list[_audit_movement.Check], Any]:
    """Load, attach, train, save: what training says of itself, the audit of the model, and its
    logits on the probe. The model is gone afterwards."""
    method, objective = ready.method, ready.objective
    with job.ledger.phase("load"):
        base = method.load(ready.ref, objective.head)
        # Loading may draw numbers; attaching must not depend on that.
        reset(job.config.seed)
    with job.ledger.phase("audit"):
        before = _audit.logits(base, ready.probe)
        expected = _audit.expected_trainable(method, base, objective.also_train)
    with job.ledger.phase("attach"):
        origin = _companions.starting_point(job)
        model, masters = _companions.trainable(method, objective, base, origin)
        beside = _companions.given(job, method, objective, model)
    with job.ledger.phase("audit"):
        start = _audit.fingerprint(method.trainable_state(model))
        places = _movement.places(method.trainable_state(model))
        frozen = _audit.fingerprint(_audit.frozen_state(model))
        first = [_audit.declared(method.trainable_state(model), expected)]
        begun = None
        if origin is not None:
            with masters.as_loaded():
                begun = _audit.logits(model, ready.probe)
            first.append(_companions.starts_there(method, ready.promise, begun))
        require(first)  # before it costs
    result = _train(job, ready, model, beside)
    with job.ledger.phase("save"):
        method.save(model, job.folder / CHECKPOINT)
        ready.tokenizer.save_pretrained(job.folder / CHECKPOINT)
    evidence, kept = result.evidence, result.metrics.get("kept", {}).get("step")
    if evidence is not None and kept is not None:
        evidence = evidence.as_of(kept)
    with job.ledger.phase("audit"):
        model.eval()
        audit, after = _audit.audit(
            method, model, ready.probe, before, start, expected, job.folder / STEP_LOG,
            begun, places=places, evidence=evidence, masters=masters,
        )  # fmt: skip
        if objective.may_lack_signal and result.evidence and not result.evidence.signal:
            audit = _audit_movement.excused(audit)
        audit.append(
            _audit_movement.unmoved(frozen, _audit.fingerprint(_audit.frozen_state(model)))
        )
        audit += [*beside.audit(), *(dict(check) for check in result.checks)]
        audit.append(_audit.gradients(result.evidence, objective.may_lack_signal))
        claim = objective.answers_only(str(layout_of(list(ready.rows[0]))))
        audit += audit_loss(ready.tokenizer, ready.index, result.evidence, claim)
        audit.append(audit_prompts(ready.tokenizer, ready.rows))
    job.cost.update(training_cost(job, model, result, rate))
    job.provenance["attn_implementation"] = model.config._attn_implementation
    return result, first[1:] + audit, after


def _train(job: Job[Train], ready: Prepared, model: Any, beside: _companions.Given) -> TrainResult:
    objective, tokenizer = ready.objective, ready.tokenizer
    train = TrainJob(
        model=model,
        tokenizer=tokenizer,
        rows=cast(Any, ready.rows),
        validation=cast(Any, ready.validation),
        checkpoints=job.work,
        step_log=job.folder / STEP_LOG,
        seed=job.config.seed,
        data_seed=job.config.data_seed,
        dtype=job.config.model["dtype"],
        device=job.config.device,
        checkpoint_seconds=job.resources.checkpoint_seconds,
        report_to=job.resources.report_to,
        label=job.spec["label"],
        progress=job.progress,
        note=job.note,
        more_rows=cast(Any, ready.more),
        reference_logits=beside.reference_logits,
        reward_model=beside.reward_model,
        reward_tokenizer=beside.reward_tokenizer,
        value_model=beside.value_model,
        reference_file=reference_file(job),
        gates=ready.method.gates(model),
    )
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(tracker_folder(job.folder, job.spec["label"]))
    with job.ledger.phase("train"), own_config(model), float32_restored():
        return cast(TrainResult, objective.working_part()(objective, train))


def tracker_folder(folder: Path, label: str) -> Path:
    """Where TensorBoard's files go: its default is beside the checkpoints, which go when the stage
    is done. Labels hold values of the suite, which lead nowhere else."""
    name = re.sub(r"[^\w .+=@#,()-]", "_", label)[:200].lstrip(".")
    return folder.parents[1] / "tensorboard" / (name or "_")


def import_libraries() -> None:
    """Import the libraries, so that their time has a phase of its own in the ledger."""
    import peft  # noqa: F401
    import trl  # noqa: F401
    from trl import SFTTrainer  # noqa: F401


def reset(seed: int) -> None:
    """A stage's numbers depend on its own seed, not on what the worker ran before."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)
