"""A model behind an OpenAI-compatible endpoint as the judge of two answers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from pydantic import Field, model_validator

from harness.core.errors import StageFailed
from harness.data.prompts import filled
from harness.inference import endpoint
from harness.inference.endpoint import ChatEndpoint
from harness.inference.replies import Replies
from harness.labellers._asking import Asking
from harness.labellers.base import LabelJob, Question, Ranks, Reply, ranks_of
from harness.models.endpoint import EndpointSettings

UNREADABLE = "the labeller's reply names no answer"
_MARKED = re.compile(r"\[\[(\w+)\]\]")
_BARE = re.compile(r"\W*(?:(?:answer|score|rating)\W+)?(\w+)\W*", re.IGNORECASE)
_MARKED_ORDER = re.compile(r"\[\[(.+?)\]\](?!\])")
_NUMBERED = re.compile(r"(?<!\w)(\d{1,3})[.):](?!\d)")
_TITLE = re.compile(r"\b(?:answer|ranking|order|rank)s?\b", re.IGNORECASE)
_NAME = re.compile(r"(\w+)")
_BETWEEN = re.compile(r"[^\w<>=]*[>=]?[^\w<>=]*")
"""What may stand between two names: one sign at most, and no `<`, which turns the order."""
_LEFT_OPEN = 0.02
"""The largest share of the listed probability that may leave open which choice it is for."""
_TOKENS_A_RANK = 4
"""Tokens of a reply for each answer that it ranks."""
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
        read: Callable[[endpoint.Reply, Sequence[str]], Reply],
        longest: Callable[[Question], int | None],
        plea: str,
    ) -> list[Reply]:
        """What is read in the reply to each question, which is put again if that is UNREADABLE.

        Args:
            longest: tokens of a reply at most; None sends no limit.
            plea: what is said before a question is put again, with a place for the choices.
        """
        client = ChatEndpoint.of(self)
        answers, received = Replies(job.work, self, client), list[endpoint.Reply]()
        turns = [_user(filled(q.template, {**q.fields, "chat": True})) for q in questions]

        def asked(places: Sequence[int]) -> list[endpoint.Reply]:
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
                if read(reply, questions[place].choices) == UNREADABLE
            ]
            for place in unread:
                said = {"role": "assistant", "content": replies[place].text[:_QUOTED] or "..."}
                choices = ", ".join(questions[place].choices)
                turns[place] += [said, *_user(plea.format(choices))]
            for place, reply in zip(unread, asked(unread), strict=True):
                replies[place] = reply
        job.cost.update(answers.cost(received))
        return [read(reply, q.choices) for reply, q in zip(replies, questions, strict=True)]


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _chosen(reply: endpoint.Reply, choices: Sequence[str]) -> Reply:
    if reply.refused:
        return "refused by the labeller"
    choice = choice_of(reply.text, choices)
    if choice is None:
        return UNREADABLE
    shares = _shares(reply, choices)
    return shares if choice in shares else {choice: 1.0}


def _ranked(reply: endpoint.Reply, choices: Sequence[str]) -> Ranks:
    if reply.refused:
        return "refused by the labeller"
    ranks = order_of(reply.text, choices)
    return UNREADABLE if ranks is None else ranks


def _shares(reply: endpoint.Reply, choices: Sequence[str]) -> dict[str, float]:
    """The probability of each choice as the reply, among the choices that are listed.

    Where one choice begins another, as 1 and 10, a first token 1 may leave both open. If that token
    was written, the next one tells them apart, or the end of the reply. If another one was written,
    nothing does, unless 10 is a token too. Empty if too much is left open, or nothing is told.
    """
    masses, left_open = dict.fromkeys(choices, 0.0), 0.0
    begun, weight, rest = "", 1.0, reply.text
    for likely in reply.logprobs:
        written = _written(likely, rest)
        ends = {begun + _name(token) for token in likely}
        followed = None
        for token, log_prob in likely.items():
            mass, name = weight * math.exp(min(0.0, log_prob)), _name(token)
            whole = begun + name
            longer = {c for c in choices if name and c != whole and c.startswith(whole)}
            if token == written and (longer - ends == longer != set() or not whole):
                followed = mass
            elif name and whole in masses and (not longer or longer & ends):
                masses[whole] += mass
            elif longer:
                left_open += mass
            elif begun in masses:
                masses[begun] += mass  # it was complete
        if written is None or followed is None:
            break
        begun, weight = begun + _name(written), followed
        rest = rest.lstrip()[len(_name(written)) :]
    else:
        if begun in masses:
            masses[begun] += weight
    told = sum(masses.values())
    if not told or left_open > _LEFT_OPEN * (told + left_open):
        return {}
    return {name: mass / told for name, mass in masses.items() if mass}


def _written(likely: Mapping[str, float], rest: str) -> str | None:
    """The likeliest token that the rest of a reply begins with; None if none of them is."""
    begins = rest.lstrip().upper().startswith
    fits = [t for t in likely if (begins(_name(t)) if _name(t) else rest[:1].isspace())]
    return max(fits, key=likely.__getitem__) if fits else None


def _name(token: str) -> str:
    return token.replace("\u2581", " ").strip().upper()


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


def order_of(text: str, choices: Sequence[str]) -> dict[str, float] | None:
    """The ranks that a reply gives, if it is one order of all choices, or marks exactly one such
    order as [[B > A > C]]; else None. An order is the choices, each once, with `>`, `=` (of one
    rank), commas, line feeds or the numbers of a list between them: `B > A = C`, `[B] > [A] > [C]`,
    `1. B 2. A 3. C`."""
    if len(text) > _LONGEST_REPLY:
        return None
    marked = [_order(inner, choices) for inner in _MARKED_ORDER.findall(text)]
    if orders := [order for order in marked if order is not None]:
        return orders[0] if all(order == orders[0] for order in orders) else None
    return _order(text, choices)


def _order(text: str, choices: Sequence[str]) -> dict[str, float] | None:
    numbers = [int(number) for number in _NUMBERED.findall(text)]
    if numbers and numbers != list(range(1, len(choices) + 1)):
        return None
    known = {choice.upper(): choice for choice in choices}
    places, last = dict[str, float](), 0
    parts = _NAME.split(_TITLE.sub(" ", _NUMBERED.sub(" ", text)).upper())
    for between, name in zip(parts[::2], parts[1::2], strict=False):
        if name not in known or known[name] in places or not _BETWEEN.fullmatch(between):
            return None
        last += not (places and "=" in between)
        places[known[name]] = last
    return ranks_of(places) if len(places) == len(choices) else None
