"""Losses at their edges: no token, one token, a border of a clip; and figures kept in a file."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.core.errors import StageFailed
from harness.objectives._ppo import losses
from harness.objectives._ppo.losses import adapted, clipped_share, masked_mean, masked_variance
from harness.objectives._trl.logps import Logps, tokens_digest

ROW = torch.tensor([[1.0, 2.0, 4.0, 9.0]])
NONE, ONE, THREE = (torch.tensor([own]).float() for own in ([0] * 4, [0, 1, 0, 0], [1, 1, 1, 0]))


def test_means_and_variances_of_few_tokens() -> None:
    means = [masked_mean(ROW, mask).item() for mask in (NONE, ONE, THREE)]
    assert means == pytest.approx([0.0, 2.0, 7 / 3])
    assert [masked_variance(ROW, mask).item() for mask in (NONE, ONE)] == [0.0, 0.0]
    assert masked_variance(ROW, THREE).item() == pytest.approx(ROW[0, :3].var().item())
    white = losses.whiten(ROW, THREE)
    assert white[0, 3] == 0
    assert (masked_mean(white, THREE).item(), masked_variance(white, THREE).item()) == (
        pytest.approx((0.0, 1.0), abs=1e-6)
    )
    kept = losses.whiten(ROW, THREE, shift_mean=False)
    assert masked_mean(kept, THREE).item() == pytest.approx(7 / 3)


def test_probabilities_are_of_logits_as_they_are_unless_a_temperature_is_said() -> None:
    logits, tokens = torch.tensor([[[0.0, 1.0, 3.0]]]), torch.tensor([[1]])
    plain, warm = (torch.log_softmax(logits / t, -1)[0, 0] for t in (1.0, 2.0))
    assert losses.token_log_probs(logits, tokens).item() == pytest.approx(plain[1].item())
    assert losses.token_log_probs(logits, tokens, 2.0).item() == pytest.approx(warm[1].item())
    assert losses.entropy(logits).item() == pytest.approx(-(plain.exp() * plain).sum().item())


@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
def test_probabilities_and_entropies_of_many_tokens_are_those_of_torchs_distribution(
    temperature: float,
) -> None:
    draws = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 3, 5, generator=draws, dtype=torch.float64)
    tokens = torch.randint(0, 5, (2, 3), generator=draws)
    known = torch.distributions.Categorical(logits=logits / temperature)
    torch.testing.assert_close(
        losses.token_log_probs(logits, tokens, temperature), known.log_prob(tokens)
    )
    torch.testing.assert_close(losses.entropy(logits, temperature), known.entropy())


def test_values_of_two_tokens_vary_and_equal_ones_do_not() -> None:
    pair = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    assert masked_variance(ROW, pair).item() == pytest.approx(0.5)  # 1 and 2
    assert losses.whiten(torch.full((1, 4), 7.0), THREE).tolist() == [[0.0] * 4]


@pytest.mark.parametrize("advantage", [-2.0, 0.5])
def test_policy_gains_by_a_ratio_up_to_the_clip_and_loses_by_all_of_it(advantage: float) -> None:
    """A better token gains until 1 + eps, a worse one until 1 - eps."""
    for ratio in (0.1, 0.79, 0.81, 1.0, 1.19, 1.21, 5.0):
        held = min(ratio, 1.2) if advantage > 0 else max(ratio, 0.8)
        found = losses.policy_terms(
            torch.tensor(math.log(ratio) - 1.5), torch.tensor(-1.5), torch.tensor(advantage), 0.2
        )
        assert found.item() == pytest.approx(-held * advantage, rel=1e-5)


@pytest.mark.parametrize(
    ("value", "old", "target", "clip", "cost"),
    [
        (4.0, 0.0, 1.0, None, 4.5), (-2.0, 0.0, 1.0, None, 4.5),
        (1.25, 1.0, 0.0, 0.5, 0.5 * 1.25**2), (0.75, 1.0, 0.0, 0.5, 0.5 * 0.75**2),
        (4.0, 1.0, 4.0, 0.5, 0.5 * 2.5**2), (-3.0, 1.0, -3.0, 0.5, 0.5 * 3.5**2),
    ],
)  # fmt: skip
def test_value_is_charged_as_if_it_had_moved_by_the_clip_at_most(
    value: float, old: float, target: float, clip: float | None, cost: float
) -> None:
    entered = (torch.tensor(number) for number in (value, old, target))
    assert losses.value_terms(*entered, clip).item() == pytest.approx(cost)


def test_values_explain_all_of_the_returns_or_nothing() -> None:
    mask, returns = torch.ones(1, 3), torch.tensor([[0.0, 1.0, 2.0]])
    for values, share in (([0.0, 1.0, 2.0], 1.0), ([5.0, 5.0, 5.0], 0.0), ([2.0, 1.0, 0.0], -3.0)):
        found = losses.explained_variance(torch.tensor([values]), returns, mask)
        assert found.item() == pytest.approx(share)
    level = torch.full((1, 3), 4.0)
    assert losses.explained_variance(returns, level, mask).item() == 0.0


def test_share_of_clipped_tokens_is_of_those_outside_the_range() -> None:
    old, mask = torch.zeros(1, 4), torch.ones(1, 4)
    new = torch.log(torch.tensor([[1.5, 0.5, 1.1, 0.9]]))
    assert clipped_share(new, old, mask, 0.2).item() == 0.5
    assert clipped_share(new, old, THREE, 0.2).item() == pytest.approx(2 / 3)


def test_beta_moves_by_a_fifth_of_the_gain_at_most() -> None:
    for kl, factor in ((6.0, 1.0), (6.6, 1.01), (60.0, 1.02), (0.0, 0.98), (5.4, 0.99)):
        assert adapted(0.5, kl, 6.0, 0.1) == pytest.approx(0.5 * factor)


def test_clipped_value_costs_the_larger_error_and_half_of_it() -> None:
    values, old, returns = (torch.tensor([[own]]) for own in (2.0, 0.0, 1.0))
    assert losses.value_terms(values, old, returns, None).item() == 0.5
    assert losses.value_terms(values, old, returns, 0.5).item() == 0.5
    assert losses.value_terms(torch.tensor([[0.9]]), old, returns, 0.5).item() == pytest.approx(
        0.125
    )


def test_no_estimator_of_another_name() -> None:
    with pytest.raises(ValueError, match="no KL estimator 'k2'"):
        losses.kl_estimate(ROW, ROW, "k2")
    found = losses.kl_estimate(ROW, ROW - 0.5, "k3")
    assert found[0].tolist() == pytest.approx([math.exp(-0.5) - 1 + 0.5] * 4)


# --- figures of a reference -----------------------------------------------------------------------

PAIR: dict[str, Any] = {"prompt_ids": [1, 2], "chosen_ids": [3, 4], "rejected_ids": [5]}


def test_digest_is_of_all_that_enters_the_model() -> None:
    own = tokens_digest(PAIR, 9)
    assert own == hashlib.sha256(json.dumps([2, [1, 2, 3, 4], [1, 2, 5]]).encode()).digest()
    assert tokens_digest({**PAIR, "chosen_unlearnt": [], "rejected_unlearnt": ()}, 9) == own
    assert tokens_digest(PAIR, 4) == own
    others = [
        tokens_digest({**PAIR, **changes}, limit)
        for changes, limit in (
            ({"prompt_ids": [1], "chosen_ids": [2, 3, 4], "rejected_ids": [2, 5]}, 9),
            ({"chosen_ids": [3, 5]}, 9), ({"rejected_ids": [6]}, 9), ({}, 3), ({}, 2),
            ({"chosen_unlearnt": [1]}, 9), ({"rejected_unlearnt": [1]}, 9),
        )
    ]  # fmt: skip
    assert len({own, *others}) == 8


def test_figures_are_found_by_tokens_and_kept_in_a_file(tmp_path: Path) -> None:
    digests = [tokens_digest({**PAIR, "rejected_ids": [i]}, 9) for i in range(3)]
    made = Logps(
        ("a", "b", "c"), torch.tensor([list(own) for own in digests], dtype=torch.uint8),
        torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-4.0, -5.0, -6.0]),
    )  # fmt: skip
    made.save(tmp_path / "logps.safetensors")
    found = Logps.load(tmp_path / "logps.safetensors")
    assert found.rows == made.rows
    assert found.of([("c", digests[2]), ("a", digests[0])]) == ([-3.0, -1.0], [-6.0, -4.0])
    for row, said in (("b", "row b has other tokens than when"), ("d", "has not read row d")):
        with pytest.raises(StageFailed, match=f"{said}.*; it has figures for 3 pairs"):
            found.of([(row, b"0" * 32)])
