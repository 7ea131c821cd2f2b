"""New tokens after prompts: by continuous batching, or by one call of transformers' `generate`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from harness.core.device import upload
from harness.inference.batches import budget_batches, padded
from harness.inference.continuous import Prompt, answer_packed
from harness.inference.sampling import Choose, likeliest, require_numbers, uniform
from harness.inference.sharing import Sharing, sharing_of
from harness.models.generation_defaults import TOKEN_IDS

if TYPE_CHECKING:
    from transformers import GenerationConfig


def answer(
    model: Any,
    prompts: Sequence[Prompt],
    budget: int,
    end_tokens: Collection[int],
    pad: int,
    choose: Choose = likeliest,
    *,
    names: Sequence[str] | None = None,
    sharing: Sharing | None = None,
    cache_bytes: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[list[int]]:
    """The tokens of an answer to each prompt, in the prompts' order, its last token included.

    Answers that a stop string ends may have padding after them. Of the model's generation config,
    nothing is used.

    Args:
        budget: padded tokens of a batch, prompts and answers together.
        end_tokens: tokens that end an answer.
        pad: the token that fills rows up.
        choose: chooses the next token of each row (harness.inference.sampling).
        names: each prompt's adapter, for a model that mixes adapters in one batch.
        sharing: which rows are answered by continuous batching; None: what was found out about the
            model.
        cache_bytes: of keys and values at once, in continuous batching; None: as many as `budget`
            tokens have.
        progress: is told how many more prompts have been answered.

    Raises:
        StageFailed: the model's logits are not numbers.
    """
    can = None if names else sharing or sharing_of(model)
    packs = [
        can is not None and can.allows(each.places) and can.can_answer(model) for each in prompts
    ]
    chosen = [i for i, pack in enumerate(packs) if pack]
    rows = answer_packed(
        model, [prompts[i] for i in chosen], budget, end_tokens, choose,
        cache_bytes=cache_bytes, progress=progress,
    )  # fmt: skip
    answers = dict(zip(chosen, rows, strict=True))
    others = [i for i, pack in enumerate(packs) if not pack]
    for batch in budget_batches([prompts[i].places for i in others], budget):
        places = [others[i] for i in batch]
        rows = decode(
            model, [prompts[i] for i in places], end_tokens, pad, choose,
            names=[names[i] for i in places] if names else None,
        )  # fmt: skip
        answers.update(zip(places, rows, strict=True))
        progress(len(places))
    return [answers[i] for i in range(len(prompts))]


def decode(
    model: Any,
    prompts: Sequence[Prompt],
    end_tokens: Collection[int],
    pad: int,
    choose: Choose = likeliest,
    *,
    names: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[list[int]]:
    """The tokens of answers to one batch of prompts, by transformers' `generate`.

    Args:
        options: for `generate`, beside the model's own generation config; None: greedy search, or
            what `choose` draws, and nothing of that config.
    """
    import torch

    ids, mask = padded([each.ids for each in prompts], pad, left=True)
    room, length = max(each.room for each in prompts), ids.shape[1]
    asks = {"max_new_tokens": room, "pad_token_id": pad, "use_cache": True, **(options or {})}
    if options is None:
        asks = {"generation_config": _greedy(room, end_tokens, pad)}
    least: list[Any] = []
    with torch.inference_mode(), suite_alone(model) if options is None else nullcontext():
        whole = model.generate(
            input_ids=upload(ids, model.device),
            attention_mask=upload(mask, model.device),
            **_watched(prompts, length, choose, least),
            **({} if names is None else {"adapter_names": list(names)}),
            **asks,
        )
    if least:
        require_numbers(int(torch.stack(least).min()))
    rows = whole[:, length:].tolist()
    return [
        _until_end(row[: each.room], end_tokens) for each, row in zip(prompts, rows, strict=True)
    ]


def _watched(
    prompts: Sequence[Prompt], length: int, choose: Choose, least: list[Any]
) -> dict[str, Any]:
    """What `generate` of transformers is given to choose tokens and to end rows by.

    Args:
        length: tokens of the padded prompts.
        least: gets the least token of each step, a tensor, to be read when all is done.
    """
    import torch
    from transformers import LogitsProcessorList, StoppingCriteriaList

    draws = [uniform(each.seed) for each in prompts]

    def ended(input_ids: Any, scores: Any, **_: Any) -> Any:
        rows, beams = input_ids[:, length:].tolist(), len(input_ids) // len(prompts)
        done = [prompts[i // beams].ended(row, ()) for i, row in enumerate(rows)]
        return upload(torch.tensor(done), input_ids.device)

    def chosen(input_ids: Any, scores: Any) -> Any:
        """Scores (rows, vocabulary) with 0 at the chosen token and -inf elsewhere."""
        tokens = choose(draws, scores)
        least.append(tokens.min())
        if choose is likeliest:
            return scores  # the search finds them by itself, or whatever else is asked for
        index = tokens.clamp(min=0).unsqueeze(1)
        return torch.full_like(scores, -torch.inf).scatter_(-1, index, 0.0)

    alike = len({each.room for each in prompts}) == 1 and all(each.ends is None for each in prompts)
    return {
        "stopping_criteria": StoppingCriteriaList([] if alike else [ended]),
        "logits_processor": LogitsProcessorList([chosen]),
    }


def _until_end(tokens: list[int], end_tokens: Collection[int]) -> list[int]:
    end = next((i for i, token in enumerate(tokens) if token in end_tokens), len(tokens))
    return tokens[: end + 1]


def _greedy(max_new_tokens: int, eos: Collection[int], pad: int) -> GenerationConfig:
    """Config for greedy decoding; with a sampler that allows one token it becomes sampling."""
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=sorted(eos) or None,
        pad_token_id=pad,
        use_cache=True,
    )


@contextmanager
def suite_alone(model: Any, eos: Collection[int] = ()) -> Iterator[None]:
    """Context manager in which a model's generation config holds token ids alone.

    transformers takes every option that a call leaves open from that config. Models that the
    harness loads have such a config already (harness.models.generation_defaults); this makes it
    true for all other models.

    Args:
        eos: the tokens that end an answer; default: those of the model's config.
    """
    from transformers import GenerationConfig

    owners = [part for part in model.modules() if "generation_config" in vars(part)]
    kept = [part.generation_config for part in owners]
    try:
        for part, config in zip(owners, kept, strict=True):
            ids: Mapping[str, Any] = {name: getattr(config, name, None) for name in TOKEN_IDS}
            override = {"eos_token_id": sorted(eos)} if eos else {}
            part.generation_config = GenerationConfig(**{**ids, **override})
        yield
    finally:
        for part, config in zip(owners, kept, strict=True):
            part.generation_config = config
