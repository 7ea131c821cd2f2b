"""One call of `generate`, shared by greedy answers, samples and rollouts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.inference.batches import padded
from harness.models.generation_defaults import TOKEN_IDS

if TYPE_CHECKING:
    from transformers import GenerationConfig


def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    eos: Collection[int],
    pad: int,
    max_new_tokens: int,
    *,
    draw: Any = None,
    stop: Any = None,
    names: Sequence[str] | None = None,
) -> list[list[int]]:
    """Generate new tokens for one batch of prompts; rows that end early are filled with `pad`.

    Args:
        eos: tokens that end an answer.
        draw: a sampler (harness.inference.sampling); default: the most probable token.
        stop: a stopping criterion of transformers.
        names: each prompt's adapter, for a model that mixes adapters in one batch.

    Returns:
        Rows of equal length without the prompts.
    """
    from transformers import LogitsProcessorList, StoppingCriteriaList

    ids, mask = padded(prompts, pad, left=True)
    with suite_alone(model):
        whole = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=_greedy(max_new_tokens, eos, pad),
            stopping_criteria=StoppingCriteriaList([] if stop is None else [stop]),
            logits_processor=LogitsProcessorList([] if draw is None else [draw]),
            **({} if names is None else {"adapter_names": list(names)}),
        )
    answers: list[list[int]] = whole[:, ids.shape[1] :].cpu().tolist()
    return answers


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
