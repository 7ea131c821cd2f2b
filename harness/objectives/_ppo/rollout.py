"""Answers sampled from the policy, and rows of tokens in batches of a token budget."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from harness.data.render import chat_ids


@dataclass(frozen=True)
class Rollouts:
    """Sampled answers, in the order of their prompts.

    Attributes:
        prompts: token ids. answers: token ids, the end-of-sequence token last where there is one.
        finished: whether an answer ended by itself.
    """

    prompts: list[list[int]]
    answers: list[list[int]]
    finished: list[bool]

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers."""
        return sum(map(len, self.prompts)) + sum(map(len, self.answers))


@dataclass(frozen=True)
class Sampling:
    """How answers are sampled.

    Attributes:
        eos: every token that ends an answer.
        batch_tokens: padded tokens, room for answers included, in one batch.
    """

    eos: frozenset[int]
    pad: int
    max_new_tokens: int
    temperature: float
    top_p: float
    batch_tokens: int


def prompt_ids(tokenizer: Any, row: Any) -> list[int]:
    """Tokens of a row's prompt, in whatever layout it is."""
    chat = row["messages"][:-1] if "messages" in row else row["prompt"]
    if isinstance(chat, str):
        return list(tokenizer(text=chat)["input_ids"])
    return chat_ids(tokenizer, chat, add_generation_prompt=True)


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends an answer, from the tokenizer and the model's generation config."""
    config = getattr(model, "generation_config", None)
    listed = config.eos_token_id if config is not None else None
    known = listed if isinstance(listed, list) else [listed]
    return frozenset(i for i in [*known, tokenizer.eos_token_id] if i is not None)


def derived_seed(*parts: int | str) -> int:
    """A seed of 63 bits from a path of numbers and names; the same on every machine."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def drawn(rows: int, size: int, step: int, seed: int) -> list[int]:
    """Indexes of the rows of a step (from 0): passes over all rows, each in an order of its own."""
    found: list[int] = []
    first, last = step * size, (step + 1) * size
    for epoch in range(first // rows, (last - 1) // rows + 1):
        order = list(range(rows))
        random.Random(derived_seed("order", seed, epoch)).shuffle(order)
        found += order[max(0, first - epoch * rows) : last - epoch * rows]
    return found


def budget_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indexes in batches of at most `budget` padded tokens (one row at least), longest first."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while order:
        size = max(1, budget // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]


def padded(rows: Sequence[Sequence[int]], pad: int, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, (rows, longest) each."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        start = longest - len(row) if left else 0
        ids[i, start : start + len(row)] = torch.tensor(row, dtype=torch.long)
        mask[i, start : start + len(row)] = 1
    return ids, mask


def sample(
    model: Any, prompts: Sequence[list[int]], seeds: Sequence[int], how: Sampling
) -> Rollouts:
    """One answer to each prompt.

    An answer depends on its prompt, its seed and the model; on the rows it shares a batch with only
    as far as they change the rounding of its logits.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    room = how.max_new_tokens
    for batch in budget_batches([len(prompt) + room for prompt in prompts], how.batch_tokens):
        ids, mask = padded([prompts[i] for i in batch], how.pad, left=True)
        draw = InverseTransform([seeds[i] for i in batch], how)
        with torch.no_grad():
            whole = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                generation_config=_greedy(how),
                logits_processor=LogitsProcessorList([draw]),
            )
        for i, row in zip(batch, whole[:, ids.shape[1] :].cpu().tolist(), strict=True):
            answers[i] = _until_end(row, how.eos)
    finished = [answer[-1] in how.eos for answer in answers]
    return Rollouts(list(prompts), answers, finished)


def _greedy(how: Sampling) -> GenerationConfig:
    """Greedy, as the sampler leaves one token possible; a model's own settings are overruled."""
    return GenerationConfig(
        max_new_tokens=how.max_new_tokens,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=sorted(how.eos),
        pad_token_id=how.pad,
        use_cache=True,
    )


def _until_end(tokens: list[int], eos: frozenset[int]) -> list[int]:
    end = next((i for i, token in enumerate(tokens) if token in eos), len(tokens) - 1)
    return tokens[: end + 1]


class InverseTransform(LogitsProcessor):
    """Leaves the one token that a row's own random number picks from the cumulated probabilities.

    One number a row and token, drawn beforehand from a generator of the row's own: what is sampled
    for a row does not depend on how many others there are, or on when they end.
    """

    def __init__(self, seeds: Sequence[int], how: Sampling) -> None:
        self.how, self.step = how, 0
        self.numbers = torch.stack(
            [
                torch.rand(how.max_new_tokens, generator=_generator(seed), dtype=torch.float64)
                for seed in seeds
            ]
        )

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores (rows, vocabulary) with 0 at the sampled token and -inf elsewhere."""
        probabilities = torch.softmax(scores.double() / self.how.temperature, dim=-1)
        if self.how.top_p < 1:
            probabilities = nucleus(probabilities, self.how.top_p)
        cumulated = probabilities.cumsum(-1)
        wanted = self.numbers[:, self.step].to(scores.device).unsqueeze(1) * cumulated[:, -1:]
        # The first whose cumulated probability exceeds the number: never one of probability 0.
        token = torch.searchsorted(cumulated, wanted, right=True).clamp(max=scores.shape[1] - 1)
        self.step += 1
        return torch.full_like(scores, float("-inf")).scatter(1, token, 0.0)


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Probabilities (rows, vocabulary) of the likeliest tokens that together reach top_p, others 0.

    Holtzman et al. (2020, arXiv:1904.09751), section 3.1; not normalised again.
    """
    ordered, index = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(probabilities).scatter(1, index, ordered * (before < top_p))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
