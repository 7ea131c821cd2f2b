"""A local language model as the judge of answers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from harness.core.component import NotHashed
from harness.core.errors import StageFailed
from harness.data.encode import common_prefix, text_ids
from harness.data.prompts import filled
from harness.data.render import chat_ids
from harness.inference.choices import choice_log_probs
from harness.labellers._asking import Asking
from harness.labellers.base import LabelJob, Question, Reply


class Judge(Asking):
    """A causal language model of the suite's `models:`, asked which of two answers is better, or to
    rate one. The verdict is the probability of "A" and half of that of "C" (a tie) among the
    choices as the next token after the prompt, in both orders of the answers, so that position bias
    cancels (Lee et al., 2023, arXiv:2309.00267, on position bias; Zheng et al., 2023,
    arXiv:2306.05685, section 3.4). Nothing is sampled. The record states the position bias.

    With a chat template the prompt is a user's turn, and the choice begins the assistant's. Without
    one the prompt is plain text, and the choice follows it after a space. Special tokens of the
    model that stand in an answer are broken up.
    """

    VERSION = 2
    reads_model = True

    model: Annotated[str | None, NotHashed] = None  # hashed by its content
    """Entry of `models:`, untrained; default: the model of the cell. An entry that only judges is
    kept out of the matrix by naming the others under `matrix.model`."""
    batch_tokens: int = Field(8192, gt=0)
    """Tokens of one forward pass. Part of the labels' identity: it changes rounding, which
    can turn a label that is all but a tie."""

    def reply(self, job: LabelJob, questions: Sequence[Question]) -> list[Reply]:
        asked = [_asked(job.tokenizer, question) for question in questions]
        log_probs = choice_log_probs(
            job.model, job.tokenizer, asked, self.batch_tokens, job.progress
        )
        return [
            _shares(question.choices, likely)
            for question, likely in zip(questions, log_probs, strict=True)
        ]


def _asked(tokenizer: Any, question: Question) -> tuple[list[int], list[list[int]]]:
    """Tokens of the prompt, and the tokens of each choice after it.

    Raises:
        StageFailed: the tokenizer gives two choices the same tokens.
    """
    chat = bool(tokenizer.chat_template)
    special = {str(token) for token in tokenizer.all_special_tokens}
    special |= {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    text = filled(question.template, {**question.fields, "chat": chat}, special)
    if chat:
        head = chat_ids(tokenizer, [{"role": "user", "content": text}], add_generation_prompt=True)
        wholes = [
            head + list(tokenizer(text=choice, add_special_tokens=False)["input_ids"])
            for choice in question.choices
        ]
    else:
        wholes = [text_ids(tokenizer, f"{text.rstrip()} {choice}") for choice in question.choices]
    shared = min(common_prefix(wholes[0], whole) for whole in wholes[1:])
    ends = [whole[shared:] for whole in wholes]
    if _prefixes(ends) and tokenizer.eos_token_id is not None:  # such as 1 beside 10
        ends = [[*end, tokenizer.eos_token_id] for end in ends]
    if _prefixes(ends):
        choices = ", ".join(question.choices)
        raise StageFailed(
            "judge", f"the judge's tokenizer gives some of {choices} the same tokens",
            fix="use another model",
        )  # fmt: skip
    return wholes[0][:shared], ends


def _prefixes(ends: Sequence[list[int]]) -> bool:
    """Whether one choice's tokens begin another's, so that it is likelier whatever is meant."""
    return any(b[: len(a)] == a for a, b in itertools.permutations(ends, 2))


def _shares(choices: Sequence[str], log_probs: list[float] | None) -> Reply:
    """The probability of each choice among all of them."""
    import numpy as np

    if log_probs is None:
        return "too long for the labeller's context"
    likely = np.exp(np.asarray(log_probs) - max(log_probs))
    return dict(zip(choices, (likely / likely.sum()).tolist(), strict=True))
