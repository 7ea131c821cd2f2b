"""The replies of an endpoint, kept by the digest of their request: none is paid for twice.

Whoever sends a request holds a lock of its digest meanwhile. Another process that needs the same
reply waits for it, and reads it from the file; if the first one was killed, it sends the request
itself. All processes together have no more requests under way than the endpoint may have.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.core.errors import StageFailed
from harness.core.files import digest_json
from harness.inference.completions import Reply
from harness.inference.endpoint import CHAT, ChatEndpoint, Refused
from harness.inference.reply_locks import claimed, one_of
from harness.inference.reply_log import ReplyLog
from harness.inference.scored_text import tail_of
from harness.inference.spending import Amount, exceeds, most
from harness.models.endpoint import EndpointSettings

Progress = Callable[[int, int, str], None]
_NAME = 24
_RAISE = "raise `budget`, then run again: replies until now are kept, and cost nothing again"


def replies_file(folder: Path, base_url: str, model: str) -> Path:
    """The file of the replies of one model at one address."""
    return folder / f"{digest_json([base_url, model])[:_NAME]}.jsonl"


@dataclass(frozen=True)
class _Request:
    """What is asked, and the text at its end whose tokens are kept."""

    body: Mapping[str, Any]
    path: str
    repeat: int
    tail: str | None

    @property
    def key(self) -> str:
        """Its digest: all that the reply depends on."""
        more = {"repeat": self.repeat or None, "tail": self.tail}
        told = {name: value for name, value in more.items() if value is not None}
        return digest_json({"path": self.path, "body": self.body, **told})


class Replies:
    """Asks an endpoint, several requests at a time, and keeps every reply.

    Attributes:
        log: the file of the replies, which all stages of a store share.
        paid: what this object itself has received.
    """

    def __init__(self, folder: Path, settings: EndpointSettings, client: ChatEndpoint) -> None:
        """Read the replies that the folder has.

        Args:
            folder: shared by all stages of a store (`Job.replies`).
        """
        self.client, self.settings = client, settings
        folder.mkdir(parents=True, exist_ok=True)
        self.log = ReplyLog(replies_file(folder, settings.base_url, settings.model))
        self.paid = Amount()
        self._ours: set[str] = set()
        self._turn = threading.Condition()
        self._ended = threading.Event()

    def ask(
        self,
        bodies: Sequence[Mapping[str, Any]],
        progress: Progress = lambda *_: None,
        path: str = CHAT,
        repeat: int = 0,
        tails: Sequence[str] | None = None,
    ) -> list[Reply]:
        """The replies to requests, in their order; equal requests are sent once.

        A request that the server refuses has a reply that says so (`refused`).

        Args:
            bodies: the JSON of each request, as `ChatEndpoint.body` makes it.
            progress: receives (done, total, text with the rate and what was spent).
            path: `chat/completions` or `completions`.
            repeat: another number asks again, to see how much the replies vary.
            tails: of each prompt, the text at its end whose tokens are kept (`Reply.scored`).

        Raises:
            StageFailed: as `ChatEndpoint.ask`, or the next request could exceed the budget. Replies
                until then are kept, and requests that were not sent yet are not sent.
        """
        asked = [
            _Request(body, path, repeat, None if tails is None else tails[number])
            for number, body in enumerate(bodies)
        ]
        keys = [request.key for request in asked]
        missing = {k: r for k, r in zip(keys, asked, strict=True) if k not in self.log.replies}
        total, before, begun = len(set(keys)), self.paid.calls, time.monotonic()
        pool = ThreadPoolExecutor(self.settings.concurrency)
        self._ended.clear()
        try:
            work = [pool.submit(self._fetch, key, request) for key, request in missing.items()]
            for done, future in enumerate(as_completed(work), total - len(missing) + 1):
                future.result()
                rate = (self.paid.calls - before) / max(time.monotonic() - begun, 1e-6)
                spent = self.paid.told(self.settings.prices)
                progress(done, total, f"replies, {rate:.1f}/s, {spent}")
        finally:
            self._ended.set()
            pool.shutdown(cancel_futures=True)
        return [self.log.replies[key] for key in keys]

    def cost(self, replies: Sequence[Reply]) -> dict[str, Any]:
        """Number of calls, tokens and, if there are prices, money of replies that `ask` returned,
        whenever they were paid; equal requests have one reply, which counts once."""
        distinct = {id(reply): reply for reply in replies}.values()
        prompt = sum(reply.prompt_tokens for reply in distinct)
        completion = sum(reply.completion_tokens for reply in distinct)
        counts = {"calls": len(distinct), "prompt_tokens": prompt, "completion_tokens": completion}
        prices = self.settings.prices
        return counts if prices is None else {**counts, "money": prices.of(prompt, completion)}

    def _fetch(self, key: str, request: _Request) -> None:
        """Get the reply to a request, unless another process got it since, or gets it now."""
        if not self._is_known(key):
            with claimed(self.log.path, key, self._ended):
                if not self._is_known(key):
                    with one_of(self.log.path, self.settings.concurrency, self._ended):
                        self._pay(key, request)

    def _is_known(self, key: str) -> bool:
        with self._turn:
            self.log.refresh()
            return key in self.log.replies

    def _pay(self, key: str, request: _Request) -> None:
        """Send a request, and keep its reply."""
        body = request.body
        self._reserve(key, body)
        try:
            reply = self.client.ask(body, request.path, lambda: self._lose(key, body))
        except Refused as refusal:
            reply = Reply("", refused=str(refusal))
        except BaseException:
            self._fail(key)
            raise
        if request.tail is not None:
            tail = tail_of(reply.scored, reply.prompt_tokens, request.tail)
            reply = replace(reply, scored=tail)
        amount, charged = Amount(1, reply.prompt_tokens, reply.completion_tokens), None
        if self.settings.budget is not None and not reply.refused:
            # A server that counts no tokens is taken to have charged the most.
            charged = _at_most(amount, most(body))
        with self._turn:
            self.log.keep(key, reply, charged)
            self.paid += amount
            self._end(key)

    def set_aside(self, job: str, amount: Amount) -> None:
        """Set aside the most that a job of the service can cost, if there is a budget.

        Args:
            job: its name; `charge` then notes what it did cost.

        Raises:
            StageFailed: it could exceed the budget.
        """
        if self.settings.budget is not None:
            self._reserve_amount(job, amount)

    def charge(self, job: str, amount: Amount | None) -> None:
        """Note what a job did cost, in place of what was set aside for it; None: nothing."""
        with self._turn:
            self.log.charge(job, amount)
            self._ours.discard(job)

    def _reserve(self, key: str, body: Mapping[str, Any]) -> None:
        """Set aside the most that a request can cost, if there is a budget. If only requests that
        are under way stand in the way, wait for them.

        Raises:
            StageFailed: the request could exceed the budget.
        """
        budget, largest = self.settings.budget, most(body)
        if budget is None:
            return
        if largest is None and budget.counts_tokens:
            raise StageFailed(
                "budget", "a budget in tokens or money needs a longest answer",
                fix="set max_tokens, or give the budget in calls",
            )  # fmt: skip
        self._reserve_amount(key, largest or Amount(1))

    def _reserve_amount(self, key: str, amount: Amount) -> None:
        with self._turn:
            while over := self._reserved_or_over(key, amount):
                if not self._ours:
                    raise StageFailed("budget", self._exceeded(over, amount), fix=_RAISE)
                self._turn.wait()

    def _reserved_or_over(self, key: str, amount: Amount) -> str:
        """Reserve an amount, and return ""; or the limit that it would exceed."""
        budget = self.settings.budget
        assert budget is not None
        with FileLock(f"{self.log.path}.lock"):
            self.log.refresh()
            over = exceeds(self.log.spent + amount, budget, self.settings.prices)
            if not over:
                self.log.reserve(key, amount)
                self._ours.add(key)
        return over

    def _exceeded(self, over: str, amount: Amount) -> str:
        spent, prices = self.log.spent, self.settings.prices
        return (
            f"the next request to {self.settings.model} at {self.settings.base_url} could exceed"
            f" the budget of {over}: {spent.calls:,} calls and {spent.told(prices)} until now, and"
            f" it may take {amount.told(prices)}"
        )

    def _lose(self, key: str, body: Mapping[str, Any]) -> None:
        """Count a try that brought no answer but may be charged, and reserve for the next one."""
        with self._turn:
            self.log.lose(key, most(body) or Amount(1))
        self._fail(key)
        self._reserve(key, body)

    def _fail(self, key: str) -> None:
        """Free what was set aside for a request that came to nothing."""
        with self._turn:
            if key in self._ours:
                self.log.fail(key)
            self._end(key)

    def _end(self, key: str) -> None:
        """A request is under way no longer: whoever waits for its part of the budget looks."""
        self._ours.discard(key)
        self._turn.notify_all()


def _at_most(amount: Amount, largest: Amount | None) -> Amount:
    """The amount, with the largest one's counts where it has none."""
    if largest is None:
        return amount
    return Amount(
        amount.calls,
        amount.prompt_tokens or largest.prompt_tokens,
        amount.completion_tokens or largest.completion_tokens,
    )
