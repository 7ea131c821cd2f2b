"""Win rates of pairwise verdicts: raw, and as if all answers had the baseline's length.

The length-controlled win rate is AlpacaEval 2's (Dubois et al., 2024, arXiv:2404.04475), for any
baseline and judge. A logistic model predicts each verdict of model m on prompt x,

    P(m wins) = sigmoid(theta_m + phi tanh(d / sd(d)) + psi_m gamma_x),

with d the length of the model's answer less that of the baseline's, and gamma_x the difficulty of
the prompt. The controlled win rate is the mean prediction with d = 0. Like the raw one it is 1/2
for a model against itself, and 1 less the other's for the two exchanged.

Two things that AlpacaEval rests on are not published with its annotations, and are fitted here from
the models at hand:

- The difficulties. AlpacaEval fitted them once over its leaderboard, by this model with psi = 1.
  Here they are fitted so over the *other* models, so that no model's verdicts explain themselves.
  One model alone has no such term.
- What holds phi. AlpacaEval fits it for each model, and adds the annotations of a baseline that was
  told to be brief or wordy. Here it is one number for all models: how this judge takes length.

The penalty is a small ridge, where AlpacaEval cross-validates an L1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from harness.comparison.agreement import mean
from harness.comparison.intervals import Runs, infer
from harness.comparison.result import Estimate
from harness.comparison.statistics import Array, Clusters

_RIDGE = 0.01
"""Penalty on half of each squared coefficient: AlpacaEval's C of 100, where it does not
cross-validate. It also keeps a model that always wins finite."""
_SPREAD = 1.0
"""The standard deviation that difficulties are drawn to, on the scale of log-odds."""


@dataclass(frozen=True)
class Contests:
    """A model's verdicts against a baseline that all models have in common.

    Attributes:
        ids: the prompts, each once.
        won: the probability that the model's answer is better, 1/2 for a tie; shape (n,).
        excess: the length of the model's answer less the baseline's, shape (n,).
        clusters: the cluster of each prompt; empty if each is one by itself.
    """

    ids: Sequence[str]
    won: Array
    excess: Array
    clusters: Sequence[str] = ()

    @property
    def controlled(self) -> Array:
        """The lengths as the logistic model reads them, shape (n,)."""
        spread = float(self.excess.std(ddof=1)) if len(self.excess) > 1 else 0.0
        return np.tanh(self.excess / spread) if spread > 0 else np.zeros(len(self.excess))


@dataclass(frozen=True)
class WinRate:
    """A share of wins, a tie being half of one.

    Attributes:
        error: the standard error of the mean over single prompts, as AlpacaEval reports it.
        discrete: the win rate where every verdict is a win, a loss or a tie.
    """

    estimate: Estimate
    error: float
    discrete: float
    wins: int
    losses: int
    ties: int


def win_rate(won: Array, clusters: Clusters) -> WinRate:
    """The mean of verdicts, with its interval over clusters.

    Args:
        won: the probability that the model's answer is better, 1/2 for a tie; shape (n,).
    """
    inference = mean(won, clusters).within(0.0, 1.0)
    wins, losses = int((won > 0.5).sum()), int((won < 0.5).sum())
    ties = len(won) - wins - losses
    return WinRate(
        Estimate(inference.value, inference.low, inference.high),
        float(won.std(ddof=1) / np.sqrt(len(won))) if len(won) > 1 else float("nan"),
        (wins + ties / 2) / len(won), wins, losses, ties,
    )  # fmt: skip


@dataclass(frozen=True)
class LengthControlled:
    """A length-controlled win rate.

    Attributes:
        length: phi: the log-odds that a far longer answer gains; negative if it loses.
        difficulty: psi of the model; None where no other model tells the prompts' difficulties.
    """

    estimate: Estimate
    length: float
    difficulty: float | None


def length_controlled(models: Mapping[str, Contests]) -> dict[str, LengthControlled]:
    """The win rates that equally long answers would have.

    The intervals are the sandwich's (Huber, 1967): each prompt's influence on the coefficients and
    on the mean prediction, over clusters. The difficulties are taken as known.

    Args:
        models: the verdicts on each model, against the same baseline by the same judge.
    """
    several = len(models) > 1
    blocks = [_design(place, name, models) for place, name in enumerate(models)]
    x, won = np.concatenate(blocks), np.concatenate([c.won for c in models.values()])
    beta, last = _fit(x, won), 2 * len(models)
    influence = _influence(x, won, beta)
    together = Clusters([n for c in models.values() for n in (c.clusters or c.ids)])
    controlled, start = {}, 0
    for place, (name, block) in enumerate(zip(models, blocks, strict=True)):
        even = block.copy()
        even[:, last] = 0.0
        predicted = special.expit(even @ beta)
        moves = influence @ ((predicted * (1 - predicted)) @ even / len(even))
        own = slice(start, start + len(even))
        moves[own] += (predicted - predicted.mean()) / len(even)
        estimate = _estimate(float(predicted.mean()), moves, together)
        psi = float(beta[len(models) + place]) if several else None
        controlled[name] = LengthControlled(estimate, float(beta[last]), psi)
        start += len(even)
    return controlled


def _design(place: int, name: str, models: Mapping[str, Contests]) -> Array:
    """A model's rows of the design, shape (n, 2 models + 1): theta, psi and phi."""
    contests = models[name]
    x = np.zeros((len(contests.ids), 2 * len(models) + 1))
    x[:, place] = 1.0
    x[:, -1] = contests.controlled
    others = [other for key, other in models.items() if key != name]
    if others:
        gamma = difficulties(others)
        x[:, len(models) + place] = [gamma.get(prompt, 0.0) for prompt in contests.ids]
    return x


def _estimate(value: float, moves: Array, together: Clusters) -> Estimate:
    """The interval of a number by how far each row moves it, over clusters of rows."""
    summed = together.sums(moves[:, None])[:, 0] * together.count
    result = infer(Runs(np.asarray([value]), summed[None]), together.count).within(0.0, 1.0)
    return Estimate(result.value, result.low, result.high)


def _fit(x: Array, y: Array) -> Array:
    """The coefficients of a logistic model of shares `y`, with the ridge."""
    from scipy import optimize

    def loss(beta: Array) -> tuple[float, Array]:
        logits = x @ beta
        value = np.logaddexp(0, logits).sum() - y @ logits + _RIDGE / 2 * beta @ beta
        return float(value), x.T @ (special.expit(logits) - y) + _RIDGE * beta

    solved: Any = optimize.minimize(
        loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B",
        options={"ftol": 1e-14, "gtol": 1e-8},
    )  # fmt: skip
    return np.asarray(solved.x)


def _influence(x: Array, y: Array, beta: Array) -> Array:
    """How far each row moves the coefficients, shape of x."""
    predicted = special.expit(x @ beta)
    hessian = (x * (predicted * (1 - predicted))[:, None]).T @ x + _RIDGE * np.eye(len(beta))
    return np.asarray((x * (y - predicted)[:, None]) @ np.linalg.inv(hessian))


def difficulties(models: Sequence[Contests]) -> dict[str, float]:
    """The difficulty of each prompt for all models alike, with mean 0: higher where they win.

    One logistic model over all of them, with psi = 1 and a normal prior on gamma.

    Args:
        models: verdicts against the same baseline.
    """
    from scipy import optimize

    names = list(dict.fromkeys(name for contests in models for name in contests.ids))
    places = {name: place for place, name in enumerate(names)}
    prompt = np.concatenate([[places[name] for name in contests.ids] for contests in models])
    model = np.concatenate([np.full(len(c.ids), i) for i, c in enumerate(models)])
    length = np.concatenate([contests.controlled for contests in models])
    won = np.concatenate([contests.won for contests in models])
    many = len(models)

    def loss(beta: Array) -> tuple[float, Array]:
        theta, phi, gamma = beta[:many], beta[many : 2 * many], beta[2 * many :]
        logits = theta[model] + phi[model] * length + gamma[prompt]
        value = np.logaddexp(0, logits).sum() - won @ logits
        value += _RIDGE / 2 * (theta @ theta + phi @ phi) + gamma @ gamma / (2 * _SPREAD**2)
        off = special.expit(logits) - won
        return float(value), np.concatenate([
            np.bincount(model, off, many) + _RIDGE * theta,
            np.bincount(model, off * length, many) + _RIDGE * phi,
            np.bincount(prompt, off, len(names)) + gamma / _SPREAD**2,
        ])  # fmt: skip

    start = np.zeros(2 * many + len(names))
    solved: Any = optimize.minimize(loss, start, jac=True, method="L-BFGS-B")
    gamma = np.asarray(solved.x)[2 * many :]
    return dict(zip(names, (gamma - gamma.mean()).tolist(), strict=True))
