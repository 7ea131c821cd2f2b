"""A local language model as the judge of two answers."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field, field_validator

from harness.core.component import NotHashed
from harness.core.errors import StageFailed
from harness.data.encode import common_prefix, text_ids
from harness.data.render import chat_ids
from harness.inference.choices import choice_log_probs
from harness.labellers._orders import PROMPT, averaged, both_orders, filled, require_fields
from harness.labellers.base import LabelJob, Labeller, Verdict

_LETTERS = ("A", "B")
_CHAT, _PLAIN = "\n\nReply with one letter, A or B.", "\n\nBetter answer:"


class Judge(Labeller):
    """A causal language model of the suite's `models:`, asked which of two answers is better. The
    verdict is the probability of "A" against "B" as the next token after the prompt, averaged over
    both orders of the answers so that position bias cancels (Lee et al., 2023, arXiv:2309.00267, on
    position bias; Zheng et al., 2023, arXiv:2306.05685, section 3.4). Nothing is sampled. The
    record states the position bias.

    With a chat template the prompt is a user's turn that ends in "Reply with one letter, A or B.";
    without one it is plain text that ends in "Better answer:".
    """

    VERSION = 1
    reads_model = True

    model: Annotated[str | None, NotHashed] = None  # hashed by its content
    """Entry of `models:`, untrained; default: the model of the cell. An entry that only judges is
    kept out of the matrix by naming the others under `matrix.model`."""
    prompt: str = PROMPT
    """The prompt; {question}, {a} and {b} are filled in."""
    batch_tokens: int = Field(8192, gt=0)
    """Padded tokens in one forward pass. Part of the labels' identity: it changes rounding, which
    can turn a label that is all but a tie."""

    @field_validator("prompt")
    @classmethod
    def _complete(cls, value: str) -> str:
        return require_fields(value)

    def label(self, job: LabelJob) -> list[Verdict]:
        asked = [
            _asked(job.tokenizer, filled(self.prompt, contest))
            for contest in both_orders(job.contests)
        ]
        log_probs = choice_log_probs(
            job.model, job.tokenizer, asked, self.batch_tokens, job.progress
        )
        return averaged(job, [_first(letters) for letters in log_probs])


def _asked(tokenizer: Any, text: str) -> tuple[list[int], list[list[int]]]:
    """Tokens of the prompt, and the tokens of each letter after it.

    Raises:
        StageFailed: the tokenizer gives both letters the same tokens.
    """
    if tokenizer.chat_template:
        turn = [{"role": "user", "content": text + _CHAT}]
        head = chat_ids(tokenizer, turn, add_generation_prompt=True)
        wholes = [
            head + list(tokenizer(text=letter, add_special_tokens=False)["input_ids"])
            for letter in _LETTERS
        ]
    else:
        texts = [f"{text}{_PLAIN} {letter}" for letter in _LETTERS]
        wholes = [text_ids(tokenizer, whole) for whole in texts]
    shared = common_prefix(*wholes)
    if shared in map(len, wholes):
        raise StageFailed(
            "judge", "the judge's tokenizer gives A and B the same tokens", fix="use another model"
        )
    return wholes[0][:shared], [whole[shared:] for whole in wholes]


def _first(log_probs: list[float] | None) -> Verdict:
    """P(A) / (P(A) + P(B)), from [log P(A), log P(B)]."""
    if log_probs is None:
        return "too long for the labeller's context"
    return 0.5 + math.tanh((log_probs[0] - log_probs[1]) / 2) / 2
