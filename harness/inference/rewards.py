"""What a reward model says of answers: one way for labels, scores and policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.core.errors import StageFailed
from harness.data.encode import Encoded, answered_text
from harness.data.render import GIVEN, encoded
from harness.inference.batches import budget_batches, padded
from harness.inference.context import context_of
from harness.models.precision import autocast_of


def answered_ids(
    tokenizer: Any, row: Mapping[str, Any], text: str, ends: frozenset[int], *, cut: bool
) -> list[int]:
    """A row's prompt with an answer to it, as reward models are trained on them.

    Args:
        ends: tokens that end an answer.
        cut: the answer did not end by itself, and stands without such a token.
    """
    found = _answered(tokenizer, row, text)
    if not cut:
        return found.ids
    # An answer may write the token's name: the template writes it after that.
    last = found.ids[: found.end]
    return last[:-1] if last[-1:] and last[-1] in ends else last


def _answered(tokenizer: Any, row: Mapping[str, Any], text: str) -> Encoded:
    asked = row["messages"][:-1] if "messages" in row else row["prompt"]
    if isinstance(asked, str):  # an answer that ended at once is an answer too
        return answered_text(tokenizer, asked, text)
    given = {name: row[name] for name in GIVEN if row.get(name)}
    answer = [{"role": "assistant", "content": text}]
    return encoded(tokenizer, {"prompt": asked, **given, "completion": answer})


def after_end(tokenizer: Any, row: Mapping[str, Any], ends: frozenset[int]) -> list[int]:
    """Tokens that the chat template writes after the one that ends an answer (a newline, often):
    reward models are trained to read a chat at the last of them. None for plain text.

    Args:
        row: any of the rows that are answered; chats end alike.
        ends: tokens that end an answer.
    """
    found = _answered(tokenizer, row, "a")
    return found.ids[found.end :] if found.ids[found.end - 1] in ends else []


def rewards(
    model: Any,
    pad: int,
    sequences: Sequence[list[int]],
    batch_tokens: int,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> list[float | None]:
    """A reward model's number for each prompt with its answer, in their order.

    A sequence longer than the model's context has None: nothing is cut, as a reward of half an
    answer is one of another answer. Weights in bfloat16 compute in mixed precision, as they were
    trained, since others (a head, an adapter) may not be; any other model as it is.

    Args:
        model: a sequence classifier of one label, which reads each row at its last token.
        pad: the padding token, where the model's config names none.
        batch_tokens: padded tokens in one batch.
    """
    import torch

    config = model.config.get_text_config()
    if config.pad_token_id is None:  # how transformers finds a row's last token
        config.pad_token_id = pad
    room = context_of(model)
    fits = [i for i, ids in enumerate(sequences) if room is None or len(ids) <= room]
    found: list[float | None] = [None] * len(sequences)
    done = 0
    for batch in budget_batches([len(sequences[i]) for i in fits], batch_tokens):
        places = [fits[i] for i in batch]
        ids, mask = padded([sequences[i] for i in places], config.pad_token_id)
        with torch.inference_mode(), autocast_of(model):
            out = model(
                input_ids=ids.to(model.device), attention_mask=mask.to(model.device),
                use_cache=False,
            )  # fmt: skip
        for i, value in zip(places, out.logits[:, 0].float().tolist(), strict=True):
            found[i] = value
        done += len(places)
        progress(done, len(fits), "answers rewarded")
    return found


def require_all(
    found: Sequence[float | None], names: Sequence[str], context: int | None, fix: str
) -> list[float]:
    """The rewards, where each sequence has one.

    Args:
        names: of the sequences, for people.
        context: the reward model's, in tokens.

    Raises:
        StageFailed: some are longer than the reward model's context; it counts and names them.
    """
    over = [name for name, value in zip(names, found, strict=True) if value is None]
    if over:
        shown = ", ".join(over[:5]) + (" ..." if len(over) > 5 else "")
        raise StageFailed(
            "too long",
            f"{len(over)} of {len(found)} prompts with their answers are longer than the reward"
            f" model's context of {context} tokens: {shown}",
            fix=fix,
        )
    return [value for value in found if value is not None]
