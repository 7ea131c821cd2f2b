"""Greedy answers by continuous batching: a row that ends makes room for the next prompt at once.

Prompts are read as a packed tree, what all of them begin with only once. Keys and values of the
rows at hand stay in one buffer per layer, written in place; each step computes one token of every
row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.core.errors import StageFailed
from harness.inference.packed import Keys, as_bias, attending, own_attention, read_packed
from harness.inference.trie import Pass, Trie, common_prefix

if TYPE_CHECKING:
    from torch import Tensor

MAX_ROWS = 64
"""Rows that are answered at once, at most."""
_WORTH = 32
"""Tokens that all prompts must begin with to be read once for all of them."""

Ends = Callable[[Sequence[int]], bool]
"""Whether an answer of these tokens is at its end."""


@dataclass
class Prompt:
    """What is to be answered.

    Attributes:
        ids: its tokens, one at least. room: tokens that the answer may have, one at least.
        ends: is asked after each token of the answer.
    """

    ids: Sequence[int]
    room: int
    ends: Ends


@dataclass
class _Row:
    number: int
    prompt: Prompt
    answer: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens whose keys are kept: all but the newest."""
        return len(self.prompt.ids) + len(self.answer) - 1


def answer_greedily(
    model: Any,
    prompts: Sequence[Prompt],
    budget: int,
    cache_bytes: int,
    end_tokens: Collection[int],
    progress: Callable[[int], None] = lambda done: None,
) -> list[list[int]]:
    """The likeliest next tokens after each prompt, in the prompts' order.

    The token that ends an answer is its last one.

    Args:
        budget: tokens of one forward pass over prompts.
        cache_bytes: of keys and values that are kept at once (those of one row at least).
        end_tokens: tokens that end every answer.
        progress: is told how many more prompts have been answered.
    """
    import torch

    answers: list[list[int]] = [[] for _ in prompts]
    waiting = sorted(
        range(len(prompts)), key=lambda i: (-len(prompts[i].ids) - prompts[i].room, i), reverse=True
    )
    if not waiting:
        return answers
    engine = _Engine(model, prompts, budget, cache_bytes)
    with torch.inference_mode():
        while waiting or engine.rows:
            free = engine.slots - len(engine.rows)
            if waiting and (not engine.rows or 4 * free >= engine.slots or free >= len(waiting)):
                taken = [waiting.pop() for _ in range(min(free, len(waiting)))]
                engine.admit([_Row(i, prompts[i]) for i in taken])
            else:
                engine.step()
            for row in engine.drop_ended(end_tokens):
                answers[row.number] = row.answer
                progress(1)
    return answers


class _Engine:
    """The rows at hand, the first of the buffers' slots."""

    def __init__(
        self, model: Any, prompts: Sequence[Prompt], budget: int, cache_bytes: int
    ) -> None:
        self._model, self._budget = model, budget
        self.rows: list[_Row] = []
        self._capacity = max(len(prompt.ids) + prompt.room for prompt in prompts)
        self._buffers: dict[Any, tuple[Tensor, Tensor]] = {}
        ids = [list(prompt.ids) for prompt in prompts]
        first, last = min(ids), max(ids)
        known = min(common_prefix(first, last), *(len(row) - 1 for row in ids))
        self._known = known if known >= _WORTH and len(prompts) > 1 else 0
        # Where nothing is shared, one token tells how much room a token's keys and values take.
        shared = self._read(first[: self._known or 1])
        size = sum(s.nbytes // s.shape[2] for states in shared.values() for s in states)
        self.slots = max(1, min(MAX_ROWS, cache_bytes // (size * self._capacity), len(prompts)))
        self._shared = shared if self._known else {}

    def _read(self, ids: Sequence[int]) -> dict[Any, tuple[Tensor, Tensor]]:
        """Keys and values, (1, heads, tokens, size) each, of some tokens in every layer."""
        import numpy as np
        import torch

        parts: dict[Any, list[tuple[Tensor, Tensor]]] = {}

        def save(module: Any, _: Pass, key: Tensor, value: Tensor) -> None:
            parts.setdefault(module, []).append((key, value))

        reads = np.zeros(len(ids), dtype=bool)
        for _ in read_packed(self._model, Trie([ids]), self._budget, reads, keys=Keys(save=save)):
            pass
        return {
            module: (torch.cat([key for key, _ in each], 2), torch.cat([v for _, v in each], 2))
            for module, each in parts.items()
        }

    def admit(self, rows: Sequence[_Row]) -> None:
        """Read prompts, and choose the first token of each answer."""
        import numpy as np

        trie = Trie([list(row.prompt.ids) for row in rows])
        slots = range(len(self.rows), len(self.rows) + len(rows))
        last = [int(trie.places(i, len(row.prompt.ids) - 1)[0]) for i, row in enumerate(rows)]
        reads = np.zeros(trie.size, dtype=bool)
        reads[last] = True
        chosen: dict[int, int] = {}

        def save(module: Any, each: Pass, key: Tensor, value: Tensor) -> None:
            self._write(module, [trie.path(i) for i in range(len(rows))], slots, each, key, value)

        keys = Keys(self._shared, self._known, save)
        for places, logits in read_packed(self._model, trie, self._budget, reads, keys=keys):
            chosen.update(zip(places.tolist(), likeliest(logits), strict=True))
        for row, place in zip(rows, last, strict=True):
            row.answer.append(chosen[place])
            self.rows.append(row)

    def _write(
        self,
        module: Any,
        paths: Sequence[Sequence[tuple[int, int]]],
        slots: Sequence[int],
        each: Pass,
        key: Tensor,
        value: Tensor,
    ) -> None:
        """Write what a pass read of prompts into their slots."""
        if module not in self._buffers:
            self._buffers[module] = (self._buffer(key), self._buffer(value))
        buffers, end = self._buffers[module], each.place + len(each.ids)
        for slot, path in zip(slots, paths, strict=True):
            depth = 0
            for start, stop in path:
                first, past = max(start, each.place), min(stop, end)
                if first < past:
                    at = slice(depth + first - start, depth + past - start)
                    own = slice(first - each.place, past - each.place)
                    for buffer, states in zip(buffers, (key, value), strict=True):
                        buffer[slot, :, at] = states[0, :, own]
                depth += stop - start
            if self._known:
                for buffer, states in zip(buffers, self._shared[module], strict=True):
                    buffer[slot, :, : self._known] = states[0]

    def _buffer(self, states: Tensor) -> Tensor:
        _, heads, _, size = states.shape
        return states.new_zeros((self.slots, heads, self._capacity, size))

    def step(self) -> None:
        """One more token of every row."""
        import torch

        device = self._model.device
        lengths = torch.tensor([row.length for row in self.rows], device=device)
        longest = max(row.length for row in self.rows) + 1
        back = lengths.unsqueeze(1) - torch.arange(longest, device=device)
        lines = torch.arange(len(self.rows), device=device)
        biases: dict[tuple[Any, ...], Tensor] = {}

        def bias(window: int, like: Tensor) -> Tensor:
            key = (window, like.dtype, like.device)
            if key not in biases:
                seen = (back >= 0) & (back < (window or longest))
                biases[key] = as_bias(seen.to(like.device), like.dtype)[0, 0, :, None, None]
            return biases[key]

        def attend(
            module: Any, query: Tensor, key: Tensor, value: Tensor, rest: dict[str, Any]
        ) -> Tensor:
            keys, values = self._buffers[module]
            at = (lines.to(key.device), slice(None), lengths.to(key.device))
            keys[at], values[at] = key[:, :, 0], value[:, :, 0]
            inner, _ = own_attention(module)
            kept = (buffer[: len(lines), :, :longest] for buffer in (keys, values))
            window = rest.get("sliding_window") or 0
            return inner(module, query, *kept, bias(window, query), **rest)[0]

        newest = torch.tensor([[row.answer[-1]] for row in self.rows], device=device)
        with attending(self._model, attend):
            logits = self._model(
                input_ids=newest, position_ids=lengths.unsqueeze(1), use_cache=False
            ).logits[:, -1]
        for row, token in zip(self.rows, likeliest(logits), strict=True):
            row.answer.append(token)

    def drop_ended(self, end_tokens: Collection[int]) -> list[_Row]:
        """Take out the rows whose answers are at their end; others move to their slots."""
        ended = []
        for slot in reversed(range(len(self.rows))):
            row = self.rows[slot]
            full = len(row.answer) >= row.prompt.room
            if not full and row.answer[-1] not in end_tokens and not row.prompt.ends(row.answer):
                continue
            ended.append(row)
            last = self.rows.pop()
            if slot < len(self.rows):
                self.rows[slot] = last
                kept = len(self.rows)
                for buffers in self._buffers.values():
                    for buffer in buffers:
                        buffer[slot, :, : last.length] = buffer[kept, :, : last.length]
        return ended


def likeliest(logits: Tensor) -> list[int]:
    """The likeliest token of each row, as transformers' greedy search finds it.

    Raises:
        StageFailed: logits are not numbers.
    """
    best, tokens = logits.float().max(-1)
    if bool(best.isnan().any()):
        raise StageFailed(
            "not a number",
            "the model's logits are not numbers: it has no likeliest token",
            fix="look at the training's losses; a model that diverged has no answers",
        )
    listed: list[int] = tokens.tolist()
    return listed
