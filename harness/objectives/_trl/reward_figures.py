"""Evaluates a reward model on held-out pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

_BINS = 10


@torch.no_grad()
def figures(
    model: Any,
    groups: Sequence[Mapping[str, Any]],
    collate: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, torch.Tensor]],
) -> dict[str, float]:
    """Figures on held-out prompts, named `held_out/...`; each prompt takes one forward pass.

    Args:
        groups: prompts with candidates, pairs, dimensions, and answer lengths in tokens.
        collate: builds a batch from groups.
    """
    training = model.training
    model.eval()
    differences, dimensions, rewards, lengths, longer = [], [], [], [], []
    for group in groups:
        batch = collate([group])
        inputs = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
        scores = model(**inputs, use_cache=False).logits[:, 0].float().cpu().numpy()
        for (better, worse), dimension in zip(group["places"], group["dimensions"], strict=True):
            differences.append(float(scores[better] - scores[worse]))
            dimensions.append(dimension)
            longer.append(np.sign(group["lengths"][better] - group["lengths"][worse]))
        rewards += scores.tolist()
        lengths += group["lengths"]
    model.train(training)
    measured = summary(np.array(differences), np.array(longer), dimensions)
    measured["length_correlation"] = correlation(np.array(rewards), np.array(lengths))
    return {f"held_out/{name}": float(value) for name, value in measured.items()}


def summary(
    differences: np.ndarray, longer: np.ndarray, dimensions: Sequence[str]
) -> dict[str, float]:
    """Accuracy, loss and calibration over pairs.

    Args:
        differences: reward of the better answer minus reward of the worse answer, (pairs,).
        longer: 1 if the better answer is longer, -1 if it is shorter, else 0; (pairs,).
        dimensions: the dimension of each pair, or "".
    """
    right = hits(differences)
    measured = {
        "pairs": len(differences),
        "accuracy": right.mean(),
        "loss": np.logaddexp(0, -differences).mean(),
        "calibration_error": calibration_error(differences),
    }
    apart = longer != 0
    if apart.any():  # how often length and preference agree: in the data, and by the model
        measured["longer_is_better"] = (longer[apart] > 0).mean()
        measured["longer_is_rewarded"] = hits((differences * longer)[apart]).mean()
    names = sorted(set(dimensions) - {""})
    for name in names:
        chosen = np.array([dimension == name for dimension in dimensions])
        measured[f"accuracy/{name}"] = right[chosen].mean()
    return measured


def hits(differences: np.ndarray) -> np.ndarray:
    """1 for a positive difference, 0.5 for a difference of 0, else 0; (pairs,)."""
    return np.where(differences == 0, 0.5, differences > 0)


def calibration_error(differences: np.ndarray) -> float:
    """Difference between predicted and observed preference rates, averaged over pairs.

    A difference d predicts the rate sigmoid(d) (Bradley and Terry, 1952). Pairs are sorted by |d|
    into bins of equal size. In each bin, the mean sigmoid(|d|) is compared with the share of pairs
    in which the answer with the higher reward is the better one (expected calibration error; Guo et
    al., 2017, arXiv:1706.04599, section 2).
    """
    ordered = differences[np.argsort(np.abs(differences), kind="stable")]
    parts = np.array_split(ordered, min(_BINS, len(ordered)))
    gaps = [abs((1 / (1 + np.exp(-np.abs(p)))).mean() - hits(p).mean()) * len(p) for p in parts]
    return float(sum(gaps) / len(differences))


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r; 0 if one of the arrays is constant."""
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
