"""Stands for the tokenizer of a served model, which is not known: texts stay texts, and a chat is
written as JSON, which the server's own template then renders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_CHAT = "\x1echat\x1e"
"""Before the JSON of a chat's turns; no text of a task begins with it."""


class ServiceText:
    """What lm-eval's tasks ask of a tokenizer, for a served model. A token is a byte.

    Attributes:
        chat_template: only says that there is one, at the server.
    """

    chat_template = "the server's own"
    chat_template_kwargs: Mapping[str, Any] = {}
    bos_token = bos_token_id = eos_token_id = None
    name_or_path = "served"

    def __call__(self, text: Sequence[str], **_: Any) -> dict[str, Any]:
        """The bytes of several texts."""
        return {"input_ids": [self.encode(each) for each in text]}

    def encode(self, text: str, **_: Any) -> list[int]:
        """The bytes of a text."""
        return list(text.encode("utf-8", "replace"))

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], **_: Any) -> str:
        """The turns as text, which `turns_in` reads."""
        return _CHAT + json.dumps([dict(message) for message in messages], ensure_ascii=False)


def turns_in(text: str) -> list[Mapping[str, Any]] | None:
    """The turns of a chat that `ServiceText` wrote; None for any other text. What stands behind
    them is the beginning of the answer."""
    if not text.startswith(_CHAT):
        return None
    turns, end = json.JSONDecoder().raw_decode(text, len(_CHAT))
    begun = text[end:]
    return [*turns, {"role": "assistant", "content": begun}] if begun.strip() else list(turns)
