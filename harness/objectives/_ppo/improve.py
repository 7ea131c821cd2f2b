"""The gradient steps on one batch of answers."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from harness.core.device import upload
from harness.inference.batches import within_logits
from harness.objectives._ppo import losses
from harness.objectives._ppo.experience import Experience, micro_batches
from harness.objectives._ppo.models import Actor, batch_of
from harness.objectives._ppo.ptx import Pretraining
from harness.objectives._ppo.rollout import derived_seed
from harness.objectives._trl.later import read
from harness.objectives.ppo import Ppo

_SHARES = ("clip_fraction", "approx_kl")


def improve(
    objective: Ppo,
    actor: Actor,
    optimizer: torch.optim.Optimizer,
    batch: Experience,
    general: Pretraining | None,
    step: int,
    pad: int,
) -> dict[str, float]:
    """Take the gradient steps on one batch of answers.

    Args:
        general: the pretraining term of PPO-ptx, if there is one.
        step: number of the step, for the seeds.
        pad: the padding token.

    Returns:
        Figures for the log, as means over the minibatches, and the counts `gradient_steps`,
        `stopped_early` (0 or 1) and `trained_tokens`.
    """
    sums: dict[str, Any] = {}
    done, stopped, trained = 0, 0.0, 0
    for epoch, number, rows in _minibatches(objective, len(batch.old), actor.job.seed, step):
        optimizer.zero_grad()
        figures = _backward(objective, actor, batch, rows, pad)
        limit = objective.stop_kl
        if done and limit is not None and float(figures["approx_kl"]) > limit:
            stopped = 1.0
            break
        trained += sum(len(batch.rollouts.prompts[i] + batch.rollouts.answers[i]) for i in rows)
        if general is not None:
            ptx_loss, tokens = general.backward(len(rows), step, epoch, number)
            figures["ptx_loss"] = ptx_loss
            trained += tokens
        figures |= _clip(objective, actor)
        actor.watches.look(optimizer)
        optimizer.step()
        done += 1
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + value
    optimizer.zero_grad()
    means = {name: total / done for name, total in zip(sums, read(sums.values()), strict=True)}
    loss = means["policy_loss"] + objective.value_coef * means["value_loss"]
    loss -= objective.entropy_coef * means["new_entropy"]
    if general is not None:
        loss += general.coef * means["ptx_loss"]
    counts = {"gradient_steps": float(done), "stopped_early": stopped}
    return {"loss": loss, **means, **counts, "trained_tokens": trained}


def _backward(
    objective: Ppo, actor: Actor, batch: Experience, rows: list[int], pad: int
) -> dict[str, Tensor]:
    """Add the gradient of a minibatch's loss, in passes within the token budget.

    Every term is a mean over the minibatch's tokens, so the split into passes changes rounding
    only.

    Returns:
        The mean of each term, a scalar in float64: numbers are read once for a whole step, or the
        GPU would have no work while the host reads.
    """
    tokens = batch.mask[_index(rows, batch)].sum()
    names = ("policy_loss", "value_loss", "new_entropy", *_SHARES)
    sums = torch.zeros(len(names), dtype=torch.float64, device=tokens.device)
    budget = within_logits(actor.model, objective.batch_tokens)
    for part in micro_batches(batch.rollouts, rows, budget):
        with actor.activations.first():
            loss, means = _loss(objective, actor, batch, part, pad)
            loss = loss / tokens
        loss.backward()
        sums += torch.stack([(means[name] / tokens).detach().double() for name in names])
    return dict(zip(names, sums, strict=True))


def _index(rows: list[int], batch: Experience) -> Tensor:
    return upload(torch.tensor(rows), batch.mask.device)  # type: ignore[no-any-return]


def _loss(
    objective: Ppo, actor: Actor, batch: Experience, rows: list[int], pad: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of some answers and its terms, as sums over the answers' tokens.

    PPO, equation 9, negated: L = -L^CLIP + c_1 L^VF - c_2 S.
    """
    padded = batch_of(
        [batch.rollouts.prompts[i] for i in rows],
        [batch.rollouts.answers[i] for i in rows],
        pad,
        actor.job.device,
    )
    width = padded.tokens.shape[1]
    index = _index(rows, batch)
    mask, old, advantages, values, returns = (
        t[index, :width]
        for t in (batch.mask, batch.old, batch.advantages, batch.values, batch.returns)
    )
    logits, new_values = actor(padded)
    new = losses.token_log_probs(logits, padded.tokens, objective.temperature)
    with torch.set_grad_enabled(objective.entropy_coef > 0):
        entropy = losses.entropy(logits, objective.temperature)
    terms = {
        "policy_loss": losses.policy_terms(new, old, advantages, objective.clip_range),
        "value_loss": losses.value_terms(new_values, values, returns, objective.value_clip_range),
        "new_entropy": entropy,
    }
    sums = {name: (term * mask).sum() for name, term in terms.items()}
    loss = sums["policy_loss"] + objective.value_coef * sums["value_loss"]
    loss = loss - objective.entropy_coef * sums["new_entropy"]
    with torch.no_grad():
        share = losses.clipped_share(new, old, mask, objective.clip_range)
        sums["clip_fraction"] = share * mask.sum()
        sums["approx_kl"] = losses.approximate_kl(new, old, mask) * mask.sum()
    return loss, sums


def _minibatches(
    objective: Ppo, answers: int, seed: int, step: int
) -> Iterator[tuple[int, int, list[int]]]:
    """Yield (epoch, number, indexes of answers) for each minibatch of a step."""
    for epoch in range(objective.ppo_epochs):
        order = list(range(answers))
        random.Random(derived_seed("minibatch", seed, step, epoch)).shuffle(order)
        for number, start in enumerate(range(0, answers, objective.minibatch_size)):
            yield epoch, number, order[start : start + objective.minibatch_size]


def _clip(objective: Ppo, actor: Actor) -> dict[str, Tensor]:
    """Clip the gradients of policy and value separately; return their norms before clipping."""
    norms = {}
    for name, owned in (
        ("grad_norm", actor.policy_parameters()),
        ("value_grad_norm", actor.value_parameters()),
    ):
        limit = objective.max_grad_norm or math.inf
        norms[name] = torch.nn.utils.clip_grad_norm_(owned.values(), limit).double()
    return norms
