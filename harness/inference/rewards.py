"""Rewards of answers by a reward model, computed in the same way for labels, scores and RL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.core.device import upload
from harness.core.errors import StageFailed
from harness.data.encode import Encoded, answered_text
from harness.data.render import TEMPLATE_COLUMNS, encoded
from harness.inference.batches import budget_batches, padded
from harness.inference.context import context_of
from harness.models.precision import autocast_of


def answered_ids(
    tokenizer: Any, row: Mapping[str, Any], text: str, ends: frozenset[int], *, cut: bool
) -> list[int]:
    """Token ids of a row's prompt and an answer, in the form that reward models are trained on.

    Args:
        text: the answer.
        ends: tokens that end an answer.
        cut: the answer did not end by itself, so it gets no such token.
    """
    sequence = _answered(tokenizer, row, text)
    if not cut:
        return sequence.ids
    # Remove one token only: the answer itself may contain the name of such a token before it.
    last = sequence.ids[: sequence.end]
    return last[:-1] if last[-1:] and last[-1] in ends else last


def _answered(tokenizer: Any, row: Mapping[str, Any], text: str) -> Encoded:
    asked = row["messages"][:-1] if "messages" in row else row["prompt"]
    if isinstance(asked, str):  # also reads an empty answer
        return answered_text(tokenizer, asked, text)
    columns = {name: row[name] for name in TEMPLATE_COLUMNS if row.get(name)}
    answer = [{"role": "assistant", "content": text}]
    return encoded(tokenizer, {"prompt": asked, **columns, "completion": answer})


def after_end(tokenizer: Any, row: Mapping[str, Any], ends: frozenset[int]) -> list[int]:
    """Tokens that the chat template writes after the token that ends an answer (often a newline).

    Reward models are trained to read a chat at the last of these tokens. Empty for plain text.

    Args:
        row: any of the rows, since all chats end in the same way.
        ends: tokens that end an answer.
    """
    sequence = _answered(tokenizer, row, "a")
    return sequence.ids[sequence.end :] if sequence.ids[sequence.end - 1] in ends else []


def rewards(
    model: Any,
    pad: int,
    sequences: Sequence[list[int]],
    batch_tokens: int,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> list[float | None]:
    """The reward of each sequence (a prompt with its answer), in their order.

    The reward is None for a sequence longer than the model's context; sequences are never cut,
    since the reward of half an answer says nothing about the whole. A model with weights in
    bfloat16 computes in mixed precision, as in training, because its head or adapter may be
    float32; any other model computes in its own dtype.

    Args:
        model: a sequence classifier with one label, which reads each row at its last token.
        pad: the padding token, used if the model's config names none.
        batch_tokens: padded tokens in one batch.
    """
    import torch

    config = model.config.get_text_config()
    if config.pad_token_id is None:  # how transformers finds a row's last token
        config.pad_token_id = pad
    room = context_of(model)
    fits = [i for i, ids in enumerate(sequences) if room is None or len(ids) <= room]
    scores: list[float | None] = [None] * len(sequences)
    done = 0
    for batch in budget_batches([len(sequences[i]) for i in fits], batch_tokens):
        places = [fits[i] for i in batch]
        ids, mask = padded([sequences[i] for i in places], config.pad_token_id)
        with torch.inference_mode(), autocast_of(model):
            out = model(
                input_ids=upload(ids, model.device), attention_mask=upload(mask, model.device),
                use_cache=False,
            )  # fmt: skip
        for i, value in zip(places, out.logits[:, 0].float().tolist(), strict=True):
            scores[i] = value
        done += len(places)
        progress(done, len(fits), "answers rewarded")
    return scores


def require_all(
    scores: Sequence[float | None], names: Sequence[str], context: int | None, fix: str
) -> list[float]:
    """Check that every sequence has a reward, and return the rewards.

    Args:
        names: names of the sequences for the message.
        context: the reward model's context, in tokens.

    Raises:
        StageFailed: sequences are longer than the reward model's context; the message counts and
            names them.
    """
    over = [name for name, score in zip(names, scores, strict=True) if score is None]
    if over:
        shown = ", ".join(over[:5]) + (" ..." if len(over) > 5 else "")
        raise StageFailed(
            "too long",
            f"{len(over)} of {len(scores)} prompts with their answers are longer than the reward"
            f" model's context of {context} tokens: {shown}",
            fix=fix,
        )
    return [score for score in scores if score is not None]
