"""From rows to tokens, one way for training, scoring and generation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.core.errors import DataError, ModelError
from harness.data.cells import said
from harness.data.chat import render, template_options
from harness.data.encode import (
    Encoded,
    answered_text,
    bare_ids,
    prompt_text_ids,
    text_ids,
    whole_text,
)
from harness.data.encode_chat import answered_chat, chat_prompt_ids
from harness.data.preferences import best

Row = Mapping[str, Any]


def layout_of(columns: Sequence[str]) -> str | None:
    """The layout of a normal row (see harness.data.layouts), from its columns; None for none."""
    for layout, needed in _COLUMNS.items():
        if needed <= set(columns):
            return layout
    return None


GIVEN = ("tools", "documents", "chat_template_kwargs")
"""Columns that a chat template reads beside the turns."""
_COLUMNS = {
    "messages": {"messages"},
    "preference": {"prompt", "chosen", "rejected"},
    "ranked": {"prompt", "responses"},
    "unpaired": {"prompt", "completion", "label"},
    "prompt_completion": {"prompt", "completion"},
    "text": {"text"},
    "prompt": {"prompt"},
}


def turns_of(row: Row) -> list[Mapping[str, Any]] | None:
    """The chat that a row is, its answer last; None for rows of plain strings."""
    if "messages" in row:
        return list(row["messages"])
    if isinstance(row.get("prompt"), list):
        return [*row["prompt"], *(_answered(row) or [])]
    return None


def _answered(row: Row) -> Any:
    """The answer a row trains on, text or messages; of a preference the chosen one, of a ranking
    the first of the best; None where there is none."""
    for name in ("messages", "completion", "chosen"):
        if name in row:
            return row[name]
    return best(row)[0] if "responses" in row else None


def _asked(row: Row) -> list[Mapping[str, Any]]:
    """The turns of a chat before its answer."""
    return list(row["messages"][:-1] if "messages" in row else row["prompt"])


def prompt_row(row: Row) -> dict[str, Any]:
    """The row without its answer: its prompt, as a string or as a chat."""
    prompt = _asked(row) if "messages" in row else row["prompt"]
    given = {name: row[name] for name in GIVEN if row.get(name)}
    kept = {"id": row["id"], "cluster": row["cluster"], "group": row["group"]}
    return {**kept, **given, "prompt": prompt}


def require_rows(rows: Sequence[Row]) -> None:
    """Raise where there is nothing to work on."""
    if not rows:
        raise DataError("there are no rows", fix="check `where:`, `rows:` and `limit:`")


def template_digest(tokenizer: Any) -> str:
    """Digest of the chat template in force and of what it is given beside the turns; training and
    generation must agree on it."""
    template, given = tokenizer.chat_template or "", template_options(tokenizer)
    told = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    told += json.dumps(given, sort_keys=True) if given else ""
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def require_template(tokenizer: Any, rows: Sequence[Row]) -> None:
    """Raise where chats meet a tokenizer without a chat template."""
    if any(turns_of(row) is not None for row in rows) and not tokenizer.chat_template:
        raise ModelError(
            "the rows are chats, and the model has no chat template",
            fix="set `chat_template:` on the model, or map the rows to prompt and completion",
        )


def encoded(tokenizer: Any, row: Row) -> Encoded:
    """A row as tokens, for training, scoring and generation alike (see harness.data.encode).

    Of a preference the answer is the chosen one, of a ranking the first of the best; a prompt alone
    has none.

    Raises:
        TemplateError: the chat template refuses the row.
    """
    answered = _answered(row)
    if turns_of(row) is not None:
        if not answered:
            return _asked_alone(asked_ids(tokenizer, row))
        every = "messages" in row
        turns = row["messages"][-1:] if every else answered
        return answered_chat(tokenizer, _asked(row), turns, template_given(row), every_turn=every)
    if "prompt" not in row:
        return whole_text(tokenizer, row["text"])
    if not answered:
        return _asked_alone(asked_ids(tokenizer, row))
    return answered_text(tokenizer, row["prompt"], answered)


def _asked_alone(ids: list[int]) -> Encoded:
    return Encoded(ids, [False] * len(ids), len(ids), len(ids))


def encode(tokenizer: Any, row: Row) -> tuple[list[int], int]:
    """A row's tokens as their likelihood is measured, and where its answer starts (0 for text).

    A text stands without the end-of-sequence token that training adds to it, and a chat without
    what its template writes after the end of its last turn.
    """
    if "text" in row:
        return text_ids(tokenizer, row["text"]), 0
    found = encoded(tokenizer, row)
    return found.ids[: found.end], found.prompt


def template_given(row: Row) -> dict[str, Any]:
    """What a row gives the chat template beside its turns."""
    given = {name: row[name] for name in ("tools", "documents") if row.get(name)}
    if isinstance(given.get("tools"), str):
        given["tools"] = json.loads(given["tools"])
    return {**given, **(row.get("chat_template_kwargs") or {})}


def chat_ids(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False
) -> list[int]:
    """Tokens of a chat through the tokenizer's template."""
    if add_generation_prompt:
        return chat_prompt_ids(tokenizer, messages)
    return bare_ids(tokenizer, render(tokenizer, messages))


def trained_length(tokenizer: Any, row: Row, ids: Sequence[int] | None = None) -> int:
    """Tokens of a row as trained on, the end-of-sequence token of plain text included.

    Args:
        ids: of the row as it is trained on, where they are at hand already.
    """
    ids = encoded(tokenizer, row).ids if ids is None else ids
    if "rejected" in row:  # both sides must fit
        return max(len(ids), len(encoded(tokenizer, {**row, "chosen": row["rejected"]}).ids))
    if "responses" in row:  # each must
        sides = ({**_kept(row), "chosen": answer} for answer in row["responses"])
        return max(len(encoded(tokenizer, side).ids) for side in sides)
    return len(ids)


def _kept(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in ("prompt", *GIVEN) if name in row}


def question(row: Row) -> str:
    """What a row asks, as plain text: for people, and for prompts without a chat template."""
    if turns_of(row) is None:
        return str(row.get("prompt", row.get("text", "")))
    turns = _asked(row)
    if len(turns) == 1:
        return str(turns[0]["content"])
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def answer(row: Row) -> str:
    """The answer a row trains on; of a preference the chosen one, of a ranking the first of the
    best, nothing where there is none."""
    value = _answered(row)
    return value if isinstance(value, str) else str(value[-1].get("content") or "") if value else ""


def scored_bytes(row: Row) -> int:
    """UTF-8 bytes of what a row's likelihood is about (see `encode`): its text, or its answer."""
    value = row["text"] if "text" in row else _answered(row) or ""
    if isinstance(value, str):
        return len(value.encode())
    turns = value[-1:] if "messages" in row else value
    return sum(len(said(turn).encode()) for turn in turns)


def asked_ids(tokenizer: Any, row: Row) -> list[int]:
    """Tokens of what a row asks, in whatever layout it is: what an answer is sampled after, and
    what stood before the answer in training."""
    asked = row["messages"][:-1] if "messages" in row else row["prompt"]
    if isinstance(asked, str):
        return prompt_text_ids(tokenizer, asked)
    return chat_prompt_ids(tokenizer, asked, template_given(row))


def prompt_ids(
    tokenizer: Any, row: Row, shots: Sequence[Row], generate: Mapping[str, Any]
) -> list[int]:
    """Tokens that a model is asked to continue.

    With a chat template shots are earlier turns; without one they are plain text, joined by the
    delimiters as lm-eval joins them.
    """
    if generate["apply_chat_template"] and turns_of(row) is not None:
        turns = [turn for shot in shots for turn in turns_of(shot) or []]
        return chat_prompt_ids(tokenizer, [*turns, *_asked(row)], template_given(row))
    if turns_of(row) is None and not shots and generate["apply_chat_template"]:
        return asked_ids(tokenizer, row)
    parts = [f"{question(s)}{generate['target_delimiter']}{answer(s)}" for s in shots]
    parts.append(f"{question(row)}{generate['target_delimiter']}".rstrip(" "))
    return prompt_text_ids(tokenizer, generate["fewshot_delimiter"].join(parts))
