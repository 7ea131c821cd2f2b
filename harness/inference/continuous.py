"""Answers by continuous batching: a row that ends makes room for the next prompt at once.

Prompts are read as a packed tree, what all of them begin with only once. Keys and values of the
rows at hand stay in one buffer per layer, written in place; each step computes one token of every
row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.core.device import upload
from harness.inference.packed import (
    Keys,
    as_bias,
    attending,
    own_attention,
    read_packed,
    taking_over,
)
from harness.inference.padded import marked
from harness.inference.sampling import Choose, likeliest, require_numbers, uniform
from harness.inference.trie import Pass, Trie, common_prefix

if TYPE_CHECKING:
    from torch import Tensor

_MOST_ROWS = {"cuda": 256}
"""Rows that are answered at once, at most, by the type of device; 64 on any other."""
_WORTH = 32
"""Tokens that all prompts must begin with to be read once for all of them."""

Ends = Callable[[Sequence[int]], bool]
"""Whether an answer of these tokens is at its end."""


@dataclass
class Prompt:
    """What is to be answered.

    Attributes:
        ids: its tokens, one at least. room: tokens that the answer may have, one at least.
        ends: is asked after each token of the answer; None: only tokens end it.
        seed: of the numbers that an answer is drawn by.
    """

    ids: Sequence[int]
    room: int
    ends: Ends | None = None
    seed: int = 0

    @property
    def places(self) -> int:
        """Tokens of the prompt and the longest answer to it."""
        return len(self.ids) + self.room

    def ended(self, answer: Sequence[int], end_tokens: Collection[int]) -> bool:
        """Whether an answer of one token at least is at its end."""
        if len(answer) >= self.room or answer[-1] in end_tokens:
            return True
        return self.ends is not None and self.ends(answer)


@dataclass
class _Row:
    number: int
    prompt: Prompt
    draws: Iterator[float]
    answer: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens whose keys are kept: all but the newest."""
        return len(self.prompt.ids) + len(self.answer) - 1


def answer_packed(
    model: Any,
    prompts: Sequence[Prompt],
    budget: int,
    end_tokens: Collection[int],
    choose: Choose = likeliest,
    *,
    cache_bytes: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[list[int]]:
    """The tokens of an answer to each prompt, in the prompts' order.

    The token that ends an answer is its last one.

    Args:
        budget: tokens of one forward pass over prompts.
        end_tokens: tokens that end every answer.
        choose: chooses the next token of each row.
        cache_bytes: of keys and values that are kept at once (those of one row at least); None: as
            many as `budget` tokens have.
        progress: is told how many more prompts have been answered.
    """
    import torch

    answers: list[list[int]] = [[] for _ in prompts]
    waiting = sorted(range(len(prompts)), key=lambda i: (prompts[i].places, -i))
    if not waiting:
        return answers
    tokens = budget if cache_bytes is None else cache_bytes // _token_bytes(model, prompts[0])
    most = _MOST_ROWS.get(model.device.type, 64)
    while waiting:
        longest = prompts[waiting[-1]].places
        slots = max(1, min(most, tokens // longest, len(waiting)))
        # Where long rows leave few slots, those of half their length and less have more without.
        apart = slots < min(most, len(waiting))
        group = [i for i in waiting if not apart or 2 * prompts[i].places > longest]
        with torch.inference_mode(), taking_over(model):
            engine = _Engine(model, [prompts[i] for i in group], budget, slots, choose)
            for row in engine.run(group, end_tokens):
                answers[row.number] = row.answer
                progress(1)
        waiting = waiting[: len(waiting) - len(group)]
    return answers


def _token_bytes(model: Any, prompt: Prompt) -> int:
    """Bytes of one token's keys and values."""
    layers = _keys_of(model, prompt.ids[:1], 1)
    return sum(states.nbytes for pair in layers.values() for states in pair)


class _Engine:
    """The rows at hand, the first of the buffers' slots."""

    def __init__(
        self, model: Any, prompts: Sequence[Prompt], budget: int, slots: int, choose: Choose
    ) -> None:
        self._model, self._budget, self._choose = model, budget, choose
        self.rows: list[_Row] = []
        self.slots = slots
        self._prompts = prompts
        self._capacity = max(prompt.places for prompt in prompts)
        self._buffers: dict[Any, tuple[Tensor, Tensor]] = {}
        ids = [list(prompt.ids) for prompt in prompts]
        first, last = min(ids), max(ids)
        known = min(common_prefix(first, last), *(len(row) - 1 for row in ids))
        self._known = known if known >= _WORTH and len(prompts) > 1 else 0
        self._shared = _keys_of(model, first[: self._known], budget) if self._known else {}

    def run(self, numbers: Sequence[int], end_tokens: Collection[int]) -> Iterator[_Row]:
        """Answer the prompts, the last one first, and yield each row as it ends.

        Args:
            numbers: of the prompts.
        """
        waiting = [
            _Row(i, prompt, uniform(prompt.seed))
            for i, prompt in zip(numbers, self._prompts, strict=True)
        ]
        while waiting or self.rows:
            free = self.slots - len(self.rows)
            if waiting and (not self.rows or 4 * free >= self.slots or free >= len(waiting)):
                self._admit([waiting.pop() for _ in range(min(free, len(waiting)))])
            else:
                self._step()
            yield from self._drop_ended(end_tokens)

    def _admit(self, rows: Sequence[_Row]) -> None:
        """Read prompts, and choose the first token of each answer."""
        import torch

        trie = Trie([list(row.prompt.ids) for row in rows])
        slots = range(len(self.rows), len(self.rows) + len(rows))
        last = [int(trie.places(i, len(row.prompt.ids) - 1)[0]) for i, row in enumerate(rows)]

        def save(module: Any, each: Pass, key: Tensor, value: Tensor) -> None:
            self._write(module, [trie.path(i) for i in range(len(rows))], slots, each, key, value)

        keys = Keys(self._shared, self._known, save)
        logits: dict[int, Tensor] = {}
        reads = marked(trie.size, last)
        for places, lines in read_packed(self._model, trie, self._budget, reads, keys=keys):
            logits.update(zip(places.tolist(), lines, strict=True))
        self._go_on(rows, torch.stack([logits[place] for place in last]))
        self.rows += rows

    def _go_on(self, rows: Sequence[_Row], logits: Tensor) -> None:
        """Choose the next token of rows by logits of shape (rows, vocabulary).

        The host waits for the tokens, once a step, as they decide which rows go on.
        """
        tokens = self._choose([row.draws for row in rows], logits).tolist()
        require_numbers(min(tokens))
        for row, token in zip(rows, tokens, strict=True):
            row.answer.append(token)

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

    def _step(self) -> None:
        """One more token of every row."""
        import torch

        device = self._model.device
        state = torch.tensor([[row.length, row.answer[-1]] for row in self.rows])
        lengths, newest = upload(state, device).unbind(1)
        longest = max(row.length for row in self.rows) + 1
        back = lengths.unsqueeze(1) - torch.arange(longest, device=device)
        lines = torch.arange(len(self.rows), device=device)
        biases: dict[tuple[Any, ...], Tensor] = {}

        def bias(window: int, like: Tensor) -> Tensor:
            key = (window, like.dtype)
            if key not in biases:
                seen = (back >= 0) & (back < (window or longest))
                biases[key] = as_bias(seen, like.dtype)[0, 0, :, None, None]
            return biases[key]

        def attend(
            module: Any, query: Tensor, key: Tensor, value: Tensor, rest: dict[str, Any]
        ) -> Tensor:
            keys, values = self._buffers[module]
            at = (lines, slice(None), lengths)
            keys[at], values[at] = key[:, :, 0], value[:, :, 0]
            inner, _ = own_attention(module)
            kept = (buffer[: len(lines), :, :longest] for buffer in (keys, values))
            window = rest.get("sliding_window") or 0
            return inner(module, query, *kept, bias(window, query), **rest)[0]

        with attending(self._model, attend):
            logits = self._model(
                input_ids=newest.unsqueeze(1), position_ids=lengths.unsqueeze(1), use_cache=False
            ).logits[:, -1]
        self._go_on(self.rows, logits)

    def _drop_ended(self, end_tokens: Collection[int]) -> list[_Row]:
        """Take out the rows whose answers are at their end; others move to their slots."""
        ended = []
        for slot in reversed(range(len(self.rows))):
            row = self.rows[slot]
            if not row.prompt.ended(row.answer, end_tokens):
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


def _keys_of(model: Any, ids: Sequence[int], budget: int) -> dict[Any, tuple[Tensor, Tensor]]:
    """Keys and values, (1, heads, tokens, size) each, of some tokens in every layer."""
    import torch

    parts: dict[Any, list[tuple[Tensor, Tensor]]] = {}

    def save(module: Any, _: Pass, key: Tensor, value: Tensor) -> None:
        parts.setdefault(module, []).append((key, value))

    for _ in read_packed(model, Trie([ids]), budget, marked(len(ids), []), keys=Keys(save=save)):
        pass  # no logits are wanted
    return {
        module: (torch.cat([key for key, _ in each], 2), torch.cat([v for _, v in each], 2))
        for module, each in parts.items()
    }
