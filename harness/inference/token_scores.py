"""How likely a model finds the last tokens of rows, whichever way it can read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.core.errors import StageFailed
from harness.inference.batches import LOGITS_BYTES
from harness.inference.packed import read_packed
from harness.inference.padded import Flat, read_padded
from harness.inference.trie import Trie

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

_POSITIONS = 512
"""Positions whose distributions are normalised at once: each is of the whole vocabulary."""


@dataclass(frozen=True)
class Asked:
    """A row of tokens whose last `count` ones are scored; at least one token comes before them."""

    ids: Sequence[int]
    count: int


@dataclass(frozen=True)
class Scored:
    """How likely the scored tokens of a row are.

    Attributes:
        log_prob: the sum of their log-probabilities, in nats.
        greedy: whether each of them is the likeliest token at its place.
    """

    log_prob: float
    greedy: bool


@dataclass
class Work:
    """What was computed, to compare with what another engine computes.

    Attributes:
        rows: rows asked. row_tokens: their tokens that a model would read one row at a time.
        tokens: tokens that passed the model's layers, without padding.
        positions: tokens that passed its head.
    """

    rows: int = 0
    row_tokens: int = 0
    tokens: int = 0
    positions: int = 0


def score_tokens(
    model: Any,
    asked: Sequence[Asked],
    budget: int,
    pad: int,
    *,
    share: bool,
    progress: Callable[[int], None] = lambda done: None,
    work: Work | None = None,
) -> list[Scored]:
    """Score rows, in their order.

    Log-probabilities are normalised in float32 and summed in float64.

    Args:
        budget: tokens of one forward pass.
        pad: the token that fills rows up.
        share: read the rows as a packed tree of shared prefixes; else one beside the other.
        progress: is told how many more tokens have been scored.
        work: is counted up.

    Raises:
        StageFailed: the model's logits are not numbers.
        CannotShare: `share`, and the model can not.
    """
    import numpy as np

    if not asked:
        return []
    inputs = [tuple(row.ids[:-1]) for row in asked]
    unique = {row: number for number, row in enumerate(dict.fromkeys(inputs))}
    rows = list(unique)
    layout = Trie(rows) if share else Flat(rows)
    sums = _Sums(model, [
        layout.places(unique[row], len(row) - each.count)
        for row, each in zip(inputs, asked, strict=True)
    ], [row.ids[-row.count :] for row in asked], progress)  # fmt: skip
    reads = np.zeros(layout.size, dtype=bool)
    reads[sums.places] = True
    costs = np.where(reads, _cost_of_logits(model, budget), 1.0)
    if isinstance(layout, Trie):
        read_packed(model, layout, budget, reads, sums.use, costs)
    else:
        read_padded(model, layout, pad, budget, reads, sums.use, costs)
    if work is not None:
        work.rows += len(asked)
        work.row_tokens += sum(map(len, inputs))
        work.tokens += layout.size
        work.positions += int(reads.sum())
    return sums.results()


def _cost_of_logits(model: Any, budget: int) -> float:
    """What a token whose logits are used costs of a budget: logits need room for themselves."""
    vocabulary = int(model.config.get_text_config().vocab_size)
    return max(1.0, budget * 4 * vocabulary / LOGITS_BYTES)


class _Sums:
    """Collects log-probabilities of targets at places.

    Args:
        places: of each row, those whose logits predict its targets. targets: of each row.
    """

    def __init__(
        self,
        model: Any,
        places: Sequence[np.ndarray],
        targets: Sequence[Sequence[int]],
        progress: Callable[[int], None],
    ) -> None:
        import numpy as np

        counts = [len(row) for row in targets]
        owner = np.repeat(np.arange(len(targets)), counts)
        at = np.concatenate(places)
        order = np.argsort(at, kind="stable")
        self.places = at[order]
        self._owner = owner[order]
        self._target = np.concatenate([np.asarray(row, dtype=np.int64) for row in targets])[order]
        self._sums = np.zeros(len(targets))
        self._greedy = np.ones(len(targets), dtype=bool)
        self._device, self._progress = model.device, progress

    def use(self, places: np.ndarray, logits: Tensor) -> None:
        """Take the logits, (places, vocabulary), of some places."""
        import numpy as np
        import torch

        first = np.searchsorted(self.places, places, side="left")
        counts = np.searchsorted(self.places, places, side="right") - first
        for start in range(0, len(places), _POSITIONS):
            part = slice(start, start + _POSITIONS)
            likely = logits[part].float().log_softmax(-1)
            line = np.repeat(np.arange(len(likely)), counts[part])
            pairs = np.concatenate([
                np.arange(begin, begin + count)
                for begin, count in zip(first[part], counts[part], strict=True)
            ])  # fmt: skip
            lines, targets = (
                torch.from_numpy(each).to(self._device) for each in (line, self._target[pairs])
            )
            values = likely[lines, targets].double().cpu().numpy()
            best = (likely.argmax(-1)[lines] == targets).cpu().numpy()
            np.add.at(self._sums, self._owner[pairs], values)
            np.logical_and.at(self._greedy, self._owner[pairs], best)
            self._progress(len(pairs))

    def results(self) -> list[Scored]:
        import numpy as np

        broken = int(np.isnan(self._sums).sum())
        if broken:
            raise StageFailed(
                "not a number",
                f"{broken} of {len(self._sums)} rows have a log-probability that is not a number",
                fix="look at the training's losses; a model that diverged has no scores",
            )
        return [
            Scored(float(total), bool(greedy))
            for total, greedy in zip(self._sums, self._greedy, strict=True)
        ]
