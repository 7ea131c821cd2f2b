"""A model behind an OpenAI-compatible endpoint as the judge of two answers."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from harness.core.errors import StageFailed
from harness.inference.endpoint import ChatEndpoint, Reply
from harness.inference.replies import Replies
from harness.labellers._orders import PROMPT, averaged, both_orders, filled, require_fields
from harness.labellers.base import LabelJob, Labeller, Verdict
from harness.models.endpoint import EndpointSettings

UNREADABLE = "the labeller's reply names no answer"
_WORTH = {"A": 1.0, "B": 0.0, "C": 0.5}
_MARKED = re.compile(r"\[\[([ABC])\]\]")
_BARE = re.compile(r"\W*(?:answer\W+)?([ABC])\W*", re.IGNORECASE)
_ASK = "\n\nReply with one letter and nothing else: A, B, or C where neither is better."
_LONGEST_REPLY = 10_000
"""Longest reply that is read, in characters."""


class Endpoint(EndpointSettings, Labeller):
    """A model behind an OpenAI-compatible endpoint (vLLM, llama.cpp, a provider), asked at
    temperature 0 which of two answers is better. It is asked in both orders of the answers, and the
    verdicts are averaged: replies that change with the order are a tie (Zheng et al., 2023,
    arXiv:2306.05685, section 3.4). A reply is A, B or C (a tie), alone or as [[A]]; other replies
    are counted and not used. Requests are repeated after 429 and 5xx. The key is read from the
    environment variable that `api_key_env` names when the stage runs, and is never written to disk.
    """

    VERSION = 1

    prompt: str = PROMPT
    """The prompt; {question}, {a} and {b} are filled in. A sentence on how to reply is added."""
    max_tokens: int | None = Field(16, gt=0)
    """Longest reply in tokens; null sends no limit, for a model that has no such field or that
    reasons first."""

    @field_validator("prompt")
    @classmethod
    def _complete(cls, value: str) -> str:
        return require_fields(value)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        limited = self.max_tokens is not None or "max_completion_tokens" in self.args
        if self.budget is not None and self.budget.counts_tokens and not limited:
            raise ValueError(
                "a budget in tokens or money needs the longest reply: set max_tokens, or"
                " max_completion_tokens under args"
            )
        return self

    def runs(self) -> tuple[str, ...]:
        return (f"requests to {self.told()}: prompts and answers are sent there",)

    def calls_at_once(self) -> int:
        return self.concurrency

    def label(self, job: LabelJob) -> list[Verdict]:
        client = ChatEndpoint.of(self)
        longest = {} if self.max_tokens is None else {"max_tokens": self.max_tokens}
        asked = [filled(self.prompt, contest) + _ASK for contest in both_orders(job.contests)]
        bodies = [client.body(text, {**longest, **self.args}) for text in asked]
        answers = Replies(job.work, self, client)
        replies = answers.ask(bodies, job.progress)
        job.cost.update(answers.cost(bodies))
        if replies and all(reply.refused for reply in replies):
            raise StageFailed(
                "endpoint",
                f"{self.base_url} refused every request; the first: {replies[0].refused}",
                fix="check model, max_tokens and args",
            )
        return averaged(job, [_verdict(reply) for reply in replies])


def _verdict(reply: Reply) -> Verdict:
    if reply.refused:
        return "refused by the labeller"
    letter = letter_of(reply.text)
    return UNREADABLE if letter is None else _WORTH[letter]


def letter_of(text: str) -> str | None:
    """The letter of a reply that is A, B or C alone or marks exactly one as [[A]]; else None."""
    if len(text) > _LONGEST_REPLY:
        return None
    marked = set(_MARKED.findall(text))
    if marked:
        return marked.pop() if len(marked) == 1 else None
    bare = _BARE.fullmatch(text)
    return bare[1].upper() if bare else None
