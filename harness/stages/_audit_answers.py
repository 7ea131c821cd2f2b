"""Whether a row's loss is on its answers: told from its words and the tokens, not from the encoder.

What trains was encoded by harness.data.encode. Nothing here asks it where answers stand: a run of
tokens in the loss must begin where a prompt of the template ends, say what the turn says, and end
in a token that ends a turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from harness.data.chat import marked, render
from harness.data.chat_style import end_of_turn_ids, style_of
from harness.data.encode import bare_ids
from harness.data.render import asked_ids, template_kwargs_of
from harness.data.row import Row

_WORDS = 8
"""Letters at an answer's end that its run must hold: templates cut or trim what stands before."""


def answers_fault(
    tokenizer: Any, row: Row, ids: Sequence[int], trained: set[int], *, cut: bool
) -> str | None:
    """What is wrong with the tokens in the loss; None for nothing.

    Args:
        ids: of the row. trained: places of those in the loss. cut: the row went on.
    """
    if "messages" not in row:
        return _completion_fault(len(asked_ids(tokenizer, row)), len(ids), trained)
    said = [i for i, message in enumerate(row["messages"]) if message["role"] == "assistant"]
    turns = [place for place in said if row["messages"][place].get("weight") != 0]
    runs = list(_runs(trained))
    markers = marked(tokenizer, row["messages"], template_kwargs_of(row))
    if markers is not None and len(markers) != len(said):
        text = render(tokenizer, row["messages"], template_kwargs=template_kwargs_of(row))
        enclosed = "".join(text[start:end] for start, end in markers)
        asked = asked_ids(tokenizer, row)
        if asked == list(ids[: len(asked)]) and len(asked) - 1 in trained:
            return f"tokens of the prompt in the loss, one at {len(asked) - 1}"
        return _marked_fault(tokenizer, ids, runs, enclosed, cut=cut)
    if len(runs) != len(turns) and not (cut and len(runs) < len(turns)):
        return f"{len(runs)} answers in the loss, of {len(turns)}"
    for (start, end), turn in zip(runs, turns, strict=False):
        whole = not cut or end < len(ids)
        fault = _turn_fault(tokenizer, row, turn, ids, start, end if whole else None)
        if fault is not None:
            return fault
    return None


def _completion_fault(start: int, end: int, trained: set[int]) -> str | None:
    before = sorted(place for place in trained if place < start)
    if before:
        # Positions, not words: an audit stands in reports that may hold no sentence of the data.
        return f"{len(before)} tokens of the prompt in the loss, the first at {before[0]}"
    missing = set(range(start, end)) - trained
    if missing:
        return f"{len(missing)} tokens of the answer out of the loss, the first at {min(missing)}"
    return None


def _runs(places: set[int]) -> Iterator[tuple[int, int]]:
    """Places one after the other: the first, and the one after the last."""
    for place in sorted(places):
        if place - 1 not in places:
            end = place
            while end in places:
                end += 1
            yield place, end


def _marked_fault(
    tokenizer: Any, ids: Sequence[int], runs: Sequence[tuple[int, int]], enclosed: str, *, cut: bool
) -> str | None:
    """Of a template whose markers enclose something else than each turn: `enclosed`, all of it."""
    words = _letters(tokenizer.decode(bare_ids(tokenizer, enclosed)))
    if not runs and words:
        return "no token in the loss"
    marks = _marks(tokenizer)
    for number, (start, end) in enumerate(runs, 1):
        last = number == len(runs) and not cut
        ends = {*end_of_turn_ids(tokenizer), tokenizer.eos_token_id} if last else marks
        if ids[end - 1] not in ends and not cut:
            return "the end of an answer is not in the loss"
        inside = list(ids[start : end - 1] if ids[end - 1] in marks else ids[start:end])
        if _letters(tokenizer.decode(inside)) not in words:
            return "the loss is on tokens that the template does not mark"
    return None


def _turn_fault(
    tokenizer: Any, row: Row, turn: int, ids: Sequence[int], start: int, end: int | None
) -> str | None:
    """What is wrong with the run of one turn; `end`: where it ends, None where the row is cut."""
    before = row["messages"][:turn]
    asked = asked_ids(tokenizer, {**template_row(row), "prompt": before}) if before else []
    if asked == list(ids[: len(asked)]) and start < len(asked):
        count = len(asked) - start
        return f"{count} tokens of the prompt in the loss, the first at {start}"
    if end is None:
        return None
    said = row["messages"][turn].get("content")
    words = _letters(tokenizer.decode(bare_ids(tokenizer, said))) if isinstance(said, str) else ""
    last = words[-_WORDS:]  # nowhere in the row: its template writes them otherwise
    if last in _letters(tokenizer.decode(ids)) and last not in _letters(
        tokenizer.decode(ids[start:end])
    ):
        return f"turn {turn + 1}: the loss is not on what it says"
    ends = _marks(tokenizer)
    if turn + 1 == len(row["messages"]):
        ends = {*end_of_turn_ids(tokenizer), tokenizer.eos_token_id}
    if style_of(tokenizer).ends and ids[end - 1] not in ends:
        return f"turn {turn + 1}: its end is not in the loss"
    return None


def template_row(row: Row) -> dict[str, Any]:
    """What a row gives the chat template beside its turns, as columns."""
    return {"chat_template_kwargs": template_kwargs_of(row)}


def _marks(tokenizer: Any) -> set[int]:
    added = tokenizer.get_added_vocab().items()
    return {i for token, i in added if token.strip()} | set(tokenizer.all_special_ids)


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())
