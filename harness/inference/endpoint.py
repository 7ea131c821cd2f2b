"""A client of OpenAI-compatible endpoints: chat completions, plain completions, and other calls.

It sends requests with the `openai` SDK, and tries again (tenacity) after temporary failures: 408,
409, 425, 429, 5xx, timeouts, broken connections, a body without an answer. It waits with a growing
back-off, or as long as the server asks for. While a server answers 429, tries do not count: a storm
of them loses nothing as long as it is shorter than `patience`.
"""

from __future__ import annotations

import json
import random
import time
import urllib.parse
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self, TypeVar

from harness.core.errors import StageFailed
from harness.inference.completions import NoChoice, Reply, chat_reply, plain_reply
from harness.inference.wire import (
    asked_wait,
    excerpt,
    is_proxied,
    key_from,
    masked,
    masked_answer,
    open_client,
    sendable,
    unusable_environment,
)
from harness.models.endpoint import EndpointSettings

__all__ = ["CHAT", "COMPLETIONS", "ChatEndpoint", "Refused", "key_from"]

CHAT, COMPLETIONS = "chat/completions", "completions"
_TRANSIENT = frozenset({408, 409, 425, 429})
_REFUSED = frozenset({400, 413, 422})
"""Statuses for a request that the server will never accept, such as one beyond its context."""
_CROWDED = 429
_CODES = frozenset(map(str, range(400, 600)))
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_balance")
"""Codes of a 429 that no wait ends."""
_LEAST_WAIT = 0.5
"""Shorter waits that a server asks for are no reason to ask it again and again without a pause: the
back-off is waited instead."""
_JITTER = 0.25
"""Largest part by which a back-off is lengthened, so that many threads do not come back at once."""
T = TypeVar("T")


class Refused(Exception):
    """The server will never accept this request; it may accept others."""


class _Passing(Exception):
    """A temporary failure.

    Attributes:
        wait: seconds to wait that the server asks for, if it asks.
        crowded: the server has too many requests.
        charged: the server may have answered, and charge for it.
        empty: the server did answer, and its answer holds nothing.
    """

    def __init__(
        self,
        said: str,
        wait: float | None = None,
        *,
        crowded: bool = False,
        charged: bool = False,
        empty: bool = False,
    ) -> None:
        self.wait, self.crowded, self.charged, self.empty = wait, crowded, charged, empty
        super().__init__(said)


@dataclass(frozen=True)
class ChatEndpoint:
    """One model at one address.

    Attributes:
        base_url: the address without `/chat/completions`, such as `https://api.example.org/v1`.
        key: sent as a bearer token; None for servers that need none.
        timeout: seconds for one try, including its whole body.
        retries: number of tries after the first, except those that end in 429.
        longest_wait: longest wait before a try, in seconds.
        patience: seconds for which a request waits in all while the server answers 429.
        sleep: waits for a number of seconds; tests replace it.
        jitter: a number in [0, 1) that lengthens a back-off; tests replace it.
    """

    base_url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    retries: int = 5
    longest_wait: float = 60.0
    patience: float = 600.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    jitter: Callable[[], float] = field(default=random.random, repr=False)

    @classmethod
    def of(cls, settings: EndpointSettings) -> Self:
        """The client that the settings describe, with the key from the environment.

        Raises:
            StageFailed: the key's variable is not set.
        """
        names = ("base_url", "model", "timeout", "retries", "longest_wait", "patience")
        fields = {name: getattr(settings, name) for name in names}
        return cls(key=key_from(settings.api_key_env), **fields)

    def body(self, asked: str | list[Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON of a chat request: everything that the answer depends on.

        Args:
            asked: the turns, or the text of one user's turn.
            options: further fields; the temperature is 0 unless they say so.
        """
        turns = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        return {"temperature": 0, **options, "model": self.model, "messages": turns}

    def ask(
        self, body: Mapping[str, Any], path: str = CHAT, lost: Callable[[], None] | None = None
    ) -> Reply:
        """Send a request for an answer, with retries.

        Args:
            path: `chat/completions` or `completions`.
            lost: called after a try that gave no answer, but may be charged for.

        Raises:
            Refused: the server will never accept this request, or answers it without a choice.
            StageFailed: the server does not know the key or the model, has no credit left, gave no
                answer in all tries, or asks to wait longer than `longest_wait`.
        """
        reply = self.call(path, body, chat_reply if path == CHAT else plain_reply, lost=lost)
        finish, refused = masked_answer(reply.finish, self.key), masked(reply.refused, self.key)
        text = masked_answer(reply.text, self.key)
        return replace(reply, text=text, finish=finish, refused=refused)

    def call(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        parse: Callable[[Any], T],
        *,
        lost: Callable[[], None] | None = None,
        **options: Any,
    ) -> T:
        """Send any request with retries, and parse the JSON of its reply.

        Args:
            body: sent as JSON by POST; None: a GET.
            parse: may raise ValueError, KeyError, IndexError, TypeError and AttributeError if the
                body is not what it should be, which counts as a temporary failure.
            options: further arguments of the SDK's `post` or `get`.

        Raises:
            Refused, StageFailed: as `ask`.
        """
        from tenacity import RetryCallState, Retrying, retry_if_exception_type

        faults = 0

        def wait(state: RetryCallState) -> float:
            failure = _failure_of(state)
            if failure.wait is not None and failure.wait >= _LEAST_WAIT:
                return failure.wait
            back_off: float = 0.5 * 2 ** min(state.attempt_number - 1, 30)
            return min(self.longest_wait, back_off * (1 + _JITTER * self.jitter()))

        def ends(state: RetryCallState) -> bool:
            nonlocal faults
            failure = _failure_of(state)
            if state.upcoming_sleep > self.longest_wait:
                return True
            if failure.crowded:
                return state.idle_for + state.upcoming_sleep > self.patience
            faults += 1
            return faults > self.retries

        retrying = Retrying(
            retry=retry_if_exception_type(_Passing),
            wait=wait,
            stop=ends,
            sleep=self.sleep,
            reraise=True,
        )
        try:
            answer: T = retrying(self._once, path, body, parse, lost, options)
            return answer
        except _Passing as failure:
            raise self._gave_up(failure, retrying.statistics["attempt_number"]) from None

    def _gave_up(self, failure: _Passing, tries: int) -> Exception:
        if failure.empty:
            return Refused(f"{failure}, in {tries} tries")
        if failure.wait is not None and failure.wait > self.longest_wait:
            return StageFailed(
                "endpoint",
                f"{self.base_url} asks to wait {failure.wait:.0f} s ({failure}), and longest_wait"
                f" is {self.longest_wait:g}",
                fix="run again later: answers it gave are kept; or raise longest_wait",
            )
        more = ", or raise patience" if failure.crowded else ""
        if is_proxied(self.base_url):
            more += "; it is asked through the proxy that the environment names (NO_PROXY exempts)"
        return StageFailed(
            "endpoint",
            f"{self.base_url} gave no answer in {tries} tries; the last: {failure}",
            fix=f"run again: answers it gave are kept{more}",
        )

    @cached_property
    def _sdk(self) -> Any:
        try:
            sdk = open_client(self.base_url, self.key, self.timeout)
        except Exception as error:
            raise unusable_environment(error) from None
        weakref.finalize(self, sdk.close)
        return sdk

    def _once(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        parse: Callable[[Any], T],
        lost: Callable[[], None] | None,
        options: Mapping[str, Any],
    ) -> T:
        try:
            return self._answer(self._response(path, body, options), parse)
        except _Passing as failure:
            if failure.charged and lost is not None:
                lost()
            raise

    def _response(
        self, path: str, body: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> Any:
        import httpx2
        import openai

        try:
            if body is None:
                return self._sdk.get(f"/{path}", cast_to=httpx2.Response, **options)
            sent = sendable(body)
            return self._sdk.post(f"/{path}", cast_to=httpx2.Response, body=sent, **options)
        except openai.APIStatusError as error:
            response = error.response
            raise self._failure(response.status_code, response.text, response.headers) from None
        except openai.APIConnectionError as error:  # a timeout is one
            cause = error.__cause__ or error
            raise _Passing(
                f"{type(cause).__name__}: {self._excerpt(str(cause))}",
                charged=not isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout),
            ) from None

    def _answer(self, response: Any, parse: Callable[[Any], T]) -> T:
        """What a body of status 200 says. Some services send errors under this status too."""
        kind = response.headers.get("content-type", "").partition(";")[0] or "no type"
        try:
            fields = json.loads(response.content)
        except (ValueError, RecursionError) as error:
            said = f"{kind}, {type(error).__name__}: {self._excerpt(response.text[:4096])}"
            raise _Passing(f"a body without an answer ({said})", charged=True) from None
        try:
            return parse(fields)
        except NoChoice:
            said = f"an answer without a choice ({self._excerpt(json.dumps(fields)[:4096])})"
            raise _Passing(said, charged=True, empty=True) from None
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            said = f"{type(error).__name__}: {self._excerpt(json.dumps(fields)[:4096])}"
        told = fields.get("error") if isinstance(fields, dict) else None
        if told:
            code = told.get("code") if isinstance(told, dict) else None
            status = int(str(code)) if str(code) in _CODES else 500
            raise self._failure(status, json.dumps(told), response.headers)
        raise _Passing(f"a body without an answer ({said})", charged=True)

    def _failure(self, code: int, said: str, headers: Any) -> Exception:
        """The exception for an error of the server."""
        status = f"HTTP {code}: {self._excerpt(said)}"
        if code == _CROWDED and any(word in said for word in _NO_CREDIT):
            return StageFailed("endpoint", f"{self.base_url} answered {status}",
                               fix="add credit at the service, then run again")  # fmt: skip
        if code in _TRANSIENT or code >= 500:
            return _Passing(status, asked_wait(headers), crowded=code == _CROWDED)
        if code in _REFUSED:
            return Refused(status)
        fix = "check base_url and model"
        if code == 404 and not urllib.parse.urlsplit(self.base_url).path.strip("/"):
            fix = f"check model, and base_url: for most servers it is {self.base_url}/v1"
        if code in (401, 403):
            fix = "check the key in the environment variable that api_key_env names"
        if code == 402:
            fix = "add credit at the service, then run again"
        if 300 <= code < 400:
            fix = "give the address it redirects to as base_url, if you trust it with the key"
        return StageFailed("endpoint", f"{self.base_url} answered {status}", fix=fix)

    def _excerpt(self, text: str) -> str:
        return excerpt(text, self.key)


def _failure_of(state: Any) -> _Passing:
    failure = state.outcome.exception()
    assert isinstance(failure, _Passing)
    return failure
