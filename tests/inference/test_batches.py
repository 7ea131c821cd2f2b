"""Batches of a token budget, and of what a model's logits take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.inference.batches import LOGITS_BYTES, budget_batches, within_logits


def model_of(vocabulary: int) -> Any:
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=vocabulary))
    return SimpleNamespace(config=config)


@pytest.mark.parametrize("vocabulary", [260, 1024, 49_152, 128_256, 151_936, 262_144])
def test_logits_of_one_pass_stay_within_a_gibibyte(vocabulary: int) -> None:
    lengths = [900, 64, 500, 17] * 64
    budget = within_logits(model_of(vocabulary), 16_384)
    for batch in budget_batches(lengths, budget):
        tokens = len(batch) * max(lengths[i] for i in batch)
        assert 4 * tokens * vocabulary <= LOGITS_BYTES or len(batch) == 1


def test_small_vocabularies_keep_their_batches() -> None:
    assert within_logits(model_of(1024), 16_384) == 16_384
    assert within_logits(model_of(10**10), 16_384) == 1
