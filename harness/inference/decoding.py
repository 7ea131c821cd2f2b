"""One call of a model that writes tokens, for answers, samples and rollouts alike."""

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
    """The new tokens of one batch of prompts; what ended early is filled up with `pad`.

    Args:
        eos: tokens that end an answer.
        draw: a sampler (harness.inference.sampling); default: the likeliest token.
        stop: a criterion of transformers that ends rows.
        names: each prompt's adapter, for a model that mixes them in one batch.
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
    found: list[list[int]] = whole[:, ids.shape[1] :].cpu().tolist()
    return found


def _greedy(max_new_tokens: int, eos: Collection[int], pad: int) -> GenerationConfig:
    """Greedy decoding, which a sampler that leaves one token possible turns into sampling."""
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
    """Within it a model's own generation config says nothing but its token ids.

    transformers takes from that config whatever a call leaves open. Models that the harness loads
    have such a config already (harness.models.generation_defaults); this holds for any other too.

    Args:
        eos: the tokens that end an answer; default: those of the model's own config.
    """
    from transformers import GenerationConfig

    owners = [part for part in model.modules() if "generation_config" in vars(part)]
    kept = [part.generation_config for part in owners]
    try:
        for part, config in zip(owners, kept, strict=True):
            ids: Mapping[str, Any] = {name: getattr(config, name, None) for name in TOKEN_IDS}
            own = {"eos_token_id": sorted(eos)} if eos else {}
            part.generation_config = GenerationConfig(**{**ids, **own})
        yield
    finally:
        for part, config in zip(owners, kept, strict=True):
            part.generation_config = config
