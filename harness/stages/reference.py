"""The reference stage: what a starting checkpoint gives the pairs that trainings from it read."""

from __future__ import annotations

import importlib
from typing import Any, cast

from harness.core.errors import StageFailed
from harness.core.measure import number_count, tensor_bytes
from harness.data.render import template_digest
from harness.objectives.base import TrainJob
from harness.stages import _audit
from harness.stages import _companions as _start
from harness.stages._fitting import fitting
from harness.stages._models import method_of, model_ref
from harness.stages._reference import LOGPS
from harness.stages._room import within
from harness.stages.base import Job
from harness.stages.train import (
    import_libraries,
    objective_of,
    require,
    reset,
    rows_of,
)


def run(job: Job) -> dict[str, Any]:
    """Write the log-probabilities; metrics are counts of rows, pairs and tokens, and the audit.

    The model is made as the training stage makes its own, resumed and not merged, so that both
    begin as the same numbers in the same formats.
    """
    with job.ledger.phase("import"):
        import_libraries()
    config = job.config
    seed = config.get("seed", 0)
    method, objective = method_of(config), objective_of(config)
    if objective.reference is None:
        raise StageFailed("reference", f"{objective.name} computes no reference of its own")
    module, _, name = objective.reference.partition(":")
    ref = model_ref(config["model"], config["device"], job.locators)
    with job.ledger.phase("data"):
        tokenizer = ref.tokenizer()
        objective, room = within(objective, method, ref.config())
        rows, lengths, _ = fitting(rows_of(job, "train", objective), tokenizer, objective, room)
    start = _start.starting_point(job)
    with job.ledger.phase("audit"):
        probe = _audit.probe(tokenizer, rows, config["device"])
        promise = _start.promised(method, ref, start, probe, objective.head)
    with job.ledger.phase("load"):
        base = method.load(ref, objective.head)
        reset(seed)
    with job.ledger.phase("attach"):
        model, masters = _start.trainable(method, objective, base, start)
    audit = []
    if start is not None:
        with job.ledger.phase("audit"):
            with masters.as_loaded():
                begun = _audit.logits(model, probe)
            audit = [_start.starts_there(method, promise, begun)]
            require(audit)
    given = TrainJob(
        model=model,
        tokenizer=tokenizer,
        rows=cast(Any, rows),
        validation=[],
        checkpoints=job.work,
        step_log=job.work / "steps.jsonl",
        seed=seed,
        data_seed=seed,
        dtype=config["model"]["dtype"],
        device=config["device"],
        checkpoint_seconds=job.resources["checkpoint_seconds"],
        report_to=[],
        label=job.spec["label"],
        progress=job.progress,
    )
    write = getattr(importlib.import_module(module), name)
    with job.ledger.phase("reference"):
        found = write(objective, given, job.folder / LOGPS)
    flops = 2.0 * number_count(model.parameters()) * found["tokens"]
    job.cost.update(
        tokens=found["tokens"],
        flops=flops,
        flops_per_second=flops / job.ledger.phases["reference"],
        parameters=number_count(model.parameters()),
        state_bytes=tensor_bytes(model.parameters()),
    )
    return {**found, "audit": audit, "rows": lengths, "chat_template": template_digest(tokenizer)}
