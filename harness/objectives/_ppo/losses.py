"""The terms of PPO as pure functions on tensors; each cites its source.

Shapes: B answers, T tokens of the longest answer, V the size of the vocabulary. `mask` is (B, T): 1
on an answer's tokens (including its end-of-sequence token) and 0 on the padding after them. Any
float dtype works, including float64.

Papers: PPO (Schulman et al., 2017, arXiv:1707.06347), GAE (Schulman et al., 2016,
arXiv:1506.02438), InstructGPT (Ouyang et al., 2022, arXiv:2203.02155), Ziegler et al. (2019,
arXiv:1909.08593), Engstrom et al. (2020, arXiv:2005.12729) for details of implementations.
"""

from __future__ import annotations

import torch
from torch import Tensor

KL_ESTIMATORS = ("k1", "k3")


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` (B, T) over the tokens of `mask`, a scalar; 0 if there are no tokens."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def masked_variance(values: Tensor, mask: Tensor) -> Tensor:
    """Unbiased variance (n - 1) over the tokens of `mask`, a scalar; 0 for fewer than two."""
    count = mask.sum()
    squares = ((values - masked_mean(values, mask)) ** 2 * mask).sum()
    return squares / (count - 1).clamp(min=1)


def whiten(values: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Scale `values` (B, T) to variance 1 over `mask`, and to mean 0 if `shift_mean`.

    Ziegler et al., section 2.2 ("we whiten"); unbiased variance and 1e-8 as in TRL. The result is 0
    outside the mask.
    """
    mean = masked_mean(values, mask)
    white = (values - mean) * torch.rsqrt(masked_variance(values, mask) + 1e-8)
    return (white if shift_mean else white + mean) * mask


def token_log_probs(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """log pi(a_t | s_t), (B, T), of `tokens` (B, T) under `logits` (B, T, V) / temperature."""
    scaled = logits / temperature
    picked = scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return picked - torch.logsumexp(scaled, dim=-1)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy of pi(. | s_t) in nats, (B, T), of logits (B, T, V); PPO's S, equation 9."""
    logs = torch.log_softmax(logits / temperature, dim=-1)
    # The log of an impossible token is -inf, and 0 * -inf would be NaN.
    return -(logs.exp() * logs.clamp(min=torch.finfo(logs.dtype).min)).sum(-1)


def kl_estimate(log_probs: Tensor, reference: Tensor, estimator: str) -> Tensor:
    """Estimates of KL(pi || reference) per token, (B, T), from tokens sampled from pi.

    `k1` is log pi - log reference: unbiased, used by InstructGPT and Ziegler et al. `k3` is
    exp(-k1) - 1 + k1: also unbiased, and never negative (Schulman, 2020,
    joschu.net/blog/kl-approx).

    Raises:
        ValueError: the estimator is not known.
    """
    difference = log_probs - reference
    if estimator == "k1":
        return difference
    if estimator == "k3":
        return torch.expm1(-difference) + difference
    raise ValueError(f"no KL estimator {estimator!r}; known: {', '.join(KL_ESTIMATORS)}")


def missing_eos(scores: Tensor, finished: Tensor, penalty: float | None) -> Tensor:
    """Scores (B,), minus `penalty` for answers that were cut; `finished` is (B,).

    Stiennon et al. (2020, arXiv:2009.01325) gave unfinished answers a low fixed reward; a
    subtraction, as in TRL, keeps their order.
    """
    return scores if penalty is None else scores - penalty * (1 - finished.to(scores.dtype))


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """Rewards per token, (B, T): -beta KL_t on every token, plus the score (B,) on the last token.

    InstructGPT, equation 2: r(x, y) - beta log(pi(y|x) / pi_SFT(y|x)), its KL spread over the
    tokens (Ziegler et al., section 2.2).
    """
    rewards = -kl_coef * kl * mask
    last = mask.sum(1).long() - 1
    return rewards.scatter_add(1, last.unsqueeze(1), scores.unsqueeze(1).to(rewards.dtype))


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns, both (B, T) and 0 on padding.

    GAE, equation 16: A_t = sum_l (gamma lam)^l delta_{t+l}, where delta_t = r_t + gamma V_{t+1} -
    V_t (equation 9) and V is 0 after the last token. Returns are A_t + V_t (TD(lambda)).
    """
    values = values * mask
    advantages = torch.zeros_like(values)
    running = torch.zeros_like(values[:, 0])
    following = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * following - values[:, t]
        running = (delta + gamma * lam * running) * mask[:, t]
        advantages[:, t] = running
        following = values[:, t]
    return advantages, (advantages + values) * mask


def policy_terms(log_probs: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """-min(r A, clip(r, 1 - eps, 1 + eps) A) per token, (B, T), with r = pi / pi_old.

    PPO, equation 7, negated to be minimised. The mean over the tokens is the policy loss.
    """
    ratio = torch.exp(log_probs - old)
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def value_terms(values: Tensor, old: Tensor, returns: Tensor, clip: float | None) -> Tensor:
    """Half the squared error per token, (B, T).

    With `clip` it is the larger of two errors: that of V, and that of V limited to V_old +- clip.
    PPO, equation 9 (L^VF); the clipping comes from the published implementation (Engstrom et al.,
    section 2, "value function clipping").
    """
    error = (values - returns) ** 2
    if clip is not None:
        held = old + (values - old).clamp(-clip, clip)
        error = torch.maximum(error, (held - returns) ** 2)
    return 0.5 * error


def clipped_share(log_probs: Tensor, old: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Share of the tokens with a ratio outside 1 - eps to 1 + eps, a scalar."""
    ratio = torch.exp(log_probs - old)
    return masked_mean(((ratio - 1).abs() > clip).to(mask.dtype), mask)


def approximate_kl(log_probs: Tensor, old: Tensor, mask: Tensor) -> Tensor:
    """KL(pi_old || pi) per token since the rollout (k3), a scalar; it decides on early stopping.

    The tokens were sampled from pi_old, so the arguments of `kl_estimate` are exchanged.
    """
    return masked_mean(kl_estimate(old, log_probs, "k3"), mask)


def adapted(kl_coef: float, kl: float, target: float, gain: float) -> float:
    """The next beta of adaptive KL control.

    Ziegler et al., section 2.2: e = clip((KL - target) / target, -0.2, 0.2) and
    beta <- beta (1 + K e); their K is 0.1.

    Args:
        kl, target: in nats per answer.
        gain: K.
    """
    error = min(max((kl - target) / target, -0.2), 0.2)
    return kl_coef * (1 + gain * error)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 - Var(returns - V) / Var(returns) over the tokens, a scalar; 0 if all returns are equal."""
    spread = masked_variance(returns, mask)
    share = 1 - masked_variance(returns - values, mask) / spread
    return torch.where(spread == 0, torch.zeros_like(spread), share)
