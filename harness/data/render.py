"""Encodes rows as tokens, in the same way for training, scoring and generation."""

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
from harness.data.row import Row


def layout_of(columns: Sequence[str]) -> str | None:
    """The layout of a normal row (see harness.data.layouts) with these columns; None if there is
    none."""
    for layout, needed in _COLUMNS.items():
        if needed <= set(columns):
            return layout
    return None


TEMPLATE_COLUMNS = ("tools", "documents", "chat_template_kwargs")
"""Columns of a normal row that the chat template reads besides the turns."""
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
    """The turns of a row with its answer at the end; None for a row of plain strings."""
    if "messages" in row:
        return list(row["messages"])
    if isinstance(row.get("prompt"), list):
        return [*row["prompt"], *(_answered(row) or [])]
    return None


def _answered(row: Row) -> Any:
    """The answer that a row trains on, as text or messages: the chosen one of a preference, the
    first of the best in a ranking; None if the row has no answer."""
    for name in ("messages", "completion", "chosen"):
        if name in row:
            return row[name]
    return best(row)[0] if "responses" in row else None


def _asked(row: Row) -> list[Mapping[str, Any]]:
    """The turns of a row before its answer."""
    return list(row["messages"][:-1] if "messages" in row else row["prompt"])


def prompt_row(row: Row) -> dict[str, Any]:
    """The row without its answer. Its prompt is a string or a chat."""
    prompt = _asked(row) if "messages" in row else row["prompt"]
    template_columns = {name: row[name] for name in TEMPLATE_COLUMNS if row.get(name)}
    kept = {"id": row["id"], "cluster": row["cluster"], "group": row["group"]}
    return {**kept, **template_columns, "prompt": prompt}


def require_rows(rows: Sequence[Row]) -> None:
    """Raise DataError if there are no rows."""
    if not rows:
        raise DataError("there are no rows", fix="check `where:`, `rows:` and `limit:`")


def template_digest(tokenizer: Any) -> str:
    """Digest of the tokenizer's chat template and its keyword arguments: 16 hexadecimal digits of a
    sha256. It must be the same in training and generation."""
    template, options = tokenizer.chat_template or "", template_options(tokenizer)
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    text += json.dumps(options, sort_keys=True) if options else ""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def require_template(tokenizer: Any, rows: Sequence[Row]) -> None:
    """Raise ModelError if rows are chats and the tokenizer has no chat template."""
    if any(turns_of(row) is not None for row in rows) and not tokenizer.chat_template:
        raise ModelError(
            "the rows are chats, and the model has no chat template",
            fix="set `chat_template:` on the model, or map the rows to prompt and completion",
        )


def encoded(tokenizer: Any, row: Row) -> Encoded:
    """A row as tokens, in the same way for training, scoring and generation (see
    harness.data.encode).

    The answer is the chosen one of a preference, and the first of the best in a ranking. A row of
    only a prompt has no answer.

    Raises:
        TemplateError: the chat template refuses the row.
    """
    answered = _answered(row)
    if turns_of(row) is not None:
        if not answered:
            return _asked_alone(asked_ids(tokenizer, row))
        every = "messages" in row
        turns = row["messages"][-1:] if every else answered
        return answered_chat(
            tokenizer, _asked(row), turns, template_kwargs_of(row), every_turn=every
        )
    if "prompt" not in row:
        return whole_text(tokenizer, row["text"])
    if not answered:
        return _asked_alone(asked_ids(tokenizer, row))
    return answered_text(tokenizer, row["prompt"], answered)


def _asked_alone(ids: list[int]) -> Encoded:
    return Encoded(ids, [False] * len(ids), len(ids), len(ids))


def encode(tokenizer: Any, row: Row) -> tuple[list[int], int]:
    """The tokens of a row whose likelihood is measured, and the number of its prompt's tokens (0
    for a text).

    A text has no EOS token here, which training adds. A chat ends with its last turn, without what
    the template writes after it.
    """
    if "text" in row:
        return text_ids(tokenizer, row["text"]), 0
    whole = encoded(tokenizer, row)
    return whole.ids[: whole.end], whole.prompt


def template_kwargs_of(row: Row) -> dict[str, Any]:
    """The keyword arguments that a row gives to the chat template: tools, documents, options."""
    template_kwargs = {name: row[name] for name in ("tools", "documents") if row.get(name)}
    if isinstance(template_kwargs.get("tools"), str):
        template_kwargs["tools"] = json.loads(template_kwargs["tools"])
    return {**template_kwargs, **(row.get("chat_template_kwargs") or {})}


def chat_ids(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False
) -> list[int]:
    """The tokens of a chat, rendered with the tokenizer's template."""
    if add_generation_prompt:
        return chat_prompt_ids(tokenizer, messages)
    return bare_ids(tokenizer, render(tokenizer, messages))


def trained_length(tokenizer: Any, row: Row, ids: Sequence[int] | None = None) -> int:
    """The number of a row's tokens in training, with the EOS token of plain text. Of a preference
    or ranking, the number for the longest answer.

    Args:
        ids: the tokens of the row in training, if they are known already.
    """
    ids = encoded(tokenizer, row).ids if ids is None else ids
    if "rejected" in row:  # both answers must fit
        return max(len(ids), len(encoded(tokenizer, {**row, "chosen": row["rejected"]}).ids))
    if "responses" in row:  # every answer must fit
        sides = ({**_kept(row), "chosen": answer} for answer in row["responses"])
        return max(len(encoded(tokenizer, side).ids) for side in sides)
    return len(ids)


def _kept(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in ("prompt", *TEMPLATE_COLUMNS) if name in row}


def question(row: Row) -> str:
    """The prompt of a row as plain text: for people, and for prompts without a chat template."""
    if turns_of(row) is None:
        return str(row.get("prompt", row.get("text", "")))
    turns = _asked(row)
    if len(turns) == 1:
        return str(turns[0]["content"])
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def answer(row: Row) -> str:
    """The answer that a row trains on, as plain text: the chosen one of a preference, the first of
    the best in a ranking; empty if the row has no answer."""
    value = _answered(row)
    return value if isinstance(value, str) else str(value[-1].get("content") or "") if value else ""


def scored_bytes(row: Row) -> int:
    """The number of UTF-8 bytes of the text whose likelihood is measured (see `encode`): a row's
    text, or its answer."""
    value = row["text"] if "text" in row else _answered(row) or ""
    if isinstance(value, str):
        return len(value.encode())
    turns = value[-1:] if "messages" in row else value
    return sum(len(said(turn).encode()) for turn in turns)


def asked_ids(tokenizer: Any, row: Row) -> list[int]:
    """The tokens of a row's prompt, in any layout. Answers are sampled after them, and in training
    the same tokens stand before the answer."""
    asked = row["messages"][:-1] if "messages" in row else row["prompt"]
    if isinstance(asked, str):
        return prompt_text_ids(tokenizer, asked)
    return chat_prompt_ids(tokenizer, asked, template_kwargs_of(row))


def prompt_ids(
    tokenizer: Any, row: Row, shots: Sequence[Row], generate: Mapping[str, Any]
) -> list[int]:
    """The tokens of a row's prompt behind its few-shot examples (see `prompt_of`)."""
    prompt = prompt_of(row, shots, generate)
    if isinstance(prompt, str):
        return prompt_text_ids(tokenizer, prompt)
    return chat_prompt_ids(tokenizer, prompt, template_kwargs_of(row))


def prompt_of(
    row: Row, shots: Sequence[Row], generate: Mapping[str, Any]
) -> str | list[Mapping[str, Any]]:
    """A row's prompt behind its few-shot examples, as a text or as the turns of a chat.

    With a chat template, the examples are earlier turns, and a system instruction is the first one,
    in the place of the row's own. Without a chat template, they are plain text, joined with the
    delimiters as in lm-eval.

    Args:
        shots: the rows of the few-shot examples.
        generate: a Generate's fields.
    """
    instruction = generate.get("system_instruction")
    if generate["apply_chat_template"] and turns_of(row) is not None:
        turns = [*(turn for shot in shots for turn in turns_of(shot) or []), *_asked(row)]
        if instruction is None:
            return turns
        others = [turn for turn in turns if turn["role"] != "system"]
        return [{"role": "system", "content": instruction}, *others]
    parts = [] if instruction is None else [instruction]
    if turns_of(row) is None and not shots and generate["apply_chat_template"]:
        return str(generate["fewshot_delimiter"].join([*parts, row["prompt"]]))
    parts += [f"{question(s)}{generate['target_delimiter']}{answer(s)}" for s in shots]
    parts.append(f"{question(row)}{generate['target_delimiter']}".rstrip(" "))
    return str(generate["fewshot_delimiter"].join(parts))
