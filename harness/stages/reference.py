"""The reference stage: what a starting checkpoint gives the pairs that trainings from it read."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Annotated, Any, Self, cast

from harness.core.errors import StageFailed
from harness.core.measure import number_count, tensor_bytes
from harness.core.text import number_of
from harness.data.render import template_digest
from harness.methods.base import Method
from harness.models.files import ModelPlace, ModelRef
from harness.objectives.base import Objective, TrainJob
from harness.stages import _audit, _audit_movement, _companions
from harness.stages._audit_movement import require
from harness.stages._cost import BYTES_A_TOKEN, weights_bytes
from harness.stages._fitting import fitting
from harness.stages._models import model_ref
from harness.stages._prepared import rows_of
from harness.stages._reference import LOGPS
from harness.stages._room import within
from harness.stages.base import AddedLater, Job, Known, Member, NotHashed, StageKind, member_of
from harness.stages.train import import_libraries, reset
from harness.store.stage import Record, Stage


class Reference(StageKind):
    """Log-probabilities of a starting checkpoint over the pairs that trainings from it read."""

    VERSION = 2
    reads = {"train": "*", "start": "train"}
    long = True

    model: dict[str, Any]
    device: str
    """`cpu` or `cuda`."""
    method: Annotated[Method, Member("method")]
    objective: dict[str, Any]
    """Name and version of the objective, and those of its fields that the figures depend on."""
    seed: Annotated[int | None, AddedLater] = None
    """Where a fresh adapter changes the output before it is trained; None: it does not."""
    place: Annotated[ModelPlace, NotHashed]
    """Where the model lies."""

    def expected(self, known: Known, inputs: Mapping[str, Stage]) -> dict[str, float]:
        """Seconds of one forward pass (2 N D) over both answers of each pair, and the weights'
        bytes. How many pairs a ranking makes is unknown until it is read."""
        info, rows = known.model, known.rows
        if info is None or info.parameters is None:
            return {}
        cost = weights_bytes(info, known.dtype)
        if rows.get("layout") != "preference":
            return cost
        # A row's bytes hold its prompt once, and each of its two sequences has it: some 4/3.
        limit = 2.0 * int(self.objective.get("max_length", 1024))
        tokens = rows["rows"] * min(limit, rows["mean_bytes"] / BYTES_A_TOKEN * 4 / 3)
        cost["flops"] = tokens * 2.0 * info.parameters
        for kind in ("reference", "train"):
            if rate := known.rates.flops(kind, info.parameters):
                beside = known.rates.beside("reference", info.parameters)
                return {**cost, "seconds": cost["flops"] / rate, **beside}
        return cost

    @classmethod
    def headline(cls, record: Record) -> str:
        return (
            f"{number_of(record.metrics['pairs'], 'pair')},"
            f" {number_of(record.metrics['tokens'], 'token')}"
        )

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Write the log-probabilities; metrics are counts of rows, pairs and tokens, and the audit.

        The model is made as the training stage makes its own, resumed and not merged, so that both
        begin as the same numbers in the same formats.
        """
        with job.ledger.phase("import"):
            import_libraries()
        objective: Objective = member_of("objective", self.objective)
        if objective.reference is None:
            raise StageFailed("reference", f"{objective.name} computes no reference of its own")
        ref = model_ref(self.model, self.device, self.place)
        with job.ledger.phase("data"):
            tokenizer = ref.tokenizer()
            objective, room = within(objective, self.method, ref.config())
            rows, lengths, _ = fitting(rows_of(job, "train", objective), tokenizer, objective, room)
        model, audit = _started(job, objective, ref, _audit.probe(tokenizer, rows, self.device))
        module, _, name = str(objective.reference).partition(":")
        write = getattr(importlib.import_module(module), name)
        with job.ledger.phase("reference"):
            counts = write(objective, self._work(job, model, tokenizer, rows), job.folder / LOGPS)
        parameters = number_count(model.parameters())
        flops = 2.0 * parameters * counts["tokens"]
        job.cost.update(
            tokens=counts["tokens"],
            flops=flops,
            flops_per_second=flops / job.ledger.phases["reference"],
            parameters=parameters,
            state_bytes=tensor_bytes(model.parameters()),
        )
        template = template_digest(tokenizer)
        return {**counts, "audit": audit, "rows": lengths, "chat_template": template}

    def _work(
        self, job: Job[Self], model: Any, tokenizer: Any, rows: list[dict[str, Any]]
    ) -> TrainJob:
        """What a training stage would hand to its trainer."""
        return TrainJob(
            model=model,
            tokenizer=tokenizer,
            rows=cast(Any, rows),
            validation=[],
            checkpoints=job.work,
            step_log=job.work / "steps.jsonl",
            seed=self.seed or 0,
            data_seed=self.seed or 0,
            dtype=self.model["dtype"],
            device=self.device,
            checkpoint_seconds=job.resources.checkpoint_seconds,
            report_to=[],
            label=job.spec["label"],
            progress=job.progress,
        )


def _started(
    job: Job[Reference], objective: Objective, ref: ModelRef, probe: Any
) -> tuple[Any, list[_audit_movement.Check]]:
    """The model as its training begins, and the check that it computes what its start does.

    Args:
        probe: token ids to see a change with.
    """
    asked, method, start = job.config, job.config.method, _companions.starting_point(job)
    with job.ledger.phase("audit"):
        promise = _companions.promised(method, ref, start, probe, objective.head)
    with job.ledger.phase("load"):
        base = method.load(ref, objective.head)
        reset(asked.seed or 0)
    with job.ledger.phase("attach"):
        model, masters = _companions.trainable(method, objective, base, start)
    if start is None:
        return model, []
    with job.ledger.phase("audit"):
        with masters.as_loaded():
            begun = _audit.logits(model, probe)
        audit = [_companions.starts_there(method, promise, begun)]
        require(audit)
    return model, audit
