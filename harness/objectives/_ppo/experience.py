"""Prepares sampled answers for the gradient steps: scores, KL, rewards, advantages, returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.core.device import upload
from harness.inference.batches import budget_batches, within_logits
from harness.objectives._ppo import losses
from harness.objectives._ppo.models import Actor, batch_of, reference_logits
from harness.objectives._ppo.rollout import Rollouts
from harness.objectives._trl.later import read
from harness.objectives.ppo import Ppo

Score = Callable[[list[list[int]], list[list[int]]], Tensor]


@dataclass(frozen=True)
class Experience:
    """A batch of answers with the inputs of the gradient steps; tensors are (answers, tokens).

    Attributes:
        mask: 1 on the tokens of the answers.
        old: log-probabilities of the answers' tokens at the rollout.
        values: the values at the rollout.
        figures: means for the log.
    """

    rollouts: Rollouts
    mask: Tensor
    old: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    figures: dict[str, float]


@torch.no_grad()
def experience(
    objective: Ppo, actor: Actor, score: Score, rollouts: Rollouts, kl_coef: float, pad: int
) -> Experience:
    """Score the answers, subtract the KL penalty token by token, and estimate advantages.

    Args:
        score: (prompts, answers) -> scores, (answers,).
        kl_coef: beta, the weight of the KL penalty.
        pad: the padding token.
    """
    job, prompts, answers = actor.job, rollouts.prompts, rollouts.answers
    shape = (len(answers), max(map(len, answers)))
    mask, old, reference, values, entropies = torch.zeros(5, *shape, device=job.device)
    budget = within_logits(actor.model, objective.batch_tokens)
    for rows in micro_batches(rollouts, range(len(answers)), budget):
        batch = batch_of([prompts[i] for i in rows], [answers[i] for i in rows], pad, job.device)
        logits, own_values = actor(batch)
        index, width = upload(torch.tensor(rows), mask.device), batch.tokens.shape[1]
        starting = reference_logits(job, batch)
        for whole, part in (
            (mask, batch.mask.float()),
            (old, losses.token_log_probs(logits, batch.tokens, objective.temperature)),
            (reference, losses.token_log_probs(starting, batch.tokens, objective.temperature)),
            (values, own_values),
            (entropies, losses.entropy(logits, objective.temperature)),
        ):
            whole[index, :width] = (part * batch.mask).to(whole.dtype)

    scores = score(prompts, answers).to(old.dtype)
    finished = upload(torch.tensor(rollouts.finished), mask.device)
    judged = losses.missing_eos(scores, finished, objective.missing_eos_penalty)
    kl = losses.kl_estimate(old, reference, objective.kl_estimator) * mask
    rewards = losses.token_rewards(judged, kl, mask, kl_coef)
    if objective.whiten_rewards:
        rewards = losses.whiten(rewards, mask, shift_mean=False)
    advantages, returns = losses.gae(rewards, values, mask, objective.gamma, objective.lam)
    explained = losses.explained_variance(values, returns, mask)
    if objective.whiten_advantages:
        advantages = losses.whiten(advantages, mask)
    distinct = len(set(map(tuple, answers))) / len(answers)
    figures = {
        "reward": scores.mean(),
        "reward_less_kl": (judged - kl_coef * kl.sum(1)).mean(),
        "kl": kl.sum(1).mean(),
        "entropy": losses.masked_mean(entropies, mask),
        "explained_variance": explained,
        "response_length": mask.sum(1).mean(),
        "eos_rate": finished.float().mean(),
        "distinct_answers": torch.full((), distinct, device=mask.device),
    }
    means = dict(zip(figures, read(figures.values()), strict=True))
    return Experience(rollouts, mask, old, values, advantages, returns, means)


def micro_batches(rollouts: Rollouts, rows: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield `rows` (indexes of answers) in batches within the token budget."""
    lengths = [len(rollouts.prompts[i]) + len(rollouts.answers[i]) for i in rows]
    for batch in budget_batches(lengths, budget):
        yield [rows[i] for i in batch]
