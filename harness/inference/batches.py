"""Batches of token rows within a token budget, in the same way for every use of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness.data.chat_style import end_of_turn_ids

if TYPE_CHECKING:
    from torch import Tensor


LOGITS_BYTES = 2**30
"""Largest size of one forward pass's logits in float32."""


def budget_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield indexes of rows in batches of at most `budget` padded tokens, longest rows first.

    A batch has at least one row, even if that row alone is longer than the budget.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while order:
        size = max(1, budget // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]


def within_logits(model: Any, budget: int) -> int:
    """The token budget, limited so that the logits take at most LOGITS_BYTES.

    With a vocabulary of 152,000 tokens, the logits of 16,384 positions take 10 GB in float32, and
    twice that with their gradient; smaller passes give the same sums.
    """
    vocabulary = int(model.config.get_text_config().vocab_size)
    return max(1, min(budget, LOGITS_BYTES // (4 * vocabulary)))


def padded(rows: Sequence[Sequence[int]], pad: int, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both of shape (rows, longest).

    Args:
        left: pad on the left, so that the answers of all rows start at the same position.
    """
    import torch

    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        start = longest - len(row) if left else 0
        ids[i, start : start + len(row)] = torch.tensor(row, dtype=torch.long)
        mask[i, start : start + len(row)] = 1
    return ids, mask


def counted(
    progress: Callable[[int, int, str], None], total: int, what: str
) -> Callable[[int], None]:
    """`progress` of a scorer, as a function that is told how many more are done."""
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total, what)

    return more


def end_tokens(model: Any, tokenizer: Any, *, chats: bool) -> frozenset[int]:
    """All tokens that end an answer: the tokenizer's eos, the eos tokens of the model's generation
    config and, for chats, the tokens that end a turn in the chat template."""
    config = getattr(model, "generation_config", None)
    listed = config.eos_token_id if config is not None else None
    known = listed if isinstance(listed, list) else [listed]
    turns = end_of_turn_ids(tokenizer) if chats else ()
    return frozenset(i for i in [*known, tokenizer.eos_token_id, *turns] if i is not None)


def pad_token(tokenizer: Any) -> int:
    """The padding token; any token will do if the tokenizer has none, as the mask hides it."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0
