"""The train stage: a method and an objective meet, and prove that they did."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from typing import Any, cast

from harness import component
from harness.data.render import layout_of, prompt_row, template_digest
from harness.device import matmul_rate
from harness.errors import StageFailed
from harness.job import Job
from harness.measure import number_count, tensor_bytes
from harness.objectives import _movement
from harness.objectives.base import Objective, TrainJob, TrainResult
from harness.predict import training_flops
from harness.stages import _audit, _audit_movement, _start
from harness.stages._audit_loss import audit_loss, audit_prompts
from harness.stages._fitting import fitting, usable
from harness.stages._own_config import own_config
from harness.stages._reference import reference_file
from harness.stages._room import within
from harness.stages._subject import CHECKPOINT, method_of, model_ref
from harness.stages.data import read_rows

STEP_LOG = "steps.jsonl"


def run(job: Job) -> dict[str, Any]:
    """Train, keep the checkpoint, audit it. Metrics: losses, counts, the audit's findings."""
    with job.ledger.phase("import"):
        import_libraries()
        rate = matmul_rate(job.config["device"], job.config["model"]["dtype"])
    config = job.config
    reset(config["seed"])
    method, objective = method_of(config), objective_of(config)
    ref = model_ref(config["model"], config["device"], job.locators)
    with job.ledger.phase("load"):
        tokenizer = ref.tokenizer()
        base = method.load(ref, objective.head)
        reset(config["seed"])  # loading may draw numbers; attaching must not depend on that
    with job.ledger.phase("data"):
        objective, room = within(objective, method, base.config)
        given = rows_of(job, "train", objective)
        rows, lengths, index = fitting(given, tokenizer, objective, room)
        validation: list[dict[str, Any]] = []
        if job.has("validation"):
            given = rows_of(job, "validation", objective)
            validation, lengths["validation"], _ = fitting(given, tokenizer, objective, room)
        more = {}
        for role in objective.more_data():
            given = read_rows(job.input(role))
            more[role], unusable = usable(given, tokenizer)
            if unusable:
                lengths[role] = {"given": len(given), "unusable": unusable}
    with job.ledger.phase("audit"):
        probe = _audit.probe(tokenizer, rows, config["device"])
        before = _audit.logits(base, probe)
        expected = _audit.expected_trainable(method, base, objective.also_train)
    with job.ledger.phase("attach"):
        origin = _start.starting_point(job)
        model, masters = _start.trainable(method, objective, base, origin)
        beside = _start.given(job, method, objective, model)
    with job.ledger.phase("audit"):
        start = _audit.fingerprint(method.trainable_state(model))
        places = _movement.places(method.trainable_state(model))
        frozen = _audit.fingerprint(_audit.frozen_state(model))
        first = [_audit.declared(method.trainable_state(model), expected)]
        begun = None
        if origin is not None:
            with masters.as_loaded():
                begun = _audit.logits(model, probe)
            first.append(_start.starts_there(method, ref, origin, begun, probe, objective.head))
        require(first)  # before it costs
    gates = method.gates(model)
    result = _train(job, objective, model, tokenizer, rows, validation, more, beside, gates)
    with job.ledger.phase("save"):
        checkpoint = job.folder / CHECKPOINT
        method.save(model, checkpoint)
        tokenizer.save_pretrained(checkpoint)
    evidence, kept = result.evidence, result.metrics.get("kept", {}).get("step")
    if evidence is not None and kept is not None:
        evidence = evidence.as_of(kept)
    with job.ledger.phase("audit"):
        model.eval()
        audit = first[1:] + _audit.audit(
            method, ref, model, checkpoint, probe, before, start, expected, job.folder / STEP_LOG,
            begun, places=places, evidence=evidence, masters=masters,
        )  # fmt: skip
        if objective.may_lack_signal and result.evidence and not result.evidence.signal:
            audit = _audit_movement.excused(audit)
        audit.append(
            _audit_movement.unmoved(frozen, _audit.fingerprint(_audit.frozen_state(model)))
        )
        audit += [*beside.audit(), *(dict(found) for found in result.checks)]
        audit.append(_audit.gradients(result.evidence, objective.may_lack_signal))
        claim = objective.answers_only(str(layout_of(list(rows[0]))))
        audit += audit_loss(tokenizer, index, result.evidence, claim)
        audit.append(audit_prompts(tokenizer, rows))
    job.cost.update(_cost(job, model, result, rate))
    job.provenance["attn_implementation"] = model.config._attn_implementation
    require(audit)
    return {
        **result.metrics,
        "steps": result.steps,
        "rows": lengths,
        "arguments": dict(result.arguments),
        "chat_template": template_digest(tokenizer),
        "audit": audit,
        **({"notes": notes} if (notes := [*_left_out(lengths), *result.notes]) else {}),
    }


def _train(
    job: Job,
    objective: Objective,
    model: Any,
    tokenizer: Any,
    rows: list[dict[str, Any]],
    validation: list[dict[str, Any]],
    more: Mapping[str, list[dict[str, Any]]],
    beside: _start.Given,
    gates: Mapping[str, str],
) -> TrainResult:
    train = TrainJob(
        model=model,
        tokenizer=tokenizer,
        rows=cast(Any, rows),
        validation=cast(Any, validation),
        checkpoints=job.work,
        step_log=job.folder / STEP_LOG,
        seed=job.config["seed"],
        data_seed=job.config["data_seed"],
        dtype=job.config["model"]["dtype"],
        device=job.config["device"],
        checkpoint_seconds=job.resources["checkpoint_seconds"],
        report_to=job.resources["report_to"],
        label=job.spec["label"],
        progress=job.progress,
        note=job.note,
        more_rows=cast(Any, more),
        reference_logits=beside.reference_logits,
        reward_model=beside.reward_model,
        reward_tokenizer=beside.reward_tokenizer,
        value_model=beside.value_model,
        reference_file=reference_file(job),
        gates=gates,
    )
    # TensorBoard's default is beside the checkpoints, which go when the stage is done.
    logs = job.folder.parents[1] / "tensorboard" / job.spec["label"]
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(logs)
    with job.ledger.phase("train"), own_config(model):
        return cast(TrainResult, objective.working_part()(objective, train))


def _left_out(counts: Mapping[str, Any]) -> Iterator[str]:
    """What a reader must know of rows that were not trained on as the suite has them."""
    if counts["over_length"] and "context" in counts:
        yield (
            f"{counts['over_length']} of {counts['given']} rows are over the {counts['context']}"
            f" tokens that the model has room for, where max_length is {counts['max_length']}"
            f" (overlong: {counts['overlong']})"
        )
    for role, own in counts.items():
        if isinstance(own, Mapping) and own.get("unusable") and role != "validation":
            yield (
                f"{sum(own['unusable'].values())} of {own['given']} rows of {role} are left out:"
                f" {'; '.join(own['unusable'])}"
            )
    if "without_loss" in counts:
        yield (
            f"{counts['without_loss']} of {counts['given']} rows have no token in the loss, and"
            " are left out"
        )


def rows_of(job: Job, role: str, objective: Objective) -> list[dict[str, Any]]:
    """A split's rows, of which an objective may read the prompts alone."""
    rows = read_rows(job.input(role))
    return [prompt_row(row) for row in rows] if objective.reads_prompts else rows


def require(audit: list[_audit_movement.Check]) -> None:
    """Raise where a check failed: a training that isn't what it says is no result."""
    failed = [check for check in audit if check["status"] == "failed"]
    if failed:
        raise StageFailed("audit", "; ".join(f"{c['check']}: {c['detail']}" for c in failed))


def objective_of(config: dict[str, Any]) -> Objective:
    """The objective that a stage's config names."""
    fields = {k: v for k, v in config["objective"].items() if k not in ("name", "version")}
    name = config["objective"]["name"]
    declared = cast(type[Objective], component.find("objective", name))
    return component.build_fields(declared, fields, f"objective {name}")


def _cost(job: Job, model: Any, result: TrainResult, rate: float | None) -> dict[str, Any]:
    """`rate`: floating-point operations a second that the device's matrix products reach."""
    total = number_count(model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    flops = training_flops(total, trainable, result.tokens)
    seconds = job.ledger.phases["train"] + result.earlier_seconds
    parts = {
        "weights": tensor_bytes(model.parameters()),
        "gradients": result.gradient_bytes,
        "optimizer": result.optimizer_bytes,
        "activations": result.saved_activation_bytes,
    }
    return {
        "parameters": total,
        "trainable_parameters": trainable,
        "tokens": result.tokens,
        "flops": flops,
        "flops_source": "4ND + 2N'D, N parameters, N' trainable, D tokens (arXiv:2001.08361)",
        "flops_per_second": flops / seconds,
        **_utilization(result, flops, rate),
        "train_seconds": seconds,
        "seconds_per_step": result.seconds_per_step,
        "state": parts,
        "state_bytes": sum(part or 0 for part in parts.values()),
        "checkpoint_bytes": sum(
            path.stat().st_size for path in (job.folder / CHECKPOINT).glob("*.safetensors")
        ),
    }


def _utilization(result: TrainResult, flops: float, rate: float | None) -> dict[str, float]:
    """The share of the device's rate that a usual step reached: model FLOPs utilization (Chowdhery
    et al., 2022, arXiv:2204.02311, appendix B), without attention's own operations."""
    if rate is None or not result.steps or not result.seconds_per_step:
        return {}
    share = flops / result.steps / result.seconds_per_step / rate
    return {"mfu": share, "matmul_flops_per_second": rate}


def import_libraries() -> None:
    """Pay the imports under their own name in the ledger; once a worker."""
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
