"""From rows to tokens, one way for training, scoring and generation."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from harness.data.preferences import best
from harness.errors import DataError, ModelError

Row = Mapping[str, Any]


def layout_of(columns: Sequence[str]) -> str | None:
    """The layout of a normal row (see harness.data.layouts), from its columns; None for none."""
    for layout, needed in _COLUMNS.items():
        if needed <= set(columns):
            return layout
    return None


_COLUMNS = {
    "messages": {"messages"},
    "preference": {"prompt", "chosen", "rejected"},
    "ranked": {"prompt", "responses"},
    "unpaired": {"prompt", "completion", "label"},
    "prompt_completion": {"prompt", "completion"},
    "text": {"text"},
    "prompt": {"prompt"},
}


def turns_of(row: Row) -> list[Mapping[str, str]] | None:
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


def _asked(row: Row) -> list[Mapping[str, str]]:
    """The turns of a chat before its answer."""
    return list(row["messages"][:-1] if "messages" in row else row["prompt"])


def prompt_row(row: Row) -> dict[str, Any]:
    """The row without its answer: its prompt, as a string or as a chat."""
    prompt = _asked(row) if "messages" in row else row["prompt"]
    return {"id": row["id"], "cluster": row["cluster"], "group": row["group"], "prompt": prompt}


def require_rows(rows: Sequence[Row]) -> None:
    """Raise where there is nothing to work on."""
    if not rows:
        raise DataError("there are no rows", fix="check `where:`, `rows:` and `limit:`")


def template_digest(tokenizer: Any) -> str:
    """Digest of the chat template in force; training and generation must agree on it."""
    return hashlib.sha256((tokenizer.chat_template or "").encode()).hexdigest()[:16]


def require_template(tokenizer: Any, rows: Sequence[Row]) -> None:
    """Raise where chats meet a tokenizer without a chat template."""
    if any(turns_of(row) is not None for row in rows) and not tokenizer.chat_template:
        raise ModelError(
            "the rows are chats, and the model has no chat template",
            fix="set `chat_template:` on the model, or map the rows to prompt and completion",
        )


def encode(tokenizer: Any, row: Row) -> tuple[list[int], int]:
    """A row's tokens as TRL trains on them, and where its answer starts (0 for text).

    The answer starts where the tokens of the prompt alone and of the whole row diverge; of a
    preference it is the chosen one, of a ranking the first of the best.
    """
    turns = turns_of(row)
    if turns is not None:
        prompt = chat_ids(tokenizer, _asked(row), add_generation_prompt=True)
        whole = chat_ids(tokenizer, turns)
    elif "prompt" in row:
        prompt = tokenizer(text=row["prompt"])["input_ids"]
        if not answer(row):
            return prompt, len(prompt)
        whole = tokenizer(text=with_eos(tokenizer, row["prompt"] + answer(row)))["input_ids"]
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


def trained_length(tokenizer: Any, row: Row, ids: Sequence[int] | None = None) -> int:
    """Tokens of a row as trained on, the end-of-sequence token of plain text included.

    Args:
        ids: what `encode` gives for the row, where it is at hand already.
    """
    ids = encode(tokenizer, row)[0] if ids is None else ids
    if "rejected" in row:  # both sides must fit
        other, _ = encode(tokenizer, {**row, "chosen": row["rejected"]})
        return max(len(ids), len(other))
    if "responses" in row:  # each must
        sides = ({"prompt": row["prompt"], "chosen": answer} for answer in row["responses"])
        return max(len(encode(tokenizer, side)[0]) for side in sides)
    if "text" in row and list(ids[-1:]) != [tokenizer.eos_token_id]:
        return len(ids) + 1
    return len(ids)


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """The number of tokens that two sequences begin with alike."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


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
    return value if isinstance(value, str) else str(value[-1]["content"]) if value else ""


def asked_ids(tokenizer: Any, row: Row) -> list[int]:
    """Tokens of what a row asks, in whatever layout it is: what an answer is sampled after."""
    asked = row["messages"][:-1] if "messages" in row else row["prompt"]
    if isinstance(asked, str):
        return list(tokenizer(text=asked)["input_ids"])
    return chat_ids(tokenizer, asked, add_generation_prompt=True)


def prompt_ids(
    tokenizer: Any, row: Row, shots: Sequence[Row], generate: Mapping[str, Any]
) -> list[int]:
    """Tokens that a model is asked to continue.

    With a chat template shots are earlier turns; without one they are plain text, joined by the
    delimiters as lm-eval joins them.
    """
    if generate["apply_chat_template"] and turns_of(row) is not None:
        turns = [turn for shot in shots for turn in turns_of(shot) or []]
        return chat_ids(tokenizer, [*turns, *_asked(row)], add_generation_prompt=True)
    if turns_of(row) is None and not shots and generate["apply_chat_template"]:
        return asked_ids(tokenizer, row)
    parts = [f"{question(s)}{generate['target_delimiter']}{answer(s)}" for s in shots]
    parts.append(f"{question(row)}{generate['target_delimiter']}".rstrip(" "))
    return list(tokenizer(text=generate["fewshot_delimiter"].join(parts))["input_ids"])
