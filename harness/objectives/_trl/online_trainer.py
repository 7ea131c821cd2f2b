"""GRPO and RLOO through TRL's trainers; the reference is the checkpoint where training starts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset
from transformers import Trainer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.trainer import grpo_trainer, rloo_trainer

from harness.core.errors import DataError, StageFailed
from harness.data.render import asked_ids
from harness.data.row import Row
from harness.inference.decoding import suite_alone
from harness.objectives._online import Online
from harness.objectives._ppo.models import answer_ends, reward_room, scorer
from harness.objectives._reward_functions import FUNCTIONS
from harness.objectives._trl.accumulation import of_passes
from harness.objectives._trl.start_as_reference import (
    as_it_is,
    forget_reference,
    start_as_reference,
)
from harness.objectives._trl.trainer import run
from harness.objectives.base import TrainJob, TrainResult
from harness.objectives.grpo import Grpo

_SCORED_TOKENS = 16384


def train(objective: Online, job: TrainJob) -> TrainResult:
    """Train `job.model` in place.

    Raises:
        DataError: a prompt leaves no room for an answer and `overlong` is `error`, or there are too
            few prompts for one batch.
        StageFailed: the job has no reward, or a reward is not finite.
    """
    rows, dropped = _prompts(objective, job)
    # The index of a prompt stands for it, so that TRL does not encode any text.
    prompts = [{"prompt": str(i), "place": i} for i in range(len(rows))]
    ids = [asked_ids(job.tokenizer, row) for row in rows]
    rewards = _rewards(objective, job, rows, ids)
    grpo = isinstance(objective, Grpo)
    trainer_class, config, module = (
        (GRPOTrainer, GRPOConfig, grpo_trainer) if grpo else (RLOOTrainer, RLOOConfig, rloo_trainer)
    )

    def make(training_args: dict[str, Any], callbacks: list[TrainerCallback]) -> Trainer:
        with as_it_is(job.model, module), start_as_reference(module, job.model):
            return _tokenised(trainer_class, ids)(
                model=job.model,
                reward_funcs=rewards,
                args=config(**{**_arguments(objective), **training_args}),
                train_dataset=Dataset.from_list(prompts),
                processing_class=job.tokenizer,
                callbacks=callbacks,
            )

    try:
        kept = replace(job, rows=list(rows))
        with suite_alone(job.model, answer_ends(job)):
            result = run(make, objective, kept, generation=objective.steps_a_batch)
    finally:
        forget_reference(job.model)
    counts = {"prompts": len(rows), "prompts_dropped": dropped}
    local = {"bnpo"} & {getattr(objective, "loss_type", "")}
    notes = of_passes(objective, local, "is a mean of each forward pass's tokens (dapo: of all)")
    metrics = {**result.metrics, **counts, **_figures(job)}
    return replace(result, metrics=metrics, notes=notes)


def _arguments(objective: Online) -> dict[str, Any]:
    names = ["num_generations", "num_iterations", "temperature", "top_p", "epsilon", "beta",
             "mask_truncated_completions", "disable_dropout"]  # fmt: skip
    if isinstance(objective, Grpo):
        names += ["loss_type", "scale_rewards", "importance_sampling_level", "epsilon_high"]
    else:
        names += ["normalize_advantages", "reward_clip_range"]
    return {
        **{name: getattr(objective, name) for name in names},
        "max_completion_length": objective.max_new_tokens,
        "steps_per_generation": objective.passes,
        "shuffle_dataset": objective.train_sampling_strategy == "random",
        "top_k": 0,
        "min_p": None,
        "repetition_penalty": 1.0,
        "sync_ref_model": False,
        "remove_unused_columns": False,
        "log_completions": False,
    }


def _tokenised(trainer: Any, ids: Sequence[list[int]]) -> Any:
    """A subclass of the trainer that reads a prompt as an index into `ids`."""

    class Tokenised(trainer):  # type: ignore[misc]
        def _tokenize_prompts(self, prompts: Sequence[str]) -> tuple[list[list[int]], None, Any]:
            return [list(ids[int(place)]) for place in prompts], None, {}

    return Tokenised


def _prompts(objective: Online, job: TrainJob) -> tuple[list[Row], int]:
    """Rows with prompts that leave room for an answer, and the number of dropped rows.

    Raises:
        DataError: a row was dropped and `overlong` is `error`, or too few rows are left.
    """
    policy_context = getattr(job.model.config, "max_position_embeddings", None)
    contexts = (policy_context, reward_room(job))
    room = min([objective.max_length, *(known for known in contexts if known is not None)])
    room -= objective.max_new_tokens
    kept = [row for row in job.rows if 0 < len(asked_ids(job.tokenizer, row)) <= room]
    dropped = len(job.rows) - len(kept)
    if dropped and objective.overlong == "error":
        raise DataError(
            f"{dropped} of {len(job.rows)} prompts leave no room for max_new_tokens"
            f" {objective.max_new_tokens} (at most {room} tokens fit)",
            fix="lower max_new_tokens, raise max_length, or set overlong: drop",
        )
    if len(kept) < objective.prompts_a_batch:
        raise DataError(
            f"{len(kept)} prompts ({dropped} left no room for an answer) are fewer than the"
            f" {objective.prompts_a_batch} that one batch of answers needs",
            fix="lower per_device_train_batch_size or max_new_tokens, or give more rows",
        )
    return kept, dropped


def _rewards(
    objective: Online, job: TrainJob, rows: Sequence[Row], ids: Sequence[list[int]]
) -> list[Callable[..., Any]]:
    """Reward functions for TRL: (prompts, completions, completion_ids, columns of the rows) ->
    rewards.

    Raises:
        StageFailed: the job has neither a reward model nor reward functions.
    """
    if objective.reward_functions:
        return [_named(name, rows) for name in objective.reward_functions]
    if job.reward_model is None:
        raise StageFailed(
            "reward", f"{objective.name} was given no reward model",
            fix="train `reward`, or name `reward_functions`",
        )  # fmt: skip
    pad = job.tokenizer.pad_token_id
    score = scorer(job, job.tokenizer.eos_token_id if pad is None else pad, _SCORED_TOKENS)

    def reward_model(place: Sequence[int], completion_ids: Any, **_: Any) -> list[float]:
        asked = [ids[i] for i in place]
        return [_number(value) for value in score(asked, completion_ids).tolist()]

    return [reward_model]


def _named(name: str, rows: Sequence[Row]) -> Callable[..., list[float]]:
    function = FUNCTIONS[name]

    def reward(completions: Any, place: Sequence[int], **_: Any) -> list[float]:
        texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
        pairs = zip(texts, place, strict=True)
        return [_number(function(text, rows[i])) for text, i in pairs]

    reward.__name__ = name
    return reward


def _number(value: float) -> float:
    if not math.isfinite(value):
        raise StageFailed("reward", f"a reward is {value}", fix="look at the reward model's record")
    return value


def _figures(job: TrainJob) -> dict[str, float]:
    """First and final figures of the step log, and how often all answers to a prompt had the same
    reward.

    The figures of a batch are in the line of the first step that trained on it.
    """
    lines = [json.loads(line) for line in job.step_log.read_text(encoding="utf-8").splitlines()]
    names = {"reward": "reward", "kl": "kl", "response_length": "completions/mean_length"}
    figures: dict[str, float] = {}
    for name, column in names.items():
        values = [line[column] for line in lines if column in line]
        if values:
            tail = values[-max(1, len(values) // 10) :]
            figures |= {f"first_{name}": values[0], f"final_{name}": sum(tail) / len(tail)}
    equal = [line["frac_reward_zero_std"] for line in lines if "frac_reward_zero_std" in line]
    figures["groups_without_signal"] = sum(equal) / len(equal)
    figures["batches_without_signal"] = sum(share == 1 for share in equal)
    return figures
