"""Rows read by a model one beside the other, padded to the longest: any model can."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness.core.device import upload
from harness.inference.batches import budget_batches, padded
from harness.inference.positions import logits_at

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Read = tuple["np.ndarray", "Tensor"]
"""Places of tokens, and the logits there, (places, vocabulary)."""


def marked(size: int, places: np.ndarray | Sequence[int]) -> np.ndarray:
    """(size,) booleans that are true at some places."""
    import numpy as np

    marks = np.zeros(size, dtype=bool)
    marks[places] = True
    return marks


class Flat:
    """Rows laid end to end, which gives each of their tokens a place, as `Trie` does.

    Attributes:
        size: tokens of all rows.
    """

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        import numpy as np

        self.rows = rows
        self._first = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        self.size = int(self._first[-1])

    def places(self, row: int, start: int) -> np.ndarray:
        """The places of a row's tokens from `start` on, as an array."""
        import numpy as np

        return np.arange(self._first[row] + start, self._first[row + 1])


def read_padded(
    model: Any,
    flat: Flat,
    pad: int,
    budget: int,
    reads: np.ndarray,
    costs: np.ndarray | None = None,
) -> Iterator[Read]:
    """Read rows, and yield the logits of some of their places.

    Args:
        budget: padded tokens of a pass.
        reads: (size,) booleans: the places whose logits are wanted.
        costs: what the token of each place costs of the budget. None: 1.
    """
    import numpy as np
    import torch

    lengths = [len(row) for row in flat.rows]
    firsts = [flat.places(row, 0)[0] for row in range(len(lengths))]
    each = np.ones(flat.size) if costs is None else costs
    heavy = [int(np.ceil(each[f : f + n].sum())) for f, n in zip(firsts, lengths, strict=True)]
    for batch in budget_batches(heavy, budget):
        ids, mask = padded([flat.rows[i] for i in batch], pad)
        chosen = np.zeros(ids.shape, dtype=bool)
        places = np.zeros(ids.shape, dtype=np.int64)
        for line, i in enumerate(batch):
            places[line, : lengths[i]] = np.arange(firsts[i], firsts[i] + lengths[i])
            chosen[line, : lengths[i]] = reads[firsts[i] : firsts[i] + lengths[i]]
        ids, mask = (upload(each, model.device) for each in (ids, mask))
        with torch.inference_mode():
            picked = torch.from_numpy(chosen)
            logits = logits_at(model, picked, input_ids=ids, attention_mask=mask)
        yield places[chosen], logits
