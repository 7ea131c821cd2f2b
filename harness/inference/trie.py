"""Rows of tokens as one tree of shared prefixes, packed in passes without padding.

The rows are sorted, so that each row shares with the one before it all that it shares with any
earlier one. What it adds is a *piece*: a run of tokens that hangs below the tokens that it shares.
The pieces in order are the tree in depth-first order, and a pass is a run of pieces. The tokens
that a pass needs of earlier passes are then exactly the ancestors of its first piece: they are
*carried* from one pass to the next as keys and values, and nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

Interval = tuple[int, int]
"""First place and the place after the last one."""

BLOCK = 256
"""Tokens whose attention is computed in one call; more would mostly attend to what is masked."""
ALONE = 64
"""A piece without ancestors that is as long as this is a block of its own, which needs no mask."""


@dataclass(frozen=True)
class Piece:
    """A run of tokens that hangs below its ancestors.

    Attributes:
        row: the row that the tokens are taken from. start, stop: their places in it, which are
            their positions for the model too.
        place: place of the first token among all tokens of the tree, in depth-first order.
        ancestors: places of the tokens above it, by depth.
    """

    row: int
    start: int
    stop: int
    place: int
    ancestors: tuple[Interval, ...]


@dataclass(frozen=True)
class Block:
    """Tokens of a pass whose attention is computed in one call.

    Attributes:
        start, stop: their places in the pass.
        context: the keys above them: places in what is carried, followed by the pass's own tokens.
        mask: (tokens, context + tokens) booleans: which keys a token attends to; None: a plain
            causal sequence without a context.
    """

    start: int
    stop: int
    context: tuple[Interval, ...]
    mask: np.ndarray | None


@dataclass
class Pass:
    """One forward pass.

    Attributes:
        place: place in the tree of its first token.
        ids, positions: (tokens,) each.
        keep: the keys that this pass carries over: places in what the pass before it carried,
            followed by that pass's own tokens.
        carried: how many those are.
        blocks: its tokens in calls of attention, in order.
    """

    place: int
    ids: np.ndarray
    positions: np.ndarray
    keep: tuple[Interval, ...]
    carried: int
    blocks: list[Block] = field(default_factory=list)


class Trie:
    """The tree of some rows.

    Args:
        rows: token ids; the same row may come twice. None may be empty.

    Attributes:
        size: tokens of the tree: what is computed.
    """

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self._rows = rows
        self._paths: list[tuple[Interval, ...]] = [()] * len(rows)
        self.pieces: list[Piece] = []
        self.size = 0
        path: list[tuple[int, int, int]] = []  # (depth, place, tokens) from the root on
        before: Sequence[int] = ()
        for index in sorted(range(len(rows)), key=lambda i: tuple(rows[i])):
            row = rows[index]
            shared = common_prefix(before, row)
            path = _cut(path, shared)
            if shared < len(row):
                above = _merged((place, place + count) for _, place, count in path)
                self.pieces.append(Piece(index, shared, len(row), self.size, above))
                path.append((shared, self.size, len(row) - shared))
                self.size += len(row) - shared
            self._paths[index] = _merged((place, place + count) for _, place, count in path)
            before = row

    def path(self, row: int) -> tuple[Interval, ...]:
        """The places of a row's tokens, first to last."""
        return self._paths[row]

    def places(self, row: int, start: int) -> np.ndarray:
        """The places of a row's tokens from `start` on, as an array."""
        parts, depth = [], 0
        for first, stop in self._paths[row]:
            skipped = max(0, start - depth)
            if skipped < stop - first:
                parts.append(np.arange(first + skipped, stop))
            depth += stop - first
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def passes(
        self, budget: int, costs: np.ndarray | None = None, known: int = 0
    ) -> Iterator[Pass]:
        """The tree in forward passes that cost at most `budget` each (one token at least).

        Args:
            costs: what the token of each place costs. None: 1.
            known: the first tokens, which all rows have in common and one more each, whose keys are
                known already: the first pass carries them.
        """
        each = np.ones(self.size) if costs is None else costs
        total = np.concatenate([[0.0], np.cumsum(each)])
        batch: list[Piece] = []
        nothing = np.empty(0, dtype=np.int64)
        before = Pass(0, nothing, nothing, (), 0) if known else None
        for piece in self._short_pieces(total, budget, known):
            stop = piece.place + piece.stop - piece.start
            if batch and total[stop] - total[batch[0].place] > budget:
                before = self._pass(batch, before)
                yield before
                batch = []
            batch.append(piece)
        if batch:
            yield self._pass(batch, before)

    def _short_pieces(self, total: np.ndarray, budget: int, known: int) -> Iterator[Piece]:
        """The pieces; those that are longer than a block or than a pass are cut."""
        for piece in self.pieces:
            start, above, place = piece.start, piece.ancestors, piece.place
            if known and not place:
                start, above, place = known, ((0, known),), known
            while start < piece.stop:
                fits = int(np.searchsorted(total, total[place] + budget, side="right")) - 1 - place
                longest = max(1, min(fits, BLOCK) if above else fits)
                stop = min(start + longest, piece.stop)
                yield Piece(piece.row, start, stop, place, above)
                above = _merged([*above, (place, place + stop - start)])
                place += stop - start
                start = stop

    def _pass(self, pieces: list[Piece], before: Pass | None) -> Pass:
        first, origin = pieces[0], pieces[0].place
        above = first.ancestors
        keep = () if before is None else _in_pass(above, before.place, before.carried)
        carried = sum(stop - start for start, stop in above)
        new_pass = Pass(
            origin,
            np.concatenate([np.asarray(self._rows[p.row][p.start : p.stop]) for p in pieces]),
            np.concatenate([np.arange(p.start, p.stop) for p in pieces]),
            keep,
            carried,
        )
        for block in _grouped(pieces):
            new_pass.blocks.append(_block(block, origin, carried))
        return new_pass


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two rows begin with alike."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high - 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _cut(path: list[tuple[int, int, int]], depth: int) -> list[tuple[int, int, int]]:
    """The part of a path above a depth."""
    return [
        (start, place, min(count, depth - start)) for start, place, count in path if start < depth
    ]


def _merged(intervals: Iterator[Interval] | Sequence[Interval]) -> tuple[Interval, ...]:
    """The same places in as few intervals as possible, in their order."""
    merged: list[Interval] = []
    for start, stop in intervals:
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], stop)
        elif stop > start:
            merged.append((start, stop))
    return tuple(merged)


def _in_pass(places: Sequence[Interval], origin: int, carried: int) -> tuple[Interval, ...]:
    """Places of the tree as places of a pass: what it carries, followed by its own tokens.

    Those before the pass's origin are the first ones of what it carries, by depth.
    """
    depth, local = 0, []
    for start, stop in places:
        earlier = max(0, min(stop, origin) - start)
        if earlier:
            local.append((depth, depth + earlier))
            depth += earlier
        if stop > origin:
            begin = max(start, origin)
            local.append((carried + begin - origin, carried + stop - origin))
    return _merged(local)


def _grouped(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Neighbouring pieces that share one call of attention."""
    group: list[Piece] = []
    for piece in pieces:
        count = piece.stop - piece.start
        alone = not piece.ancestors and count >= ALONE
        size = piece.place - group[0].place if group else 0
        if group and (alone or size + count > BLOCK or _is_alone(group)):
            yield group
            group = []
        group.append(piece)
    yield group


def _is_alone(group: Sequence[Piece]) -> bool:
    first = group[0]
    return not first.ancestors and first.stop - first.start >= ALONE


def _block(pieces: Sequence[Piece], origin: int, carried: int) -> Block:
    first, last = pieces[0], pieces[-1]
    start, stop = first.place, last.place + last.stop - last.start
    context = _in_pass(first.ancestors, origin, carried)
    if len(pieces) == 1 and not context:
        return Block(start - origin, stop - origin, (), None)
    outside = first.start  # a piece's depth is the number of its ancestors
    mask = np.zeros((stop - start, outside + stop - start), dtype=bool)
    for piece in pieces:
        begin, count = piece.place - start, piece.stop - piece.start
        rows = mask[begin : begin + count]
        inside = [(max(a, start), b) for a, b in piece.ancestors if b > start]
        rows[:, : piece.start - sum(b - a for a, b in inside)] = True
        for a, b in inside:
            rows[:, outside + a - start : outside + b - start] = True
        rows[:, outside + begin : outside + begin + count] = np.tri(count, dtype=bool)
    return Block(start - origin, stop - origin, context, mask)
