"""Each token of a packed tree attends to its own row's tokens before it, whatever the passes."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from harness.inference import trie as trie_module
from harness.inference.trie import Trie, common_prefix

ROWS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=40), min_size=1, max_size=12)


def seen(trie: Trie, budget: int, known: list[int]) -> dict[int, list[int]]:
    """Place -> the tokens that it attends to, in the order of their positions, as a model would."""
    attended: dict[int, list[int]] = {}
    before = [(token, position) for position, token in enumerate(known)]
    for each in trie.passes(budget, known=len(known)):
        kept = [before[i] for start, stop in each.keep for i in range(start, stop)]
        assert len(kept) == each.carried
        keys = [*kept, *zip(each.ids.tolist(), each.positions.tolist(), strict=True)]
        assert [block.start for block in each.blocks] == [
            0, *(block.stop for block in each.blocks[:-1])
        ]  # fmt: skip
        for block in each.blocks:
            own = (each.carried + block.start, each.carried + block.stop)
            context = [keys[i] for start, stop in (*block.context, own) for i in range(start, stop)]
            count = block.stop - block.start
            mask = np.tri(count, dtype=bool) if block.mask is None else block.mask
            for line in range(count):
                visible = [key for key, on in zip(context, mask[line], strict=True) if on]
                assert [position for _, position in visible] == list(range(len(visible)))
                attended[each.place + block.start + line] = [token for token, _ in visible]
        before = keys
    return attended


@given(ROWS, st.integers(1, 50), st.integers(1, 30), st.integers(1, 20))
@example([[0, 1], [0, 1, 2], [0, 1, 2, 0], [1]], 3, 2, 1)
def test_a_token_attends_to_its_row_before_it_and_to_nothing_else(
    rows: list[list[int]], budget: int, block: int, alone: int
) -> None:
    kept = trie_module.BLOCK, trie_module.ALONE
    trie_module.BLOCK, trie_module.ALONE = block, alone
    try:
        trie = Trie(rows)
        attended = seen(trie, budget, [])
    finally:
        trie_module.BLOCK, trie_module.ALONE = kept
    assert sorted(attended) == list(range(trie.size))
    for number, row in enumerate(rows):
        for length, place in enumerate(trie.places(number, 0).tolist(), 1):
            assert attended[place] == row[:length]


@given(ROWS, st.lists(st.integers(0, 2), min_size=1, max_size=20), st.integers(1, 50))
def test_what_all_rows_begin_with_may_be_known_already(
    rows: list[list[int]], begin: list[int], budget: int
) -> None:
    whole = [[*begin, *row] for row in rows]
    trie = Trie(whole)
    attended = seen(trie, budget, begin)
    assert sorted(attended) == list(range(len(begin), trie.size))
    for number, row in enumerate(whole):
        places = trie.places(number, len(begin)).tolist()
        for length, place in enumerate(places, len(begin) + 1):
            assert attended[place] == row[:length]


@given(ROWS)
def test_each_shared_token_is_read_once(rows: list[list[int]]) -> None:
    beginnings = {tuple(row[: i + 1]) for row in rows for i in range(len(row))}
    assert Trie(rows).size == len(beginnings)


@given(ROWS, st.integers(1, 50))
def test_a_pass_keeps_its_budget(rows: list[list[int]], budget: int) -> None:
    sizes = [len(each.ids) for each in Trie(rows).passes(budget)]
    assert max(sizes) <= budget


@given(st.lists(st.integers(0, 1), max_size=9), st.lists(st.integers(0, 1), max_size=9))
def test_common_beginnings_are_found(one: list[int], other: list[int]) -> None:
    alike = next(
        (i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
        min(len(one), len(other)),
    )
    assert common_prefix(one, other) == alike
