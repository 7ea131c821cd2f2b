"""Batched generation with per-row stop strings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from harness.core.errors import StageFailed
from harness.inference.batches import counted, end_tokens, pad_token
from harness.inference.context import context_of
from harness.inference.continuous import Ends, Prompt
from harness.inference.decoding import answer
from harness.inference.reading import Answer, Reader, first
from harness.inference.sampling import Choose, likeliest, sampled


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    options: Mapping[str, Any],
    progress: Callable[[int, int, str], None],
    *,
    adapter_names: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    chats: bool = False,
) -> list[Answer]:
    """Answer tokenised prompts, in their order, by greedy decoding or by sampling with seeds.

    Prompts of similar length share a batch of at most `batch_tokens` tokens, padded prompts and
    answers together. Of the model's generation config, the token ids alone are used.

    Args:
        options: max_new_tokens, batch_tokens, until and, optionally, thinking; temperature and
            top_p for sampled answers (see harness.suite.suite.Generate).
        adapter_names: each prompt's adapter, for a model that mixes adapters in one batch.
        seeds: each prompt's seed; default: greedy decoding.
        chats: the prompts come from the chat template, so the end of a turn ends an answer too.

    Raises:
        StageFailed: a prompt is empty, or leaves no room for an answer in the model's context.
    """
    limit = context_of(model)
    room = options["max_new_tokens"]
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise StageFailed(
                "empty prompt", f"prompt {index} has no tokens", fix="leave the row out"
            )
        if limit is not None and len(prompt) + room > limit:
            raise StageFailed(
                "prompt too long",
                f"prompt {index} has {len(prompt)} tokens and the answer may have {room}, but the"
                f" model's context has room for {limit}",
                fix="lower generate.max_new_tokens or num_fewshot, or filter the test rows",
            )
    eos, pad = end_tokens(model, tokenizer, chats=chats), pad_token(tokenizer)
    reader = Reader(tokenizer, eos, pad, options)
    opened = [reader.opened(prompt) for prompt in prompts]
    asked = [
        Prompt(ids, room, ends_at(tokenizer, reader.until, partial(reader.stops, opened=begun)))
        for ids, begun in zip(prompts, opened, strict=True)
    ]
    choose: Choose = likeliest
    if seeds is not None:
        asked = [replace(each, seed=seed) for each, seed in zip(asked, seeds, strict=True)]
        choose = partial(sampled, temperature=options["temperature"], top_p=options["top_p"])
    rows = answer(
        model, asked, options["batch_tokens"], eos, pad, choose, names=adapter_names,
        progress=counted(progress, len(asked), "answers"),
    )  # fmt: skip
    return [reader.read(row, begun) for row, begun in zip(rows, opened, strict=True)]


def ends_at(
    tokenizer: Any, until: Sequence[str], really: Callable[[Sequence[int]], bool] | None = None
) -> Ends | None:
    """Whether an answer's newest tokens complete a stop string; None if there are no stop strings.

    Only the last tokens are decoded, special ones too: a stop string that ends with the newest one
    lies within as many tokens as it has bytes.

    Args:
        really: is asked of the whole answer where a stop string was found, as one within the
            thinking does not count. None: every one counts.
    """
    if not until:
        return None
    window = max(len(stop.encode()) for stop in until) + 4

    def ends(answer: Sequence[int]) -> bool:
        text = tokenizer.decode(answer[-window:], skip_special_tokens=False)
        return first(text, until) is not None and (really is None or really(answer))

    return ends
