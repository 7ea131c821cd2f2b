"""A training whose steps a service computes: rows and steps are made here, the weights come back,
and are checked before anything is scored with them."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from harness.core.archives import extract
from harness.core.errors import StageFailed
from harness.core.files import write_atomic
from harness.core.measure import free_leftovers
from harness.data.steps import Labelled, OptimizerStep, Schedule
from harness.inference.download import download
from harness.inference.wire import key_from, masked
from harness.methods._elsewhere import Elsewhere, Weights, Work, plain_lora
from harness.methods._layers import loaded_layers
from harness.methods._peft.shared import CONFIG, WEIGHTS
from harness.models.files import ModelInfo, ModelRef
from harness.objectives.base import Evidence, Objective, TrainJob
from harness.stages import _audit_movement
from harness.stages._audit_checkpoint import audited
from harness.stages._cost import BYTES_A_TOKEN
from harness.stages._models import CHECKPOINT
from harness.stages._stand_in import stand_in
from harness.stages._state import State
from harness.stages.base import Job

Check = _audit_movement.Check
_RETURNED = "returned"
_BESIDE = 2**22
"""Bytes that an adapter's files have beside its numbers, which are float32 at most."""
_SHARE = 0.03
"""Largest difference of a loss that a service computed from that which is computed here, as a share
of it (of 1 where it is smaller): a service computes in a number format of its own."""
_SHOWN = 2


def expected_elsewhere(
    info: ModelInfo, method: Elsewhere, objective: Objective, rows: Mapping[str, Any]
) -> dict[str, float]:
    """Calls, tokens, money and parameters, as far as they are known; a service's time is not.

    Args:
        rows: metrics of the training rows.
    """
    trainable = method.count_trainable(info)
    known = {} if trainable is None else {
        "trainable_parameters": float(trainable), "checkpoint_bytes": 4.0 * trainable
    }  # fmt: skip
    if "mean_bytes" not in rows:
        return known
    steps = objective.steps(rows["rows"])
    passes = int(getattr(objective, "gradient_accumulation_steps", 1))
    batch = int(getattr(objective, "per_device_train_batch_size", 1)) * passes
    length = min(rows["mean_bytes"] / BYTES_A_TOKEN, int(getattr(objective, "max_length", 1024)))
    tokens = steps * min(batch, rows["rows"]) * length
    money = method.price(tokens)
    calls = {"calls": float(steps * (passes + 1)), "tokens": float(int(tokens))}
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
        note=job.note,
    )
    with job.ledger.phase("service"):
        try:
            weights = method.train(work)
        except StageFailed as failed:
            raise _told(failed, key, state) from None
    checks = [log.first, *_returned(job, method, ref, weights, schedule.steps[0], log.losses[0])]
    _audit_movement.require(checks)
    metrics = audited(job, method, ref, job.folder / CHECKPOINT)
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
        return _same_loss("the service starts from this base", self._base, self.losses[0])

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
    module, _, name = objective.schedule.partition(":")
    train = TrainJob(
        model=stand_in(),
        tokenizer=tokenizer,
        rows=cast(Any, rows),
        validation=[],
        checkpoints=job.work,
        step_log=job.work / "steps.jsonl",
        seed=job.config.seed,
        data_seed=job.config.data_seed,
        dtype="float32",
        device="cpu",
        checkpoint_seconds=job.resources.checkpoint_seconds,
        report_to=[],
        label=job.spec["label"],
        progress=lambda done, total, note: None,
    )
    return cast(Schedule, getattr(importlib.import_module(module), name)(objective, train))


def _told(failed: StageFailed, key: str | None, state: State) -> StageFailed:
    """The failure without the key, and with a way to start again."""
    fix = failed.fix
    if not fix and "path" in state.fields:
        step = state.fields["step"]
        fix = f"run again to go on after step {step}, or remove {state.path} to start anew"
    return StageFailed(failed.reason, masked(failed.message, key), fix=masked(fix, key))


def _base_loss(job: Job, method: Elsewhere, ref: ModelRef, schedule: Schedule) -> float:
    """What the base computes here for the first step's rows."""
    with job.ledger.phase("load"):
        base = method.load(ref)
    with job.ledger.phase("audit"):
        loss = _loss(base, schedule.steps[0])
    del base
    free_leftovers()
    return loss


def _returned(
    job: Job,
    method: Elsewhere,
    ref: ModelRef,
    weights: Weights,
    step: OptimizerStep,
    first: float,
) -> list[Check]:
    """Write the adapter that comes back as a checkpoint in PEFT's format.

    Args:
        step: the first one, whose loss after the training the service may have told.
        first: its loss before.

    Raises:
        StageFailed: it is another thing than a LoRA of this rank on these layers.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    with job.ledger.phase("load"):
        base = method.load(ref)
        lora = method.lora(loaded_layers(base))
        model = lora.attach(base)
    wanted = get_peft_model_state_dict(model, save_embedding_layers=False)
    limit = sum(4 * tensor.numel() for tensor in wanted.values()) + _BESIDE
    with job.ledger.phase("download"):
        folder = _fetched(job, weights, limit)
    alpha = _alpha(folder / CONFIG, method)
    tensors = _tensors(folder / WEIGHTS, wanted)
    if alpha != lora.lora_alpha:
        lora = lora.model_copy(update={"lora_alpha": alpha})
        model = lora.attach(model.unload())
    set_peft_model_state_dict(model, tensors)
    with job.ledger.phase("audit"):
        here, short = _loss(model, step), ref.dtype != "float32"
        told = weights.loss
        checks = [] if told is None else [_trained(here, told, first, short)]
    with job.ledger.phase("save"):
        lora.save(model, job.folder / CHECKPOINT)
    del model, base
    free_leftovers()
    return checks


def _fetched(job: Job, weights: Weights, limit: int) -> Path:
    """The folder with the two files of an adapter, downloaded.

    Args:
        limit: largest size of each in bytes.
    """
    folder = job.work / _RETURNED
    folder.mkdir(exist_ok=True)
    bounds: Any = {"limit": limit, "origin": weights.origin, "headers": weights.headers}
    if weights.archive is not None:
        archive = job.work / "returned.tar"
        download(weights.archive, archive, **bounds)
        extract(archive, folder, (CONFIG, WEIGHTS), limit)
        return folder
    for name in (CONFIG, WEIGHTS):
        if name not in weights.files:
            told = ascii(sorted(weights.files)[:5])
            raise StageFailed("weights", f"the service gives no {name}, but {told}")
        download(weights.files[name], folder / name, **bounds)
    return folder


def _alpha(config: Path, method: Elsewhere) -> int:
    try:
        fields = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        raise StageFailed("weights", f"the service's {CONFIG} is no JSON") from None
    known = plain_lora(fields) if isinstance(fields, dict) else "it is no mapping"
    if isinstance(known, str):
        raise StageFailed("weights", f"the service's {CONFIG} is of no plain LoRA: {known[:200]}")
    rank, alpha = known
    if rank != method.r:
        raise StageFailed("weights", f"the service trained rank {rank}, where r is {method.r}")
    return alpha


def _tensors(path: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The adapter's tensors in float32, checked.

    Args:
        wanted: name -> tensor of the shape that it must have.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise StageFailed("weights", f"the service's {WEIGHTS} cannot be read: {error}") from None
    missing, others = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing:
        raise StageFailed("weights", f"the service's adapter has no {missing[0]}")
    if others:
        told = f"{others[0][:200]!a}, of a layer that was not to train"
        raise StageFailed("weights", f"the service's adapter has {told}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            sizes = f"{list(tensor.shape)}, not {list(wanted[name].shape)}"
            raise StageFailed("weights", f"the service's {name} has the shape {sizes}")
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise StageFailed("weights", f"the service's {name} holds numbers that are not finite")
    return {name: tensor.float() for name, tensor in tensors.items()}


def _same_loss(name: str, here: float, there: float) -> Check:
    allowed = _SHARE * max(1.0, abs(here))
    detail = f"the loss of the first step's rows is {there:.4f} there and {here:.4f} here"
    return _audit_movement.check(name, abs(here - there) <= allowed, detail)


def _trained(here: float, there: float, before: float, short: bool) -> Check:
    """Whether the adapter has the loss that it had at the service.

    Where the base is in a short format, an update smaller than the last digit of a layer's output
    is rounded away: the loss may lie anywhere between that and the loss before the training.
    """
    name = "what came back is what the service trained"
    nearest = min(max(here, min(there, before)), max(there, before)) if short else there
    check = _same_loss(name, here, nearest)
    detail = f"the loss of the first step's rows was {before:.4f}, is {there:.4f} there"
    return {**check, "detail": f"{detail} and {here:.4f} here"}


def _loss(model: Any, step: OptimizerStep) -> float:
    """The mean of -log p over a step's labels."""
    import torch

    model.eval()
    total = 0.0
    for row in step.sequences:
        ids = torch.tensor([list(row.ids)], device=model.device)
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        learnt = torch.tensor(row.learnt, device=model.device)
        picked = logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        total -= float(picked[learnt].sum())
    return total / step.labels


def _evidence(schedule: Schedule) -> Evidence:
    """The first batches, as the audit of their tokens reads them."""
    batches = [rows for step in schedule.steps for rows in step.passes][:_SHOWN]
    return Evidence(batches=tuple(_batch(rows) for rows in batches))


def _batch(rows: Iterable[Labelled]) -> dict[str, list[list[int]]]:
    rows = list(rows)
    return {"input_ids": [list(r.ids) for r in rows], "labels": [list(r.labels) for r in rows]}
