"""How likely a model finds the last tokens of rows, whichever way it can read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.core.device import upload
from harness.core.errors import StageFailed
from harness.inference.batches import LOGITS_BYTES
from harness.inference.packed import read_packed
from harness.inference.padded import Flat, Read, marked, read_padded
from harness.inference.sharing import Sharing, sharing_of
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


Measure = Callable[["Tensor", "Tensor"], "Tensor"]
"""Two models' logits of the same places, (places, vocabulary) each -> a number for each place."""


def score_tokens(
    model: Any,
    asked: Sequence[Asked],
    budget: int,
    pad: int,
    *,
    sharing: Sharing | None = None,
    progress: Callable[[int], None] = lambda done: None,
    work: Work | None = None,
) -> list[Scored]:
    """Score rows, in their order.

    Log-probabilities are normalised in float32 and summed in float64.

    Args:
        budget: tokens of one forward pass.
        pad: the token that fills rows up.
        sharing: which rows are read as a packed tree of shared prefixes, and which one beside the
            other; None: what was found out about the model.
        progress: is told how many more tokens have been scored.
        work: is counted up.

    Raises:
        StageFailed: the model's logits are not numbers.
        CannotShare: `sharing` allows what the model cannot.
    """
    scores: dict[int, Scored] = {}
    for chosen, layout, places in _layouts(asked, [sharing or sharing_of(model)]):
        targets = [asked[i].ids[-asked[i].count :] for i in chosen]
        sums = _Sums(model, places, targets, progress)
        reads = marked(layout.size, sums.places)
        for read in _read(model, layout, reads, budget, pad, _costs(model, reads, budget)):
            sums.use(*read)
        scores.update(zip(chosen, sums.results(), strict=True))
        if work is not None:
            work.rows += len(chosen)
            work.row_tokens += sum(len(asked[i].ids) - 1 for i in chosen)
            work.tokens += layout.size
            work.positions += int(reads.sum())
    return [scores[i] for i in range(len(asked))]


def compare_tokens(
    model: Any,
    other: Any,
    asked: Sequence[Asked],
    budget: int,
    pad: int,
    measure: Measure,
    progress: Callable[[int], None] = lambda done: None,
) -> list[float]:
    """The sum of a measure over the places of each row that predict its scored tokens.

    Args:
        other: a model of the same tokenizer, which reads the same rows.
        budget, pad, progress: as in `score_tokens`.
    """
    import numpy as np

    amounts = [0.0] * len(asked)
    for chosen, layout, places in _layouts(asked, [sharing_of(model), sharing_of(other)]):
        reads = marked(layout.size, np.concatenate(places))
        costs = _costs(model, reads, budget)
        values = np.zeros(layout.size)
        both = (_read(each, layout, reads, budget, pad, costs) for each in (model, other))
        for (at, logits), (_, other_logits) in zip(*both, strict=True):
            values[at] = measure(logits, other_logits).double().cpu().numpy()
            progress(len(at))
        for i, own in zip(chosen, places, strict=True):
            amounts[i] = float(values[own].sum())
    return amounts


def _layouts(
    asked: Sequence[Asked], sharing: Sequence[Sharing]
) -> Iterator[tuple[list[int], Trie | Flat, list[np.ndarray]]]:
    """The rows that may share prefixes, and those that may not: their numbers, their layout without
    the last token of each, and the places in it that predict the scored tokens of each."""
    shares = [all(each.allows(len(row.ids) - 1) for each in sharing) for row in asked]
    for kind in (True, False):
        chosen = [i for i, share in enumerate(shares) if share is kind]
        if not chosen:
            continue
        inputs = [tuple(asked[i].ids[:-1]) for i in chosen]
        unique = {row: number for number, row in enumerate(dict.fromkeys(inputs))}
        layout = Trie(list(unique)) if kind else Flat(list(unique))
        places = [
            layout.places(unique[row], len(row) - asked[i].count)
            for i, row in zip(chosen, inputs, strict=True)
        ]
        yield chosen, layout, places


def _read(
    model: Any, layout: Trie | Flat, reads: np.ndarray, budget: int, pad: int, costs: np.ndarray
) -> Iterator[Read]:
    if isinstance(layout, Trie):
        return read_packed(model, layout, budget, reads, costs)
    return read_padded(model, layout, pad, budget, reads, costs)


def _costs(model: Any, reads: np.ndarray, budget: int) -> np.ndarray:
    """What the token of each place costs of a budget: logits that are used need room as well."""
    import numpy as np

    vocabulary = int(model.config.get_text_config().vocab_size)
    costs: np.ndarray = np.where(reads, max(1.0, budget * 4 * vocabulary / LOGITS_BYTES), 1.0)
    return costs


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
        """Take the logits, (places, vocabulary), of some places. The host waits once for them."""
        import numpy as np
        import torch

        first = np.searchsorted(self.places, places, side="left")
        counts = np.searchsorted(self.places, places, side="right") - first
        pairs, read = [], []
        for start in range(0, len(places), _POSITIONS):
            part = slice(start, start + _POSITIONS)
            likely = logits[part].float().log_softmax(-1)
            line = np.repeat(np.arange(len(likely)), counts[part])
            own = np.concatenate([
                np.arange(begin, begin + count)
                for begin, count in zip(first[part], counts[part], strict=True)
            ])  # fmt: skip
            lines, targets = (
                upload(torch.from_numpy(each), self._device) for each in (line, self._target[own])
            )
            best = (likely.argmax(-1)[lines] == targets).double()
            pairs.append(own)
            read.append(torch.stack([likely[lines, targets].double(), best]))
        owners = self._owner[np.concatenate(pairs)]
        values, greedy = torch.cat(read, 1).cpu().numpy()
        np.add.at(self._sums, owners, values)
        np.logical_and.at(self._greedy, owners, greedy > 0)
        self._progress(len(owners))

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
