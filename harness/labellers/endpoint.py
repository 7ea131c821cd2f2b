"""A model behind an OpenAI-compatible endpoint as the judge of two answers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import Field, model_validator

from harness.core.errors import StageFailed
from harness.data.prompts import filled
from harness.inference import endpoint
from harness.inference.endpoint import ChatEndpoint
from harness.inference.replies import Replies
from harness.labellers._asking import Asking
from harness.labellers.base import LabelJob, Question, Reply
from harness.models.endpoint import EndpointSettings

UNREADABLE = "the labeller's reply names no answer"
_MARKED = re.compile(r"\[\[(\w+)\]\]")
_BARE = re.compile(r"\W*(?:(?:answer|score|rating)\W+)?(\w+)\W*", re.IGNORECASE)
_LONGEST_REPLY = 10_000
"""Longest reply that is read, in characters."""
_QUOTED = 1_000
"""Characters of an unreadable reply that the judge sees when it is asked again."""


class Endpoint(EndpointSettings, Asking):
    """A model behind an OpenAI-compatible endpoint (vLLM, llama.cpp, a provider), asked at
    temperature 0 which of two answers is better, or to rate one. It is asked in both orders of the
    answers: replies that change with the order are a tie (Zheng et al., 2023, arXiv:2306.05685,
    section 3.4). A reply is one of the choices, such as A, B or C (a tie), alone or as [[A]]; after
    another one the question is put again (`again`). If `args` asks for the probabilities of the
    reply's tokens (`{logprobs: true, top_logprobs: 20}`) and the server has them, the verdict or
    rating is the expectation over the choices. Requests are repeated after 429 and 5xx. The
    key is read, when the stage runs, from the environment variable that `api_key_env` names. It is
    never written to disk.
    """

    VERSION = 2

    max_tokens: int | None = Field(16, gt=0)
    """Longest reply in tokens; null sends no limit, for a model that has no such field or that
    reasons first."""
    again: int = Field(1, ge=0, le=10)
    """How often a question is put again after a reply that names none of the choices. Then there is
    no verdict."""

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

    def reply(self, job: LabelJob, questions: Sequence[Question]) -> list[Reply]:
        client = ChatEndpoint.of(self)
        answers, received = Replies(job.work, self, client), list[endpoint.Reply]()
        longest = {} if self.max_tokens is None else {"max_tokens": self.max_tokens}

        def asked(turns: Sequence[list[dict[str, str]]]) -> list[endpoint.Reply]:
            sent = [client.body(list(each), {**longest, **self.args}) for each in turns]
            replies = answers.ask(sent, job.progress, repeat=job.repeat)
            received.extend(replies)
            return replies

        turns = [_user(filled(q.template, {**q.fields, "chat": True})) for q in questions]
        replies = asked(turns)
        if replies and all(reply.refused for reply in replies):
            raise StageFailed(
                "endpoint",
                f"{self.base_url} refused every request; the first: {replies[0].refused}",
                fix="check model, max_tokens and args",
            )
        for _ in range(self.again):
            unread = [
                place
                for place, reply in enumerate(replies)
                if _chosen(reply, questions[place].choices) == UNREADABLE
            ]
            for place in unread:
                said = {"role": "assistant", "content": replies[place].text[:_QUOTED] or "..."}
                choices = ", ".join(questions[place].choices)
                turns[place] += [said, *_user(f"Reply with one of {choices} and nothing else.")]
            for place, reply in zip(unread, asked([turns[p] for p in unread]), strict=True):
                replies[place] = reply
        job.cost.update(answers.cost(received))
        return [_chosen(reply, q.choices) for reply, q in zip(replies, questions, strict=True)]


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _chosen(reply: endpoint.Reply, choices: Sequence[str]) -> Reply:
    if reply.refused:
        return "refused by the labeller"
    choice = choice_of(reply.text, choices)
    if choice is None:
        return UNREADABLE
    shares = _shares(reply.logprobs[0], choices) if reply.logprobs else {}
    return shares if choice in shares else {choice: 1.0}


def _shares(likely: Mapping[str, float], choices: Sequence[str]) -> dict[str, float]:
    """The probability of each choice as the first token of a reply, among the choices that are
    listed; empty if a choice begins like another, as 1 and 10.

    Args:
        likely: token -> log-probability, of the likeliest tokens there.
    """
    if any(a != b and b.startswith(a) for a in choices for b in choices):
        return {}
    masses = dict.fromkeys(choices, 0.0)
    for token, log_prob in likely.items():
        if (name := token.strip().upper()) in masses:
            masses[name] += math.exp(min(0.0, log_prob))
    whole = sum(masses.values())
    return {name: mass / whole for name, mass in masses.items() if mass} if whole else {}


def choice_of(text: str, choices: Sequence[str]) -> str | None:
    """The choice of a reply that is one of them alone, or marks exactly one as [[A]]; else None."""
    if len(text) > _LONGEST_REPLY:
        return None
    known = {choice.upper(): choice for choice in choices}
    marked = {known.get(word.upper()) for word in _MARKED.findall(text)} - {None}
    if marked:
        return marked.pop() if len(marked) == 1 else None
    bare = _BARE.fullmatch(text)
    return known.get(bare[1].upper()) if bare else None
