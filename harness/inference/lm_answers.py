"""lm-eval's generation requests, answered as its own `HFLM` answers each of them alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)

from harness.core.errors import ModelError
from harness.inference.batches import budget_batches, pad_token, padded
from harness.inference.continuous import Prompt, answer_greedily, likeliest
from harness.inference.sharing import Sharing
from harness.models.generation_defaults import TOKEN_IDS

_GREEDY = {"do_sample", "temperature", "top_p", "top_k", "min_p", "typical_p", "use_cache"}
"""Options that change nothing of a greedy answer."""
_SILENT = {
    *_GREEDY, *TOKEN_IDS, "max_length", "max_new_tokens", "transformers_version",
    "_from_model_config", "cache_implementation", "output_attentions", "output_hidden_states",
}  # fmt: skip
"""Fields of a model's generation config that change nothing of a greedy answer of a length."""


class Answering(Protocol):
    """What answers are made with."""

    model: Any
    tokenizer: Any
    max_gen_toks: int
    batch_tokens: int
    cache_bytes: int
    sharing: Sharing
    think_end_token: str | int | None
    truncated: int

    @property
    def max_length(self) -> int: ...


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
    def of(cls, ids: list[int], options: Mapping[str, Any], lm: Answering) -> Asks:
        """Read a request, of a context's tokens and its generation_kwargs, as lm-eval does.

        Raises:
            ModelError: the answer leaves no room for the context.
        """
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


def answers(lm: Answering, asked: Sequence[Asks], progress: Callable[[int], None]) -> list[str]:
    """The text that answers each request, without its stop string."""
    ends = _ends(lm)
    plain = lm.sharing.answers and not _says_more(lm.model)
    packed = [
        plain and each.greedy and lm.sharing.allows(len(each.ids) + each.room) for each in asked
    ]
    tokens: dict[int, list[int]] = {}
    chosen = [i for i, each in enumerate(packed) if each]
    prompts = [
        Prompt(asked[i].ids, asked[i].room, Stops(lm.tokenizer, asked[i].until)) for i in chosen
    ]
    rows = answer_greedily(lm.model, prompts, lm.batch_tokens, lm.cache_bytes, ends, progress)
    tokens.update(zip(chosen, rows, strict=True))
    groups: dict[str, list[int]] = {}
    for i, each in enumerate(asked):
        if not packed[i]:
            key = json.dumps([each.until, each.room, each.options], sort_keys=True, default=str)
            groups.setdefault(key, []).append(i)
    for alike in groups.values():
        tokens.update(_generate(lm, asked, alike, progress))
    return [_text(lm, tokens[i], each.until) for i, each in enumerate(asked)]


class Stops:
    """Whether an answer's newest tokens complete a stop string.

    Only the last tokens are decoded: a stop string that ends with the newest one lies within as
    many tokens as it has bytes. Special tokens are seen, as in lm-eval.
    """

    def __init__(self, tokenizer: Any, until: Sequence[str]) -> None:
        self._tokenizer, self._until = tokenizer, until
        self._window = max((len(stop.encode()) for stop in until), default=0) + 4

    def __call__(self, answer: Sequence[int]) -> bool:
        if not self._until:
            return False
        text = self._tokenizer.decode(answer[-self._window :], skip_special_tokens=False)
        return any(stop in text for stop in self._until)


def _ends(lm: Answering) -> frozenset[int]:
    config = getattr(lm.model, "generation_config", None)
    listed = config.eos_token_id if config is not None else None
    known = listed if isinstance(listed, list) else [listed]
    return frozenset(i for i in [*known, lm.tokenizer.eos_token_id] if i is not None)


def _says_more(model: Any) -> bool:
    """Whether a model's own generation config changes what greedy search finds."""
    config = getattr(model, "generation_config", None)
    told = {} if config is None else config.to_diff_dict()
    return not {name for name, value in told.items() if value not in (None, False)} <= _SILENT


def _generate(
    lm: Answering, asked: Sequence[Asks], alike: Sequence[int], progress: Callable[[int], None]
) -> dict[int, list[int]]:
    """Answers of transformers' own `generate`, to requests that differ in their contexts alone."""
    import torch

    first, pad = asked[alike[0]], pad_token(lm.tokenizer)
    options = {k: v for k, v in first.options.items() if k not in ("max_length", "use_cache")}
    if not options.get("do_sample"):
        options.pop("temperature", None)
    tokens: dict[int, list[int]] = {}
    for batch in budget_batches([len(asked[i].ids) + first.room for i in alike], lm.batch_tokens):
        chosen = [alike[k] for k in batch]
        ids, mask = (
            each.to(lm.model.device)
            for each in padded([asked[i].ids for i in chosen], pad, left=True)
        )
        length = ids.shape[1]
        with torch.inference_mode():
            whole = lm.model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=first.room, use_cache=True,
                pad_token_id=pad, **_watched(Stops(lm.tokenizer, first.until), length), **options,
            )  # fmt: skip
        tokens.update(zip(chosen, whole[:, length:].tolist(), strict=True))
        progress(len(chosen))
    return tokens


def _watched(stops: Stops, length: int) -> dict[str, Any]:
    """What `generate` of transformers is given to end rows at stop strings, and to refuse logits
    that are not numbers.

    Args:
        length: tokens of the padded contexts.
    """
    import torch
    from transformers import (
        LogitsProcessor,
        LogitsProcessorList,
        StoppingCriteria,
        StoppingCriteriaList,
    )

    class StopStrings(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            done = [stops(row) for row in input_ids[:, length:].tolist()]
            return torch.tensor(done, device=input_ids.device)

    class Numbers(LogitsProcessor):
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            likeliest(scores)
            return scores

    return {
        "stopping_criteria": StoppingCriteriaList([StopStrings()]),
        "logits_processor": LogitsProcessorList([Numbers()]),
    }


def _text(lm: Answering, tokens: list[int], until: list[str]) -> str:
    """An answer's text as lm-eval reads it."""
    end = lm.think_end_token
    if isinstance(end, int) and end in tokens:
        tokens = tokens[len(tokens) - tokens[::-1].index(end) :]
    text = lm.tokenizer.decode(tokens, skip_special_tokens=True)
    if isinstance(end, int):
        text = text.lstrip()
    mark = end if isinstance(end, str) else None
    return str(postprocess_generated_text(text, until, mark))
