"""From rows to tokens, one way for training, scoring and generation."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import DataError, ModelError

Row = Mapping[str, Any]


def layout_of(columns: Sequence[str]) -> str | None:
    """The layout a row's columns make: `messages`, `prompt_completion`, `text`, or None."""
    if "messages" in columns:
        return "messages"
    if "prompt" in columns and "completion" in columns:
        return "prompt_completion"
    return "text" if "text" in columns else None


def require_rows(rows: Sequence[Row]) -> None:
    """Raise where there is nothing to work on."""
    if not rows:
        raise DataError("there are no rows", fix="check `where:`, `rows:` and `limit:`")


def template_digest(tokenizer: Any) -> str:
    """Digest of the chat template in force; training and generation must agree on it."""
    return hashlib.sha256((tokenizer.chat_template or "").encode()).hexdigest()[:16]


def require_template(tokenizer: Any, rows: Sequence[Row]) -> None:
    """Raise where chats meet a tokenizer without a chat template."""
    if any("messages" in row for row in rows) and not tokenizer.chat_template:
        raise ModelError(
            "the rows are chats, and the model has no chat template",
            fix="set `chat_template:` on the model, or map the rows to prompt and completion",
        )


def encode(tokenizer: Any, row: Row) -> tuple[list[int], int]:
    """A row's tokens as TRL trains on them, and where its answer starts (0 for text).

    The answer starts where the tokens of the prompt alone and of the whole row diverge.
    """
    if "messages" in row:
        *before, _ = row["messages"]
        prompt = chat_ids(tokenizer, before, add_generation_prompt=True)
        whole = chat_ids(tokenizer, row["messages"])
    elif "prompt" in row:
        prompt = tokenizer(text=row["prompt"])["input_ids"]
        whole = tokenizer(text=with_eos(tokenizer, row["prompt"] + row["completion"]))["input_ids"]
    else:
        return tokenizer(text=row["text"])["input_ids"], 0
    return whole, common_prefix(prompt, whole)


def chat_ids(
    tokenizer: Any, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = False
) -> list[int]:
    """Tokens of a chat through the tokenizer's template."""
    encoded = tokenizer.apply_chat_template(
        list(messages),
        add_generation_prompt=add_generation_prompt,
        tokenize=True,
        return_dict=True,
    )
    return list(encoded["input_ids"])


def with_eos(tokenizer: Any, text: str) -> str:
    """The text ending in the end-of-sequence token, as TRL adds it to rows without a chat."""
    eos = tokenizer.eos_token or ""
    return text if text.endswith(eos) else text + eos


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """The number of tokens that two sequences begin with alike."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def question(row: Row) -> str:
    """What a row asks, as plain text: for people, and for prompts without a chat template."""
    if "messages" in row:
        turns = row["messages"][:-1]
        if len(turns) == 1:
            return str(turns[0]["content"])
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
    return str(row.get("prompt", row.get("text", "")))


def answer(row: Row) -> str:
    """The answer a row trains on."""
    if "messages" in row:
        return str(row["messages"][-1]["content"])
    return str(row.get("completion", ""))


def prompt_ids(
    tokenizer: Any, row: Row, shots: Sequence[Row], generate: Mapping[str, Any]
) -> list[int]:
    """Tokens that a model is asked to continue.

    With a chat template shots are earlier turns; without one they are plain text, joined by the
    delimiters as lm-eval joins them.
    """
    if generate["apply_chat_template"] and "messages" in row:
        turns = [turn for shot in shots for turn in shot["messages"]]
        return chat_ids(tokenizer, [*turns, *row["messages"][:-1]], add_generation_prompt=True)
    if "messages" not in row and not shots and generate["apply_chat_template"]:
        return list(tokenizer(text=row["prompt"])["input_ids"])
    parts = [f"{question(s)}{generate['target_delimiter']}{answer(s)}" for s in shots]
    parts.append(f"{question(row)}{generate['target_delimiter']}".rstrip(" "))
    return list(tokenizer(text=generate["fewshot_delimiter"].join(parts))["input_ids"])
