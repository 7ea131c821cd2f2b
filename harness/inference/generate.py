"""Batched generation with per-row stop strings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import StageFailed
from harness.inference.batches import budget_batches, end_tokens, padded
from harness.inference.context import context_of
from harness.inference.sampling import sampler

if TYPE_CHECKING:
    from transformers import GenerationConfig


@dataclass(frozen=True)
class Answer:
    """One generated answer.

    Attributes:
        finish: `eos`, `stop` (a stop string) or `length` (cut at max_new_tokens).
        tokens: tokens generated, the end-of-sequence token included.
        raw: the text with the spaces at its ends: what follows a prompt of plain text.
    """

    text: str
    finish: str
    tokens: int
    raw: str = ""


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    options: Mapping[str, Any],
    progress: Callable[[int, int, str], None],
    *,
    adapter_names: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Answer]:
    """Answers to tokenised prompts, in their order: greedy, or drawn with a seed for each.

    Prompts of like length share a batch, within `batch_tokens` of padded prompt and answer.

    Args:
        adapter_names: each prompt's adapter, for a model that mixes them in one batch.

    Raises:
        StageFailed: a prompt that leaves no room for an answer in the model's context.
    """
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
    answers: dict[int, Answer] = {}
    for batch in budget_batches([len(p) + room for p in prompts], options["batch_tokens"]):
        own = None if seeds is None else [seeds[i] for i in batch]
        names = {"adapter_names": [adapter_names[i] for i in batch]} if adapter_names else {}
        found = _generate(model, tokenizer, [prompts[i] for i in batch], options, names, own)
        answers.update(zip(batch, found, strict=True))
        progress(len(answers), len(prompts), "answers")
    return [answers[i] for i in range(len(prompts))]


def _generate(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    options: Mapping[str, Any],
    names: Mapping[str, list[str]],
    seeds: Sequence[int] | None,
) -> list[Answer]:
    import torch
    from transformers import LogitsProcessorList, StoppingCriteriaList

    ids, mask = padded(prompts, tokenizer.pad_token_id, left=True)
    longest, eos = ids.shape[1], end_tokens(model, tokenizer)
    stop = _stopper(tokenizer, longest, options["until"])
    with torch.inference_mode():
        whole = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=plain_generation(
                options["max_new_tokens"], eos, tokenizer.pad_token_id
            ),
            stopping_criteria=StoppingCriteriaList([stop] if stop else []),
            logits_processor=LogitsProcessorList(
                [] if seeds is None else [sampler(seeds, options["temperature"], options["top_p"])]
            ),
            **names,
        )
    return [_answer(tokenizer, row, eos, options) for row in whole[:, longest:].cpu().tolist()]


def plain_generation(max_new_tokens: int, eos: Collection[int], pad: int) -> GenerationConfig:
    """Greedy decoding, which a sampler that leaves one token possible turns into sampling.

    What is left open, transformers takes from the model's own generation config.
    """
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=sorted(eos),
        pad_token_id=pad,
        use_cache=True,
    )


def _answer(
    tokenizer: Any, ids: list[int], eos: frozenset[int], options: Mapping[str, Any]
) -> Answer:
    end = next((i for i, token in enumerate(ids) if token in eos), None)
    text = tokenizer.decode(ids[:end], skip_special_tokens=True)
    cuts = [found for stop in options["until"] if (found := text.find(stop)) >= 0]
    if cuts:
        text = text[: min(cuts)]
        return Answer(text.strip(), "stop", len(tokenizer(text=text)["input_ids"]), text)
    if end is not None:
        return Answer(text.strip(), "eos", end + 1, text)
    return Answer(text.strip(), "length", min(len(ids), options["max_new_tokens"]), text)


def _stopper(tokenizer: Any, prompt_length: int, until: Sequence[str]) -> Any:
    """A criterion that ends a row once its answer holds a stop string.

    Only the last tokens are decoded: a stop string that ends now lies within as many tokens as it
    has bytes.
    """
    if not until:
        return None
    import torch
    from transformers import StoppingCriteria

    window = max(len(stop.encode()) for stop in until) + 1

    class StopStrings(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            start = max(prompt_length, input_ids.shape[1] - window)
            texts = tokenizer.batch_decode(input_ids[:, start:])
            done = [any(stop in text for stop in until) for text in texts]
            return torch.tensor(done, device=input_ids.device)

    return StopStrings()
