"""Shared by all objectives on transformers' Trainer: arguments, step log, checkpoints, counts."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harness.core.errors import StageFailed
from harness.core.files import write_atomic
from harness.objectives._trainer import TrainerObjective
from harness.objectives._trl.budget import HORIZON, Budget, budget_of
from harness.objectives._trl.evidence import Witness
from harness.objectives._trl.keep_best import KeepBest
from harness.objectives._trl.memory import FirstStep, optimizer_bytes
from harness.objectives.base import TrainJob, TrainResult

COMPLETE = "complete"
"""Name of the file that marks a checkpoint as complete; it is written last."""


def arguments(objective: TrainerObjective, job: TrainJob, steps: int) -> dict[str, Any]:
    """The trainer's arguments, set explicitly since the defaults of a library may change.

    Args:
        steps: number of steps of the learning-rate schedule.
    """
    fields = {name: getattr(objective, name) for name in _SHARED}
    return {
        **fields,
        "warmup_steps": math.ceil(steps * objective.warmup_ratio),
        "output_dir": str(job.checkpoints),
        "bf16": job.dtype == "bfloat16",
        "fp16": job.dtype == "float16",
        "tf32": None,
        "use_cpu": job.device == "cpu",
        "seed": job.seed,
        "data_seed": job.data_seed,
        "dataloader_pin_memory": job.device != "cpu",
        "dataloader_num_workers": 0,
        "dataloader_drop_last": False,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "per_device_eval_batch_size": objective.per_device_train_batch_size,
        "report_to": job.report_to,
        "run_name": job.label,
        "disable_tqdm": True,
        **objective.args,
        **({"max_steps": HORIZON} if steps == HORIZON else {}),
        **({"include_num_input_tokens_seen": "non_padding"} if objective.max_tokens else {}),
    }


# These come from the stage's resources and change no result, so they are left out of the record.
_UNHASHED = ("output_dir", "report_to", "run_name")
# Figures that are left out of the step log: times, which differ between runs, and duplicates.
_UNLOGGED = (
    "step", "step_time", "train_runtime", "train_tokens_per_second", "num_input_tokens_seen",
)  # fmt: skip
_SHARED = (
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "lr_scheduler_type", "weight_decay", "max_grad_norm", "optim",
    "adam_beta1", "adam_beta2", "adam_epsilon", "gradient_checkpointing",
    "train_sampling_strategy",
)  # fmt: skip


class StepLog(TrainerCallback):
    """Writes one JSON line per step, which survives a kill, and decides when to save checkpoints.

    Args:
        generation: number of optimizer steps that share a batch of sampled answers; checkpoints are
            saved between batches only, since they do not hold a batch. 0: answers are not sampled.

    Raises:
        StageFailed: the loss of a step is not finite.
    """

    def __init__(self, job: TrainJob, budget: Budget | None = None, generation: int = 0) -> None:
        self.job, self.seconds = job, []  # type: tuple[TrainJob, list[float]]
        self._budget, self._generation = budget, generation
        self._saved = self._began = self._opened = time.monotonic()
        self.earlier = _spent(last_checkpoint(job.checkpoints))
        self._log: Any = None
        self._tokens = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        lines = []
        if self.job.step_log.is_file():
            lines = self.job.step_log.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = lines[: state.global_step]
        write_atomic(self.job.step_log, "".join(kept))
        # On resume, TRL counts tokens from zero again, except in trainings with sampled answers.
        counted = kept and not self._generation
        self._tokens = json.loads(kept[-1]).get("num_tokens", 0.0) if counted else 0.0
        self._log = self.job.step_log.open("a", encoding="utf-8")

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._began = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        now = time.monotonic()
        due = now - self._saved >= self.job.checkpoint_seconds
        whole = state.global_step % max(1, self._generation) == 0
        if due and whole and state.global_step < state.max_steps:
            self._saved, control.should_save = now, True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        # Now the step's loss has been read, so a GPU has done the step. At `on_step_end` it may
        # have only been asked to.
        self.seconds.append(time.monotonic() - self._began)
        kept = {k: v for k, v in logs.items() if k not in _UNLOGGED}
        line = {"step": state.global_step, **kept}
        if "num_tokens" in line:
            line["num_tokens"] += self._tokens
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()
        if not math.isfinite(logs["loss"]):
            raise StageFailed(
                "loss is not a number",
                f"the loss of step {state.global_step} is {logs['loss']}",
                fix="lower the learning rate, raise warmup_ratio, or clip with max_grad_norm",
            )
        done, total = state.global_step, state.max_steps
        if self._budget is not None:
            done, total = int(self._budget.spent), int(self._budget.total)
        self.job.progress(done, total, f"loss {logs['loss']:.3f}")

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        folder = self.job.checkpoints / f"checkpoint-{state.global_step}"
        self._log.flush()
        os.fsync(self._log.fileno())
        log = self.job.step_log.read_text(encoding="utf-8")
        write_atomic(folder / self.job.step_log.name, log)
        write_atomic(folder / COMPLETE, f"{self.earlier + time.monotonic() - self._opened:.3f}")
        for older in self.job.checkpoints.glob("checkpoint-*"):
            if older != folder:
                _remove(older)

    def close(self) -> None:
        """Close the file; safe to call at any time."""
        if self._log is not None:
            self._log.close()


def run(
    make: Callable[..., Trainer],
    objective: TrainerObjective,
    job: TrainJob,
    sequences: int | None = None,
    generation: int = 0,
) -> TrainResult:
    """Train to the end, starting from the last complete checkpoint if there is one.

    Args:
        make: creates the trainer from its arguments (a dict) and callbacks.
        sequences: number of sequences in an epoch, if it is not the number of rows (packing).
        generation: as in StepLog.
    """
    budget = budget_of(objective, job.checkpoints)
    keeper = None
    if objective.keep == "best" and objective.eval_steps:
        keeper = KeepBest(job.model, objective.eval_steps, job.checkpoints)
    log, first = StepLog(job, budget, generation), FirstStep()
    witness = Witness(job.gates, job.checkpoints)
    horizon = HORIZON if budget else objective.steps(sequences or len(job.rows))
    training_args = arguments(objective, job, horizon)
    # The step log comes last: it marks a checkpoint as complete once the others have saved.
    callbacks = [c for c in (first, witness, budget, keeper, log) if c is not None]
    trainer = build_trainer(make, training_args, callbacks, job.model)
    checkpoint = last_checkpoint(job.checkpoints)
    if checkpoint is not None:
        _restore(checkpoint / job.step_log.name, job.step_log)
        job.note(goes_on(step_of(checkpoint)))
    if keeper is not None:
        keeper.restore(checkpoint)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        log.close()
        witness.close()
        first.close()
    # In bfloat16 the accelerator wraps the model in autocast. Remove it: the audits compare the
    # model with its reloaded checkpoint, which computes without autocast.
    trainer.accelerator.unwrap_model(job.model, keep_fp32_wrapper=False)
    steps = [json.loads(line) for line in job.step_log.read_text(encoding="utf-8").splitlines()]
    tenth = max(1, len(steps) // 10)
    early, late = (sum(s["loss"] for s in part) / tenth for part in (steps[:tenth], steps[-tenth:]))
    kept = keeper.finish() if keeper else {"policy": "last", "step": len(steps)}
    return TrainResult(
        steps=len(steps),
        tokens=int(trainer.state.num_input_tokens_seen or _tokens(steps)),
        seconds_per_step=sorted(log.seconds)[len(log.seconds) // 2] if log.seconds else 0.0,
        earlier_seconds=log.earlier,
        saved_activation_bytes=first.activations,
        optimizer_bytes=optimizer_bytes(trainer),
        gradient_bytes=first.gradients,
        arguments={k: v for k, v in training_args.items() if k not in _UNHASHED},
        metrics={
            "first_loss": steps[0]["loss"],
            "early_loss": early,
            "final_loss": late,
            "kept": kept,
            **({"budget": budget.summary()} if budget else {}),
        },
        evidence=witness.evidence(),
    )


def build_trainer(
    make: Callable[..., Trainer], training_args: dict[str, Any], callbacks: list[Any], model: Any
) -> Trainer:
    """Create the trainer, and keep the dtypes of the trainable tensors.

    On a 4-bit base TRL converts all of them to bfloat16, including a score head and an adapter that
    should train in float32.
    """
    before = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
    trainer = make(training_args, callbacks)
    _use_one_gpu(trainer)
    for name, parameter in model.named_parameters():
        if name in before and parameter.dtype != before[name].dtype:
            parameter.data = before[name]
    return trainer


def _use_one_gpu(trainer: Any) -> None:
    """Train on one GPU, however many this process sees. transformers would share each batch among
    them (torch.nn.DataParallel), with as many times more rows in a step."""
    if trainer.args.n_gpu > 1:
        trainer.args._n_gpu = 1
        trainer._train_batch_size = trainer.args.train_batch_size


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None; removes incomplete ones."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if (path / COMPLETE).is_file():
            whole.append(path)
        else:
            _remove(path)
    return max(whole, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """The number of steps done when a checkpoint was written."""
    return int(checkpoint.name.split("-")[1])


def goes_on(step: int) -> str:
    """The note for the user about a training that an earlier run began."""
    return f"goes on after step {step}, from an earlier run's checkpoint"


def _spent(checkpoint: Path | None) -> float:
    """Seconds of training up to a checkpoint, over all attempts."""
    return float((checkpoint / COMPLETE).read_text(encoding="utf-8") or 0) if checkpoint else 0.0


def _restore(saved: Path, step_log: Path) -> None:
    write_atomic(step_log, saved.read_text(encoding="utf-8"))


def _remove(folder: Path) -> None:
    import shutil

    (folder / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _tokens(steps: list[dict[str, Any]]) -> int:
    return int(steps[-1].get("num_tokens", 0)) if steps else 0
