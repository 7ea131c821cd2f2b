"""What a reward model says of answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.data.render import chat_ids, common_prefix, prompt_row, with_eos
from harness.errors import StageFailed
from harness.inference.batches import budget_batches, padded
from harness.inference.context import context_of


def answered_ids(
    tokenizer: Any, row: Mapping[str, Any], text: str, ends: frozenset[int], *, cut: bool
) -> list[int]:
    """A row's prompt with an answer to it, as reward models are trained on them.

    Args:
        ends: tokens that end an answer.
        cut: the answer did not end by itself, and stands without such a token.
    """
    asked = prompt_row(row)["prompt"]
    if isinstance(asked, str):
        prompt = list(tokenizer(text=asked)["input_ids"])
        whole = list(tokenizer(text=with_eos(tokenizer, asked + text))["input_ids"])
    else:
        prompt = chat_ids(tokenizer, asked, add_generation_prompt=True)
        whole = chat_ids(tokenizer, [*asked, {"role": "assistant", "content": text}])
    if not cut:
        return whole
    # The last one: an answer may write the token's name, the template writes it after that.
    start = common_prefix(prompt, whole)
    last = [i for i in range(start, len(whole)) if whole[i] in ends]
    return whole[: last[-1]] if last else whole


def rewards(
    model: Any,
    tokenizer: Any,
    sequences: Sequence[list[int]],
    batch_tokens: int,
    progress: Callable[[int, int, str], None],
) -> list[float]:
    """A reward model's number for each sequence of tokens, in their order.

    Args:
        model: a sequence classifier of one label, which reads each row at its last token.
        batch_tokens: padded tokens in one batch.

    Raises:
        StageFailed: a sequence is longer than the model's context.
    """
    import torch

    room, longest = context_of(model), max(map(len, sequences))
    if room is not None and longest > room:
        raise StageFailed(
            "too long",
            f"a prompt with its answer has {longest} tokens, and the reward model's context {room}",
            fix="lower generate.max_new_tokens, or leave the longest rows out",
        )
    config = model.config.get_text_config()
    if config.pad_token_id is None:  # how transformers finds a row's last token
        config.pad_token_id = tokenizer.pad_token_id
    found, done = [0.0] * len(sequences), 0
    for batch in budget_batches([len(ids) for ids in sequences], batch_tokens):
        ids, mask = padded([sequences[i] for i in batch], config.pad_token_id)
        with torch.inference_mode():
            out = model(
                input_ids=ids.to(model.device), attention_mask=mask.to(model.device),
                use_cache=False,
            )  # fmt: skip
        for i, value in zip(batch, out.logits[:, 0].float().tolist(), strict=True):
            found[i] = value
        done += len(batch)
        progress(done, len(sequences), "answers rewarded")
    return found
