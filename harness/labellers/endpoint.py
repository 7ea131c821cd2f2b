"""A model behind an OpenAI-compatible endpoint as the judge of two answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from harness.core.errors import StageFailed
from harness.data.prompts import filled
from harness.inference import completions
from harness.inference.endpoint import ChatEndpoint
from harness.inference.replies import Replies
from harness.labellers._asking import Asking
from harness.labellers._replies import choices_of, order_of
from harness.labellers.base import LabelJob, Question, Ranks, Reply
from harness.models.endpoint import EndpointSettings

UNREADABLE = "the labeller's reply names no answer"
_TOKENS_A_RANK = 4
"""Tokens of a reply for each answer that it ranks."""
_QUOTED = 1_000
"""Characters of an unreadable reply that the judge sees when it is asked again."""

_OURS = ("about", "example")
"""Fields of a question that say how to reply."""


class Endpoint(EndpointSettings, Asking):
    """A model behind an OpenAI-compatible endpoint (vLLM, llama.cpp, a provider), asked at
    temperature 0 which of two answers is better, or to rate one. It is asked in both orders of the
    answers: replies that change with the order are a tie (Zheng et al., 2023, arXiv:2306.05685,
    section 3.4). A reply is one of the choices, such as A, B or C (a tie), alone or as [[A]], and a
    rating may be 8/10; after another one the question is put again (`again`). Thinking that the
    server leaves in the reply (`<think>` and other marks) is no part of it, and a mark that an
    answer has too counts only where it is the whole reply, as it may be quoted. If `args` asks for
    the probabilities of the reply's tokens (`{logprobs: true, top_logprobs: 20}`), the server has
    them and the reply begins with its choice, the verdict or rating is the expectation over the
    choices.
    Requests are repeated after 429 and 5xx. The key is read, when the stage runs, from the
    environment variable that `api_key_env` names. It is never written to disk.
    """

    VERSION = 4

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
        plea = "Reply with one of {} and nothing else."
        return self._read(job, questions, _chosen, lambda _: self.max_tokens, plea)

    def rank(self, job: LabelJob, questions: Sequence[Question]) -> list[Ranks]:
        """By the order that its reply names (`order_of`)."""
        plea = "Reply with each of {} once, the best first, as B > A, and nothing else."
        return self._read(job, questions, _ranked, self._longest_ranking, plea)

    def _longest_ranking(self, question: Question) -> int | None:
        if self.max_tokens is None:
            return None
        return max(self.max_tokens, _TOKENS_A_RANK * len(question.choices))

    def _read(
        self,
        job: LabelJob,
        questions: Sequence[Question],
        read: Callable[[completions.Reply, Question], Reply],
        longest: Callable[[Question], int | None],
        plea: str,
    ) -> list[Reply]:
        """What is read in the reply to each question, which is put again if that is UNREADABLE.

        Args:
            longest: tokens of a reply at most; None sends no limit.
            plea: what is said before a question is put again, with a place for the choices.
        """
        client = ChatEndpoint.of(self)
        answers, received = Replies(job.work, self, client), list[completions.Reply]()
        turns = [_user(filled(q.template, {**q.fields, "chat": True})) for q in questions]

        def asked(places: Sequence[int]) -> list[completions.Reply]:
            limits = [longest(questions[place]) for place in places]
            fields = [{} if limit is None else {"max_tokens": limit} for limit in limits]
            sent = [
                client.body(list(turns[place]), {**limited, **self.args})
                for place, limited in zip(places, fields, strict=True)
            ]
            replies = answers.ask(sent, job.progress, repeat=job.repeat)
            received.extend(replies)
            return replies

        replies = asked(range(len(questions)))
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
                if read(reply, questions[place]) == UNREADABLE
            ]
            for place in unread:
                said = {"role": "assistant", "content": replies[place].text[:_QUOTED] or "..."}
                choices = ", ".join(questions[place].choices)
                turns[place] += [said, *_user(plea.format(choices))]
            for place, reply in zip(unread, asked(unread), strict=True):
                replies[place] = reply
        job.cost.update(answers.cost(received))
        return [read(reply, q) for reply, q in zip(replies, questions, strict=True)]


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _chosen(reply: completions.Reply, question: Question) -> Reply:
    if reply.refused:
        return "refused by the labeller"
    return choices_of(reply, question.choices, list(_judged(question))) or UNREADABLE


def _ranked(reply: completions.Reply, question: Question) -> Ranks:
    if reply.refused:
        return "refused by the labeller"
    ranks = order_of(reply.text, question.choices, list(_judged(question)))
    return UNREADABLE if ranks is None else ranks


def _judged(question: Question) -> Iterator[str]:
    """The texts that a judge may quote."""
    rest: list[Any] = [value for name, value in question.fields.items() if name not in _OURS]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping | Sequence):
            rest += value.values() if isinstance(value, Mapping) else value
