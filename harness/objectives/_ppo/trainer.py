"""PPO from top to bottom: rollouts, scores, advantages, gradient steps, the log.

`train` follows InstructGPT (arXiv:2203.02155), section 3.5 and appendix C.4. The equations are in
losses.py. A batch of answers goes through experience.py and then improve.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from harness.core.errors import DataError
from harness.core.measure import tensor_bytes
from harness.data.render import asked_ids
from harness.inference.context import context_of
from harness.objectives._ppo import collapse, losses, state
from harness.objectives._ppo.experience import experience
from harness.objectives._ppo.improve import improve
from harness.objectives._ppo.log import Log
from harness.objectives._ppo.models import Actor, answer_ends, autocast, reward_room, scorer
from harness.objectives._ppo.optimizer import optimizer_of, set_rates
from harness.objectives._ppo.ptx import Pretraining
from harness.objectives._ppo.rollout import (
    Sampling,
    derived_seed,
    drawn,
    sample,
)
from harness.objectives._trl.trainer import goes_on
from harness.objectives.base import TrainJob, TrainResult
from harness.objectives.ppo import Ppo
from harness.objectives.ppo_ptx import PpoPtx


def train(objective: Ppo, job: TrainJob) -> TrainResult:
    """Train `job.model` in place, starting from the last complete checkpoint if there is one.

    Raises:
        StageFailed: the job has no reward model or reference, the policy collapses, or a figure is
            not a finite number.
    """
    pad = _pad(job)
    prompts, dropped = _prompts(objective, job)
    score = scorer(job, pad, objective.batch_tokens)
    actor = Actor(objective, job)
    optimizer = optimizer_of(objective, actor)
    general = _pretraining(objective, job, pad)
    how = Sampling(
        answer_ends(job), pad, objective.max_new_tokens,
        objective.temperature, objective.top_p, objective.batch_tokens,
    )  # fmt: skip
    steps = objective.steps(len(prompts))
    at = state.restore(job.checkpoints, actor, optimizer, job.step_log)
    if at is not None:
        job.note(goes_on(at.step))
    at = at or state.Progress(0, objective.kl_coef)
    seconds, saved, earlier = [], time.monotonic(), at.seconds
    with Log(job, at.step) as log:
        while at.step < steps:
            began, step = time.monotonic(), at.step
            torch.manual_seed(derived_seed("step", job.seed, step))
            rate = set_rates(objective, optimizer, step, steps)

            chosen = drawn(len(prompts), objective.rollout_batch_size, step, job.data_seed)
            seeds = [derived_seed("answer", job.seed, step, i) for i in range(len(chosen))]
            with autocast(job):
                rollouts = sample(job.model, [prompts[i] for i in chosen], seeds, how)
            batch = experience(objective, actor, score, rollouts, at.kl_coef, pad)
            figures = batch.figures | improve(
                objective, actor, optimizer, batch, general, step, pad
            )

            at.step, at.tokens = step + 1, at.tokens + int(figures.pop("trained_tokens"))
            line = {**figures, "kl_coef": at.kl_coef, "learning_rate": rate}
            log.write(at.step, steps, {**line, "num_tokens": at.tokens})
            collapse.require_finite(line, at.step)
            if objective.kl_control == "adaptive":
                at.kl_coef = losses.adapted(
                    at.kl_coef, figures["kl"], objective.kl_target, objective.kl_gain
                )
            sign = collapse.sign(objective, figures, rollouts.answers)
            at.bad = at.bad + 1 if sign else 0
            if sign and at.bad >= objective.collapse_patience:
                raise collapse.verdict(sign, at.step, objective.collapse_patience)
            seconds.append(time.monotonic() - began)
            at.seconds += seconds[-1]
            if time.monotonic() - saved >= job.checkpoint_seconds and at.step < steps:
                state.save(job.checkpoints, actor, optimizer, at, job.step_log)
                saved = time.monotonic()
        result = _result(objective, actor, optimizer, log.lines(), seconds, dropped)
        return replace(result, earlier_seconds=earlier)


def _pad(job: TrainJob) -> int:
    tokenizer = job.tokenizer
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def _prompts(objective: Ppo, job: TrainJob) -> tuple[list[list[int]], int]:
    """Token ids of the prompts that leave room for an answer, and the number of dropped prompts.

    Raises:
        DataError: a prompt is too long and `overlong` is `error`, or all prompts are too long.
    """
    contexts = (context_of(job.model), reward_room(job))
    room = min([objective.max_length, *(known for known in contexts if known is not None)])
    room -= objective.max_new_tokens
    prompts = [asked_ids(job.tokenizer, row) for row in job.rows]
    kept = [prompt for prompt in prompts if 0 < len(prompt) <= room]
    dropped = len(prompts) - len(kept)
    if not kept or (dropped and objective.overlong == "error"):
        longest = max(map(len, prompts), default=0)
        raise DataError(
            f"{dropped} of {len(prompts)} prompts are empty or leave no room for max_new_tokens"
            f" {objective.max_new_tokens} (the longest has {longest} tokens; at most {room} fit)",
            fix="lower max_new_tokens, raise max_length within the contexts of policy and reward"
            " model, or set overlong: drop",
        )
    return kept, dropped


def _pretraining(objective: Ppo, job: TrainJob, pad: int) -> Pretraining | None:
    """The term of PPO-ptx; None for plain PPO or a coefficient of 0."""
    if isinstance(objective, PpoPtx) and objective.ptx_coef > 0:
        return Pretraining(objective, job, pad)
    return None


def _result(
    objective: Ppo,
    actor: Actor,
    optimizer: torch.optim.Optimizer,
    lines: Sequence[dict[str, float]],
    seconds: Sequence[float],
    dropped: int,
) -> TrainResult:
    first, tail = lines[0], lines[-max(1, len(lines) // 10) :]
    shown = ("loss", "reward", "kl", "entropy", "response_length", "clip_fraction")
    metrics: dict[str, float] = {"prompts_dropped": dropped}
    for name in shown:
        metrics[f"first_{name}"] = first[name]
        metrics[f"final_{name}"] = sum(line[name] for line in tail) / len(tail)
    metrics["sampled_tokens"] = sum(
        line["response_length"] * objective.rollout_batch_size for line in lines
    )
    policy = list(actor.policy_parameters().values())
    parameters = [*policy, *actor.value_parameters().values()]
    kept = [t for values in optimizer.state.values() for t in values.values() if torch.is_tensor(t)]
    if not actor.shared:
        metrics["value_model_parameters"] = sum(p.numel() for p in parameters[len(policy) :])
    return TrainResult(
        steps=len(lines),
        tokens=int(lines[-1]["num_tokens"]),
        seconds_per_step=sorted(seconds)[len(seconds) // 2] if seconds else 0.0,
        saved_activation_bytes=actor.activations.bytes,
        optimizer_bytes=tensor_bytes(kept),
        gradient_bytes=sum(p.numel() * p.element_size() for p in parameters),
        arguments=objective.model_dump(mode="json"),
        metrics=metrics,
        evidence=actor.watches.evidence(),
        checks=actor.watches.value_checks(actor.value_parameters()),
    )
