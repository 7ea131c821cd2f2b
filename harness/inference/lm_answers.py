"""lm-eval's generation requests, answered as its own `HFLM` answers each of them alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)

from harness.core.errors import ModelError
from harness.inference.batches import budget_batches, end_tokens, pad_token
from harness.inference.continuous import Prompt
from harness.inference.decoding import answer, decode
from harness.inference.generate import ends_at
from harness.models.generation_defaults import TOKEN_IDS

if TYPE_CHECKING:
    from harness.inference.lm import HarnessLM

_GREEDY = {"do_sample", "temperature", "top_p", "top_k", "min_p", "typical_p", "use_cache"}
"""Options that change nothing of a greedy answer."""
_SILENT = {
    *_GREEDY, *TOKEN_IDS, "max_length", "max_new_tokens", "transformers_version",
    "_from_model_config", "cache_implementation", "output_attentions", "output_hidden_states",
}  # fmt: skip
"""Fields of a model's generation config that change nothing of a greedy answer of a length."""


@dataclass(frozen=True)
class Asks:
    """One request.

    Attributes:
        ids: its context, cut at its beginning where it leaves no room for the answer.
        until: its stop strings, among them the token that ends texts.
        room: tokens that the answer may have.
        options: what else generation is asked for, as `generate` of transformers takes it.
    """

    ids: list[int]
    until: list[str]
    room: int
    options: dict[str, Any]

    @classmethod
    def of(cls, ids: list[int], options: Mapping[str, Any], lm: HarnessLM) -> Asks:
        """Read a request, of a context's tokens and its generation_kwargs, as lm-eval does.

        Raises:
            ModelError: there is no context, or the answer leaves no room for it.
        """
        if not ids:
            raise ModelError(
                "a request to answer has no context, not even a token that begins texts",
                fix="give the task a doc_to_text that is not empty",
            )
        kwargs = dict(normalize_gen_kwargs(dict(options), lm.max_gen_toks))
        end = lm.tokenizer.eos_token_id
        text = None if end is None else lm.tokenizer.decode(end, skip_special_tokens=False)
        until = handle_stop_sequences(kwargs.pop("until", None), eos=text)
        room = int(kwargs.pop("max_gen_toks"))
        limit = lm.max_length - room
        if limit <= 0 or room < 1:
            raise ModelError(
                f"an answer of {room} tokens leaves no room for its context: the model has room for"
                f" {lm.max_length}",
                fix="set max_gen_toks in the task's generation_kwargs, or in gen_kwargs",
            )
        lm.truncated += len(ids) > limit
        return cls(ids[-limit:], until, room, kwargs)

    @property
    def greedy(self) -> bool:
        """Whether nothing but the likeliest tokens is asked for."""
        return not self.options.get("do_sample") and self.options.keys() <= _GREEDY


def answers(lm: HarnessLM, asked: Sequence[Asks], progress: Callable[[int], None]) -> list[str]:
    """The text that answers each request, without its stop string."""
    ends, pad = end_tokens(lm.model, lm.tokenizer, chats=False), pad_token(lm.tokenizer)
    prompts = [Prompt(each.ids, each.room, ends_at(lm.tokenizer, each.until)) for each in asked]
    silent = not _says_more(lm.model)
    greedy = [i for i, each in enumerate(asked) if silent and each.greedy]
    rows = answer(
        lm.model, [prompts[i] for i in greedy], lm.batch_tokens, ends, pad,
        sharing=lm.sharing, cache_bytes=lm.cache_bytes, progress=progress,
    )  # fmt: skip
    tokens = dict(zip(greedy, rows, strict=True))
    groups: dict[str, list[int]] = {}
    for i, each in enumerate(asked):
        if i not in tokens:
            key = json.dumps([each.room, each.options], sort_keys=True, default=str)
            groups.setdefault(key, []).append(i)
    for alike in groups.values():
        options = _for_generate(asked[alike[0]].options)
        for batch in budget_batches([prompts[i].places for i in alike], lm.batch_tokens):
            chosen = [alike[k] for k in batch]
            rows = decode(lm.model, [prompts[i] for i in chosen], ends, pad, options=options)
            tokens.update(zip(chosen, rows, strict=True))
            progress(len(chosen))
    return [_text(lm, tokens[i], each.until) for i, each in enumerate(asked)]


def _for_generate(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a request as `generate` of transformers takes them."""
    unwanted = {"max_length", "use_cache"}
    if not options.get("do_sample"):
        unwanted.add("temperature")
    return {name: value for name, value in options.items() if name not in unwanted}


def _says_more(model: Any) -> bool:
    """Whether a model's own generation config changes what greedy search finds."""
    config = getattr(model, "generation_config", None)
    told = {} if config is None else config.to_diff_dict()
    return not {name for name, value in told.items() if value not in (None, False)} <= _SILENT


def _text(lm: HarnessLM, tokens: list[int], until: list[str]) -> str:
    """An answer's text as lm-eval reads it."""
    end = lm.think_end_token
    if isinstance(end, int) and end in tokens:
        tokens = tokens[len(tokens) - tokens[::-1].index(end) :]
    text = lm.tokenizer.decode(tokens, skip_special_tokens=True)
    if isinstance(end, int):
        text = text.lstrip()
    mark = end if isinstance(end, str) else None
    return str(postprocess_generated_text(text, until, mark))
