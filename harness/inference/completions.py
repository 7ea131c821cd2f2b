"""The answer in what a server sends: of chat completions and of plain ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.inference.scored_text import Scored, scored_of
from harness.inference.wire import (
    whole,
)


@dataclass(frozen=True)
class Reply:
    """An answer of a model.

    Attributes:
        text: what it wrote; "" if nothing.
        prompt_tokens, completion_tokens: as the server counts them; 0 if it does not.
        finish: why it ended, as the server says it: `stop`, `length` or another word.
        refused: why there is no answer, if the server or the model refuses; else "".
        logprobs: for each token of the answer, the log-probabilities of the likeliest tokens there,
            if the request asks for them (`logprobs: true, top_logprobs: 5`) and the server has
            them.
        scored: the tokens of a plain completion with their log-probabilities, if the request asks
            for them, those of its prompt with `echo: true`.
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish: str = ""
    refused: str = ""
    logprobs: tuple[Mapping[str, float], ...] = ()
    scored: tuple[Scored, ...] = ()


class NoChoice(ValueError):
    """An answer that is whole and has no choice in it, as services send whose filter found the
    prompt wanting. It is sent again, as some are for other reasons."""


def chat_reply(fields: Any) -> Reply:
    """The first choice of a chat completion. Its text is "" if it is null: a refusal, or a model
    that was cut while it still reasoned. What is malformed beside the text, such as the usage or
    the log-probabilities, counts as not told: the answer is paid.

    Raises:
        ValueError, KeyError, IndexError, TypeError, AttributeError: the body is not what it should
            be, or its choice tells an error, as gateways to several services do.
        NoChoice: it has no choice.
    """
    choice = _choice(fields)
    message, finish = choice["message"], choice.get("finish_reason")
    if choice.get("error") or finish == "error":
        raise ValueError("an answer that broke off in an error")
    refused = message.get("refusal") or ("content_filter" if finish == "content_filter" else "")
    return _reply(fields, _said(message), finish, str(refused), _likeliest(choice))


def _choice(fields: Any) -> Any:
    """The first choice; most services send one alone."""
    if (
        isinstance(fields, dict)
        and not fields.get("error")
        and fields.get("choices", 0) in ([], None)
    ):
        raise NoChoice("no choice")
    return fields["choices"][0]


def _likeliest(choice: Any) -> tuple[Mapping[str, float], ...]:
    """The log-probabilities of the likeliest tokens at each place; none if they are malformed."""
    try:
        tokens = ((choice.get("logprobs") or {}).get("content")) or []
        return tuple(
            {
                str(entry["token"]): value
                for entry in token.get("top_logprobs") or ()
                if not math.isnan(value := float(entry["logprob"]))
            }
            for token in tokens
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()


def _said(message: Any) -> Any:
    """What a message says. Some services leave `content` out where a model only thought, and some
    send it in parts, of which those of other types are its thinking."""
    said = message.get("content") if "role" in message else message["content"]
    if not isinstance(said, list):
        return said
    return "".join(part["text"] for part in said if part["type"] == "text")


def plain_reply(fields: Any) -> Reply:
    """The first choice of a plain completion.

    Raises:
        ValueError, KeyError, IndexError, TypeError, AttributeError, NoChoice: as `chat_reply`.
    """
    choice = _choice(fields)
    reply = _reply(fields, choice["text"], choice.get("finish_reason"))
    return replace(reply, scored=scored_of(choice))


def _reply(
    fields: Any,
    text: Any,
    finish: Any,
    refused: str = "",
    logprobs: tuple[Mapping[str, float], ...] = (),
) -> Reply:
    if text is not None and not isinstance(text, str):
        raise TypeError("an answer that is not text")
    usage = usage if isinstance(usage := fields.get("usage"), Mapping) else {}
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    return Reply(whole(text or ""), prompt, completion, str(finish or ""), whole(refused), logprobs)


def _count(value: Any) -> int:
    """A count of tokens, which some services write as 7.0; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return 0
    return int(value) if value == value // 1 else 0
