"""Texts of lm-eval's requests as tokens, byte for byte as lm-eval's own `HFLM` encodes them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2

from harness.core.errors import ModelError

Pair = tuple[list[int], list[int]]
"""Tokens of a context and of what follows it."""
_LOG = logging.getLogger(__name__)
_AT_ONCE = 1000
"""Texts that are tokenised by one call."""


class Encoder:
    """Encodes each distinct text of some requests once.

    Args:
        prefix: the token that stands where a context is empty.
        add_bos_token: lm-eval's option: whether encoding adds special tokens; None: what the
            tokenizer does by itself.
    """

    def __init__(self, tokenizer: Any, prefix: int | None, add_bos_token: bool | None) -> None:
        self.tokenizer, self.prefix, self._add = tokenizer, prefix, add_bos_token
        self._begin = "" if prefix is None else str(tokenizer.decode(prefix))

    def encode(self, text: str, special: bool | None = None) -> list[int]:
        """One text's tokens.

        Args:
            special: whether special tokens are added; None: as `add_bos_token` says, and never to
                a text that begins with the prefix already.
        """
        ids: list[int] = self.tokenizer.encode(text, **self._options(text, special))
        return ids

    def _options(self, text: str, special: bool | None) -> dict[str, bool]:
        if special is None and self.prefix is not None and text.startswith(self._begin):
            special = False
        chosen = self._add if special is None else special
        return {} if chosen is None else {"add_special_tokens": chosen}

    def encode_all(self, texts: Iterable[str], begins: str | None = None) -> dict[str, list[int]]:
        """The tokens of many texts, each as `encode` gives them.

        Args:
            begins: another beginning that special tokens are not added to, in the prefix's place.
        """
        kinds: dict[bool | None, list[str]] = {}
        for text in dict.fromkeys(texts):
            if begins is None:
                kind = self._options(text, None).get("add_special_tokens")
            else:
                kind = False if begins and text.startswith(begins) else self._add
            kinds.setdefault(kind, []).append(text)
        encoded: dict[str, list[int]] = {}
        for special, alike in kinds.items():
            options = {} if special is None else {"add_special_tokens": special}
            for start in range(0, len(alike), _AT_ONCE):
                part = alike[start : start + _AT_ONCE]
                rows = self.tokenizer(text=part, **options)["input_ids"]
                encoded.update(zip(part, rows, strict=True))
        return encoded

    def contexts(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """The tokens of contexts to be answered, as `HFLM.tok_batch_encode` gives them.

        It looks for the token that begins texts, where `encode` looks for the prefix.
        """
        return self.encode_all(texts, begins=str(self.tokenizer.bos_token or ""))

    def pairs(self, requests: Sequence[tuple[str, str]]) -> list[Pair]:
        """The tokens of contexts and continuations, as `TemplateLM.loglikelihood` makes them.

        Raises:
            ModelError: a context is empty, and the tokenizer has no token to stand for it; a
                continuation adds no token to its context.
        """
        moved = [_spaces_moved(*request) for request in requests]
        texts = self.encode_all(
            text for context, rest in moved if context for text in (context, context + rest)
        )
        pairs = []
        for request, (context, rest) in zip(requests, moved, strict=True):
            if request[0] == "":
                pairs.append(self._after_prefix(rest))
                continue
            # Spaces alone are no context after they moved: `encode` says what they become.
            before = texts[context] if context else self.encode(context)
            whole = texts[context + rest] if context else self.encode(rest)
            pairs.append((before, whole[len(before) :]))
        for request, (before, after) in zip(requests, pairs, strict=True):
            if not before or not after:
                raise ModelError(
                    f"no token is left of the {'context' if not before else 'continuation'} of"
                    f" {request!r}",
                    fix="give the task a context, a choice and a delimiter that are not empty",
                )
        return pairs

    def _after_prefix(self, text: str) -> Pair:
        if self.prefix is None:
            raise ModelError(
                "a request has no context, and the tokenizer has no token that begins or ends a"
                " sequence",
                fix="name one: HarnessLM(prefix_token_id=...)",
            )
        ids = self.encode(text, special=False)
        if ids[:1] == [self.prefix]:
            return ids[:1], ids[1:]
        return [self.prefix], ids


def prefix_of(tokenizer: Any) -> int | None:
    """The token that stands where a context is empty: the one that begins texts, else the one that
    ends them."""
    chosen = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    return next((token for token in chosen if token is not None), None)


def render_chat(
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool,
    options: Mapping[str, Any],
) -> str:
    """Messages by the tokenizer's chat template, as lm-eval's `HFLM` renders them.

    Args:
        options: what the template reads besides the messages.
    """

    def render(turns: Sequence[Mapping[str, str]]) -> str:
        return str(tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt, **options,
        ))  # fmt: skip

    try:
        return render(messages)
    except jinja2.exceptions.TemplateError:
        # As in lm-eval: a template that knows no system turn is given none.
        _LOG.warning("the chat template refuses the messages; their system turn is left out")
        return render([each for each in messages if each["role"] != "system"])


def _spaces_moved(context: str, continuation: str) -> tuple[str, str]:
    """Spaces at a context's end belong to what follows it, as words are tokenised with them."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation
