"""Whether a model can read a packed tree of rows as it reads the rows one by one.

No family is named: a few rows of random tokens are read both ways when a model is loaded. What has
a memory besides attention (recurrent layers), positions of its own (a soft prompt) or attention of
its own making differs there, or raises, and reads its rows padded.
"""

from __future__ import annotations

import logging
import math
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from harness.core.errors import reason_of
from harness.inference.context import context_of
from harness.inference.continuous import Prompt, answer_packed
from harness.inference.packed import read_packed
from harness.inference.padded import Flat, Read, marked, read_padded
from harness.inference.trie import Trie

_LOG = logging.getLogger(__name__)
_UNFIT = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
"""What a model raises at what it was not made for."""
_ROUNDING = 4.0
"""How many times the difference that padding alone makes two ways of reading may differ."""
_STEP = 4e-5
"""And by how much at least, of the spread of log-probabilities; in lower precision some steps."""
_LONGEST = 16
"""Tokens of the rows that are tried."""
_SMALL = 7
"""A window that is shorter than the rows that are tried."""
_CUT = 12
"""A budget that is smaller than those rows' tree."""
_ROOM = 3
"""Tokens of the answers that are tried."""
_WINDOWS = ("window", "window_size", "chunk_size")
"""How the names of config fields end that bound what a token attends to."""


@dataclass
class Sharing:
    """What was found.

    Attributes:
        shares: rows of up to `span` tokens may share their prefixes.
        span: None: rows of any length.
        why: the reason where nothing is shared, or where answers are not.
        difference: the largest one seen between both ways, in nats; NaN where one failed.
        answers: tokens may be generated one after the other in the same way; None: not tried yet.
            `can_answer` tries it, since log-likelihoods alone need not wait for that.
        spread: the standard deviation of the log-probabilities of the rows that were read.
        small_windows: windows of attention were made small for it.
    """

    shares: bool
    span: int | None = None
    why: str = ""
    difference: float = math.nan
    answers: bool | None = False
    spread: float = math.nan
    small_windows: bool = False

    def allows(self, tokens: int) -> bool:
        """Whether a row of so many tokens may be read in a packed tree."""
        return self.shares and (self.span is None or tokens <= self.span)

    def can_answer(self, model: Any) -> bool:
        """Whether tokens may be generated in a packed tree: tried once, when first asked.

        Args:
            model: the one that this was found of.
        """
        if self.answers is None:
            with _small_windows(model) if self.small_windows else nullcontext():
                self.why = _why_not_answers(model, self)
            self.answers = not self.why
            if self.why:
                _LOG.info("answers are not written by continuous batching: %s", self.why)
        return self.answers


_FOUND: WeakKeyDictionary[Any, dict[tuple[Any, ...], Sharing]] = WeakKeyDictionary()


def sharing_of(model: Any) -> Sharing:
    """What `find_sharing` finds of a model, which is asked once for each kind of adapter on it."""
    adapter = getattr(model, "active_peft_config", None) if hasattr(model, "peft_config") else None
    kind = (getattr(adapter, "peft_type", None), model.dtype, model.device, model.training)
    known = _FOUND.setdefault(model, {})
    if kind not in known:
        sharing = known[kind] = find_sharing(model)
        if not sharing.shares:
            _LOG.info("prefixes are not shared: %s", sharing.why)
    return known[kind]


def find_sharing(model: Any) -> Sharing:
    """Read a few rows both ways.

    Windows of attention are tried too, made so small that these rows are longer than they are: a
    model whose attention is told its window shares rows of any length, any other up to its window.

    Raises:
        Exception: what the model raised was no refusal, such as memory that is exhausted. Another
            way to read would not help.
    """
    config = model.config.get_text_config().to_dict()
    unmasked = span_of(config)
    if any(_windowed(model)):
        with _small_windows(model):
            masked = _compare(model, span_of({**config, "sliding_window": None}))
        if masked.shares:
            return replace(masked, small_windows=True)
    return _compare(model, unmasked)


def _compare(model: Any, span: int | None) -> Sharing:
    rows = _tried(model, span)
    if not rows:
        return Sharing(False, why="its context is too short to share any of it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            padded = _padded(model, rows)
            # A budget that cuts the tree in the middle: what is carried over is tried too.
            differences = [_distance(_packed(model, rows, n), padded) for n in (4096, _CUT)]
        except _UNFIT as error:
            return Sharing(False, why=_refusal(error))
        difference, spread = max(differences), float(padded.std())
        if not _rounding_explains(difference, model, rows, spread):
            why = f"its log-probabilities differ by {difference:.1e} nats from those of rows alone"
            return Sharing(False, why=why, difference=difference)
    return Sharing(True, span, difference=difference, answers=None, spread=spread)


def _refusal(error: Exception) -> str:
    """What a model raised, as the reason why it is read otherwise.

    Raises:
        Exception: the same error, if it is one of the memory or the device, not of the model.
    """
    if reason_of(error) != "error" or type(error).__name__ == "AcceleratorError":
        raise error
    return f"{type(error).__name__}: {error}"


def _why_not_answers(model: Any, sharing: Sharing) -> str:
    """Why tokens are not generated in a packed tree; empty if they can be."""
    rows = _tried(model, sharing.span)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            lost = _lost(model, rows)
        except _UNFIT as error:
            return _refusal(error)
        if _rounding_explains(lost, model, rows, sharing.spread):
            return ""
    return f"its tokens are up to {lost:.1e} nats less likely than others"


def _tried(model: Any, span: int | None) -> list[list[int]]:
    """The rows that a model is tried on; none if its context is too short."""
    limits = [n for n in (span, context_of(model), _LONGEST) if n is not None]
    return list(_rows(int(model.config.get_text_config().vocab_size), min(limits)))


def _rounding_explains(difference: float, model: Any, rows: list[list[int]], spread: float) -> bool:
    """Whether two ways to read the same rows differ by rounding alone.

    How much padding makes is asked for what is more than a few steps: that takes a pass a row.

    Args:
        spread: the standard deviation of the rows' log-probabilities.
    """
    import torch

    step = max(_STEP, _ROUNDING * torch.finfo(model.dtype).eps)
    if difference <= step * spread:
        return True
    single = torch.cat([_padded(model, [row]) for row in rows])
    return difference <= _ROUNDING * _distance(_padded(model, rows), single)


def _lost(model: Any, rows: list[list[int]]) -> float:
    """By how many nats the tokens that continuous batching chooses are less likely, at most, than
    the likeliest ones, when read padded."""
    import torch

    short = [row[: len(row) - 3 - number] for number, row in enumerate(rows[:2])]
    prompts = [Prompt(row, _ROOM) for row in short if row]
    if not prompts:
        raise ValueError("its context is too short for an answer")
    found = answer_packed(model, prompts, 4096, (), cache_bytes=0)
    whole = [[*prompt.ids, *row] for prompt, row in zip(prompts, found, strict=True)]
    likely = _padded(model, whole, _ROOM + 1)
    chosen = torch.tensor([token for row in found for token in row])
    # The last of the read places predicts what comes after the answer.
    likely = likely.view(len(found), _ROOM + 1, -1)[:, :_ROOM].flatten(0, 1)
    best, own = likely.max(-1).values, likely.gather(1, chosen.unsqueeze(1)).squeeze(1)
    return float((best - own).max())


def span_of(config: Mapping[str, Any]) -> int | None:
    """Tokens up to which a row's attention is plain, whatever a config says of longer ones.

    Windows and chunks of attention bound it, and positions that are scaled by a row's length.
    """
    found = [
        value
        for name, value in config.items()
        if name.endswith(_WINDOWS) and type(value) is int and value > 0
    ]
    rope = config.get("rope_parameters") or {}
    for scaling in [rope, *(each for each in rope.values() if isinstance(each, Mapping))]:
        if scaling.get("rope_type") in ("dynamic", "longrope"):
            original = scaling.get("original_max_position_embeddings")
            found.append(int(original or config["max_position_embeddings"]))
    return min(found, default=None)


def _windowed(model: Any) -> Iterator[Any]:
    """The modules and configs that have a window of attention."""
    parts = {id(part): part for module in model.modules() for part in (
        module, getattr(module, "config", None)
    )}  # fmt: skip
    for part in parts.values():
        window = getattr(part, "sliding_window", None)
        if type(window) is int and window > 0:
            yield part


@contextmanager
def _small_windows(model: Any) -> Iterator[None]:
    """Within it the model's windows are a few tokens."""
    parts = [(part, part.sliding_window) for part in _windowed(model)]
    try:
        for part, _ in parts:
            part.sliding_window = _SMALL
        yield
    finally:
        for part, window in parts:
            part.sliding_window = window


def _rows(vocabulary: int, longest: int) -> Iterator[list[int]]:
    """Rows that share much, little and nothing; one is the beginning of another."""
    if longest < 4:
        return
    draw = random.Random(0)
    row = [draw.randrange(vocabulary) for _ in range(longest)]
    yield row
    for shared, more in ((longest * 3 // 4, 4), (longest * 3 // 4 - 1, 3), (0, longest // 3)):
        yield [*row[:shared], *(draw.randrange(vocabulary) for _ in range(more))][:longest]
    yield row[: longest // 2]


def _padded(model: Any, rows: list[list[int]], last: int = 3) -> Any:
    flat = Flat(rows)
    reads = _last_places(rows, flat, last)
    return _log_probs(reads, read_padded(model, flat, 0, 4096, marked(flat.size, reads)))


def _packed(model: Any, rows: list[list[int]], budget: int) -> Any:
    trie = Trie(rows)
    reads = _last_places(rows, trie)
    return _log_probs(reads, read_packed(model, trie, budget, marked(trie.size, reads)))


def _last_places(rows: list[list[int]], layout: Flat | Trie, last: int = 3) -> Any:
    """The places of the last few tokens of each row."""
    import numpy as np

    return np.concatenate([layout.places(i, max(0, len(row) - last)) for i, row in enumerate(rows)])


def _log_probs(places: Any, read: Iterator[Read]) -> Any:
    """Log-probabilities of every token after each of these places, (places, vocabulary)."""
    import torch

    lines: dict[int, Any] = {}
    for at, logits in read:
        lines.update(zip(at.tolist(), logits.float().log_softmax(-1).cpu(), strict=True))
    return torch.stack([lines[place] for place in places.tolist()])


def _distance(one: Any, other: Any) -> float:
    return float((one - other).abs().max())
