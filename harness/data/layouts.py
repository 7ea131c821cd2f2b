"""Recognises the layout of raw rows, and brings them into a normal form.

A normal row has one of these sets of columns. Its prompt and its answers are all strings, or all
lists of messages (`role`, `content`):

    text                  text
    messages              messages; perhaps tools, documents, chat_template_kwargs
    prompt_completion     prompt, completion
    prompt                prompt
    preference            prompt, chosen, rejected; perhaps dimension, chosen_score, rejected_score
    ranked                prompt, responses, ranks or scores; perhaps dimension
    unpaired              prompt, completion, label (true: wanted)

`scored` rows (prompt, completion, score) hold one answer each. If the suite names that layout, they
are gathered into `ranked` rows (see harness.data.preferences). The formats alpaca, sharegpt and
hh_rlhf are converted into the layouts above.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from harness.data.answers import answered_by_the_assistant, apart, split_chats, split_strings
from harness.data.cells import Unusable, content, string
from harness.data.columns import require_question, with_columns
from harness.data.messages import ROLES, Chat, messages, prompt_of, require_trained, side
from harness.data.preferences import Reading, dimension, pair_scores, ranked, scored
from harness.data.row import Row

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes"
    " the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
)
ALPACA_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further"
    " context. Write a response that appropriately completes the request.\n\n### Instruction:\n"
    "{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
"""The templates of github.com/tatsu-lab/stanford_alpaca, with a line feed before the response."""
_TURN = re.compile(r"\n\n(Human|Assistant):")


def detect(row: Row) -> str | None:
    """The layout or format that a row's columns show, such as `messages` or `alpaca`; None if
    unknown."""
    has = row.keys()
    if "conversations" in has:
        return "sharegpt"
    if "responses" in has and has & {"ranks", "ranking", "scores"}:
        return "ranked"
    if {"chosen", "rejected"} <= has:
        return "hh_rlhf" if _is_hh(row) else "preference"
    answered = "messages" in has or {"prompt", "completion"} <= has
    if answered and isinstance(row.get("label"), bool):
        return "unpaired"
    if "messages" in has:
        return "messages"
    if {"prompt", "completion"} <= has:
        return "prompt_completion"
    if {"instruction", "output"} <= has:
        return "alpaca"
    if "text" in has:
        return "text"
    return "prompt" if "prompt" in has else None


def normal(row: Row, layout: str, *, chat: bool, reading: Reading | None = None) -> dict[str, Any]:
    """The columns of a row in its normal form. A `scored` row is not gathered with others yet.

    Args:
        layout: a name that `detect` returns, or `scored`.
        chat: convert prompts and answers that are strings into chats.
        reading: how scores are read; default: unchanged.

    Raises:
        Unusable: the row does not fit the layout; the message says why.
    """
    reading = reading or Reading()
    columns = _JUDGED[layout](row, reading) if layout in _JUDGED else _FORMATS[layout](row, chat)
    if layout == "preference":
        columns |= {**dimension(row), **pair_scores(row, reading)}
    if chat and isinstance(columns.get("prompt"), str):
        columns = _as_chat(columns)
    elif isinstance(columns.get("prompt"), list):
        columns = answered_by_the_assistant(columns)
    answers = [columns[name] for name in _ANSWERS if name in columns] + columns.get("responses", [])
    if any(not content(answer).strip() for answer in answers):
        raise Unusable("empty")
    if "prompt" in columns and not content(columns["prompt"]).strip():
        raise Unusable("empty prompt")
    return with_columns(row, columns)


_ANSWERS = ("text", "messages", "completion", "chosen", "rejected")


def _text(row: Row, chat: bool) -> dict[str, Any]:
    return {"text": string(row, "text")}


def _chat(row: Row, chat: bool) -> dict[str, Any]:
    turns = messages(row.get("messages"), "messages", ends="assistant")
    if len(turns) < 2:
        raise Unusable("`messages` holds no question")
    return {"messages": require_trained(turns)}


def _pair(row: Row, chat: bool) -> dict[str, Any]:
    prompt = prompt_of(row)
    return {"prompt": prompt, "completion": side(row, "completion", prompt)}


def _prompt_only(row: Row, chat: bool) -> dict[str, Any]:
    return {"prompt": prompt_of(row)}


def _unpaired(row: Row, chat: bool) -> dict[str, Any]:
    if "messages" in row:
        *prompt, last = _chat(row, chat)["messages"]
        return {"prompt": prompt, "completion": [last], "label": _label(row)}
    return {**_pair(row, chat), "label": _label(row)}


def _label(row: Row) -> bool:
    known = {"true": True, "1": True, "up": True, "false": False, "0": False, "down": False}
    label = known.get(str(row.get("label")).lower())
    if label is None:
        raise Unusable("`label` is neither true nor false")
    return label


def _preference(row: Row, chat: bool) -> dict[str, Any]:
    whole = all(isinstance(row.get(name), list) for name in ("chosen", "rejected"))
    if isinstance(row.get("prompt"), str) and whole:
        chosen, rejected = (messages(row[n], n, ends="assistant") for n in ("chosen", "rejected"))
        if chosen[0]["role"] != "assistant":  # both contain the prompt
            return split_chats(chosen, rejected)
        asked: Chat = [{"role": "user", "content": string(row, "prompt")}]
        return apart({"prompt": asked, "chosen": chosen, "rejected": rejected})
    for column in ("prompt", "messages"):
        if row.get(column) is not None:
            prompt = prompt_of(row, column)
            sides = {name: side(row, name, prompt) for name in ("chosen", "rejected")}
            return apart({"prompt": prompt, **sides})
    if isinstance(row.get("chosen"), str):
        require_question(row, ("chosen", "rejected"))
        return apart(split_strings(string(row, "chosen"), string(row, "rejected")))
    chosen = messages(row.get("chosen"), "chosen", ends="assistant")
    return split_chats(chosen, messages(row.get("rejected"), "rejected", ends="assistant"))


def _alpaca(row: Row, chat: bool) -> dict[str, Any]:
    instruction, extra = string(row, "instruction"), str(row.get("input") or "")
    if row.get("history"):
        raise Unusable("alpaca's `history` is not read")
    if chat:
        prompt = f"{instruction}\n\n{extra}" if extra.strip() else instruction
        answer = {"role": "assistant", "content": string(row, "output")}
        return {"messages": [{"role": "user", "content": prompt}, answer]}
    template = ALPACA_INPUT if extra.strip() else ALPACA
    prompt = template.format(instruction=instruction, input=extra)
    return {"prompt": prompt, "completion": string(row, "output")}


def _sharegpt(row: Row, chat: bool) -> dict[str, Any]:
    paired = {"chosen", "rejected"} <= row.keys()
    turns = messages(
        row.get("conversations"), "conversations", ends=None if paired else "assistant"
    )
    if paired:
        sides = {n: messages(row.get(n), n, ends="assistant") for n in ("chosen", "rejected")}
        return apart({"prompt": turns, **sides})
    if isinstance(row.get("label"), bool):
        return _unpaired({"messages": turns, "label": row["label"]}, chat)
    return _chat({"messages": turns}, chat)


def _is_hh(row: Row) -> bool:
    sides = (row["chosen"], row["rejected"])
    return "prompt" not in row and all(isinstance(s, str) and _TURN.match(s) for s in sides)


def _hh(row: Row, chat: bool) -> dict[str, Any]:
    sides = [_hh_turns(string(row, name)) for name in ("chosen", "rejected")]
    for name, turns in zip(("chosen", "rejected"), sides, strict=True):
        messages(turns, name, ends="assistant")
    return split_chats(*sides)


def _hh_turns(text: str) -> Chat:
    """The turns of a dialogue as in github.com/anthropics/hh-rlhf:
    `\\n\\nHuman: ...\\n\\nAssistant: ...`."""
    head, *parts = _TURN.split(text)
    if head.strip() or not parts:
        raise Unusable("no dialogue of Human and Assistant")
    roles = [ROLES[name.lower()] for name in parts[::2]]
    return [
        {"role": role, "content": content.strip()}
        for role, content in zip(roles, parts[1::2], strict=True)
    ]


def _as_chat(row: dict[str, Any]) -> dict[str, Any]:
    """The row as a chat: its prompt becomes the user's turn, each answer a turn of the
    assistant."""
    user: Chat = [{"role": "user", "content": row["prompt"]}]
    sides: dict[str, Any] = {
        name: [{"role": "assistant", "content": row[name].strip()}]
        for name in ("completion", "chosen", "rejected")
        if name in row
    }
    if row.keys() == {"prompt", "completion"}:
        return {"messages": user + sides["completion"]}
    if "responses" in row:
        sides["responses"] = [
            [{"role": "assistant", "content": answer.strip()}] for answer in row["responses"]
        ]
    return {**row, "prompt": user, **sides}


_JUDGED: dict[str, Callable[[Row, Reading], dict[str, Any]]] = {
    "ranked": ranked,
    "scored": scored,
}
_FORMATS: dict[str, Callable[[Row, bool], dict[str, Any]]] = {
    "text": _text,
    "messages": _chat,
    "prompt_completion": _pair,
    "prompt": _prompt_only,
    "preference": _preference,
    "unpaired": _unpaired,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "hh_rlhf": _hh,
}
