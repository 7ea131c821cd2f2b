"""Batched generation with per-row stop strings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.core.errors import StageFailed
from harness.inference.batches import budget_batches, end_tokens, pad_token
from harness.inference.context import context_of
from harness.inference.decoding import decode
from harness.inference.reading import Answer, Reader, first
from harness.inference.sampling import sampler


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
        StageFailed: a prompt leaves no room for an answer in the model's context.
    """
    import torch

    limit = context_of(model)
    room = options["max_new_tokens"]
    for index, prompt in enumerate(prompts):
        if limit is not None and len(prompt) + room > limit:
            raise StageFailed(
                "prompt too long",
                f"prompt {index} has {len(prompt)} tokens and the answer may have {room}, but the"
                f" model's context has room for {limit}",
                fix="lower generate.max_new_tokens or num_fewshot, or filter the test rows",
            )
    eos, pad = end_tokens(model, tokenizer, chats=chats), pad_token(tokenizer)
    reader = Reader(tokenizer, eos, pad, options)
    answers: dict[int, Answer] = {}
    for batch in budget_batches([len(p) + room for p in prompts], options["batch_tokens"]):
        asked = [prompts[i] for i in batch]
        opened = [reader.opened(prompt) for prompt in asked]
        with torch.inference_mode():
            generated = decode(
                model, asked, eos, pad, room,
                stop=_stopper(reader, max(map(len, asked)), opened),
                draw=None if seeds is None else sampler(
                    [seeds[i] for i in batch], options["temperature"], options["top_p"]
                ),
                names=[adapter_names[i] for i in batch] if adapter_names else None,
            )  # fmt: skip
        batch_answers = [
            reader.read(row, begun) for row, begun in zip(generated, opened, strict=True)
        ]
        answers.update(zip(batch, batch_answers, strict=True))
        progress(len(answers), len(prompts), "answers")
    return [answers[i] for i in range(len(prompts))]


def _stopper(reader: Reader, prompt_length: int, opened: Sequence[str]) -> Any:
    """A criterion that ends a row once its answer holds a stop string; None if there are none.

    Only the last tokens are decoded, since a stop string that ends now has at most as many tokens
    as bytes. If one is there, the whole row is read, since a stop string within the thinking does
    not count.
    """
    if not reader.until:
        return None
    import torch
    from transformers import StoppingCriteria

    window = max(len(stop.encode()) for stop in reader.until) + 1

    class StopStrings(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            start = max(prompt_length, input_ids.shape[1] - window)
            texts = reader.tokenizer.batch_decode(input_ids[:, start:])
            done = [
                first(text, reader.until) is not None
                and reader.stops(input_ids[row, prompt_length:].tolist(), opened[row])
                for row, text in enumerate(texts)
            ]
            return torch.tensor(done, device=input_ids.device)

    return StopStrings()
