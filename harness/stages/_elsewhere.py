"""A training whose steps a service computes: rows and steps are made here, the weights come back,
and are checked before anything is scored with them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from harness.core.errors import StageFailed
from harness.core.files import write_atomic
from harness.core.measure import free_leftovers
from harness.data.steps import Labelled, Schedule
from harness.inference.wire import key_from, masked
from harness.methods._elsewhere import Elsewhere, Work
from harness.models.files import ModelInfo, ModelRef
from harness.objectives.base import Evidence, Objective
from harness.stages import _audit_movement
from harness.stages._audit_checkpoint import audited
from harness.stages._models import CHECKPOINT
from harness.stages._put_back import Check, loss_of, put_back, same_loss
from harness.stages._stand_in import ask_trainer
from harness.stages._state import State
from harness.stages._training_rows import accumulated, epochs, sequences
from harness.stages.base import Job

_SHOWN = 2


def expected_elsewhere(
    info: ModelInfo,
    method: Elsewhere,
    objective: Objective,
    rows: Mapping[str, Any],
    lengths: Sequence[int] = (),
) -> dict[str, float]:
    """Calls, tokens, money and parameters, as far as they are known; a service's time is not.

    Args:
        rows: metrics of the training rows.
        lengths: tokens of each row; until they are measured they are guessed by bytes.
    """
    trainable = method.count_trainable(info)
    known = {} if trainable is None else {
        "trainable_parameters": float(trainable), "checkpoint_bytes": 4.0 * trainable
    }  # fmt: skip
    if "mean_bytes" not in rows:
        return known
    read = sequences(objective, rows, lengths, info.context)
    tokens = epochs(objective, read.count) * read.tokens
    money, calls_a_step = method.price(tokens), accumulated(objective) + 1
    calls = {
        "calls": float(objective.steps(read.count) * calls_a_step),
        "tokens": float(int(tokens)),
    }
    return {**known, **calls, **({} if money is None else {"money": money})}


def computed_elsewhere(
    job: Job, ref: ModelRef, objective: Objective, tokenizer: Any, rows: list[dict[str, Any]]
) -> tuple[dict[str, Any], Evidence]:
    """Have a service compute the training, and leave its weights as the stage's checkpoint.

    Args:
        objective: with its lengths within the model's context. rows: those that fit.

    Returns:
        Metrics with the audit of the checkpoint, and the first batches for that of their tokens.

    Raises:
        StageFailed: the service refuses or fails, or gives back something else.
    """
    method = cast(Elsewhere, job.config.method)
    key, state = key_from(method.api_key_env), State.of(job)
    with job.ledger.phase("data"):
        schedule = _schedule(job, objective, tokenizer, rows)
    log = _Log(
        job, schedule, _base_loss(job, method, ref, schedule), state.fields.get("losses", ())
    )
    work = Work(
        model=None if ref.revision is None else ref.source,
        schedule=schedule,
        seed=job.config.seed,
        key=key,
        state=state.fields,
        keep=state.keep,
        done=log.done,
        note=lambda text: job.note(masked(text, key)),
    )
    try:
        with job.ledger.phase("service"):
            weights = method.train(work)
        back = put_back(job, method, ref, weights, schedule.steps[0], log.losses[0])
        checks = [log.first, *back]
        _audit_movement.require(checks)
        metrics = audited(job, method, ref, job.folder / CHECKPOINT)
    except StageFailed as failed:
        raise _told(failed, key, state) from None
    tokens, money = schedule.tokens, method.price(schedule.tokens)
    job.provenance["service"] = method.base_url
    job.cost.update(
        {
            # As of trainings here, with what was added.
            "parameters": job.cost["parameters"] + job.cost["trainable_parameters"],
            "tokens": tokens,
            "train_seconds": state.fields["seconds"],
            "peak_memory": {},  # the service's is not told, and that of the audits is another thing
            **({} if money is None else {"money": money}),
        }
    )
    told = {
        "service": dict(weights.about),
        "arguments": objective.model_dump(mode="json", exclude={"start", "data"}),
        "audit": [*checks, *metrics["audit"]],
    }
    return {**metrics, **log.metrics(), **told}, _evidence(schedule)


class _Log:
    """The step log: a line for each step that the service has computed, in earlier attempts too.

    Args:
        base: the base's loss on the first step's rows, as it is computed here.
        losses: those of earlier attempts.
    """

    def __init__(self, job: Job, schedule: Schedule, base: float, losses: Iterable[float]) -> None:
        self._job, self._schedule, self._base = job, schedule, base
        self._path = job.folder / "steps.jsonl"
        self.losses: list[float] = list(losses)
        self._tokens = 0
        lines = [self._line(number, loss) for number, loss in enumerate(self.losses, 1)]
        write_atomic(self._path, "".join(lines))

    def done(self, number: int, loss: float) -> None:
        """Add a step.

        Raises:
            StageFailed: its loss is not finite, or the first one is not the base's.
        """
        self.losses.append(loss)
        line = self._line(number, loss)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)
        if not math.isfinite(loss):
            raise StageFailed(
                "loss is not a number", f"the loss of step {number} is {loss}",
                fix="lower the learning rate, raise warmup_ratio, or clip with max_grad_norm",
            )  # fmt: skip
        if number == 1 and self.first["status"] == "failed":  # before more of it is paid for
            raise StageFailed(
                "audit", f"{self.first['check']}: {self.first['detail']}",
                fix="name the same weights as the service has them with the method's base_model",
            )  # fmt: skip
        self._job.progress(number, len(self._schedule.steps), f"loss {loss:.3f}")

    @property
    def first(self) -> Check:
        """Whether the service trains this model on these tokens."""
        return same_loss("the service starts from this base", self._base, self.losses[0])

    def metrics(self) -> dict[str, Any]:
        """Losses of the beginning and the end, as of trainings here."""
        losses = self.losses
        tenth = max(1, len(losses) // 10)
        early, late = (sum(part) / tenth for part in (losses[:tenth], losses[-tenth:]))
        kept = {"policy": "last", "step": len(losses)}
        return {
            "first_loss": losses[0], "early_loss": early, "final_loss": late, "kept": kept,
            "steps": len(losses),
        }  # fmt: skip

    def _line(self, number: int, loss: float) -> str:
        step = self._schedule.steps[number - 1]
        self._tokens += step.tokens
        line = {"step": number, "loss": loss, "learning_rate": step.learning_rate,
                "num_tokens": self._tokens}  # fmt: skip
        return json.dumps(line) + "\n"


def _schedule(
    job: Job, objective: Objective, tokenizer: Any, rows: list[dict[str, Any]]
) -> Schedule:
    """The steps that the objective's trainer would take here."""
    assert objective.schedule is not None, "a plan refuses it"
    return cast(Schedule, ask_trainer(objective.schedule, objective, job, tokenizer, rows))


def _told(failed: StageFailed, key: str | None, state: State) -> StageFailed:
    """The failure without the key, and with a way to start again."""
    fix = failed.fix
    if not fix and "weights" in state.fields:
        fix = f"run again to fetch the weights again, or remove {state.path} to train anew"
    elif not fix and "path" in state.fields:
        step = state.fields["step"]
        fix = f"run again to go on after step {step}, or remove {state.path} to start anew"
    return StageFailed(failed.reason, masked(failed.message, key), fix=masked(fix, key))


def _base_loss(job: Job, method: Elsewhere, ref: ModelRef, schedule: Schedule) -> float:
    """What the base computes here for the first step's rows."""
    with job.ledger.phase("load"):
        base = method.load(ref)
    with job.ledger.phase("audit"):
        loss = loss_of(base, schedule.steps[0])
    del base
    free_leftovers()
    return loss


def _evidence(schedule: Schedule) -> Evidence:
    """The first batches, as the audit of their tokens reads them."""
    batches = [rows for step in schedule.steps for rows in step.passes][:_SHOWN]
    return Evidence(batches=tuple(_batch(rows) for rows in batches))


def _batch(rows: Iterable[Labelled]) -> dict[str, list[list[int]]]:
    rows = list(rows)
    return {"input_ids": [list(r.ids) for r in rows], "labels": [list(r.labels) for r in rows]}
