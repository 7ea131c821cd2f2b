"""A client of OpenAI-compatible chat endpoints (`POST BASE/chat/completions`).

It asks at temperature 0. It retries after temporary failures (408, 409, 425, 429, 5xx, a broken
connection, a body without an answer), with a growing wait or the one that the server asks for
(`Retry-After`, RFC 9110, section 10.2.3). It follows no redirect, so that the key goes to no other
host. No error or result contains the key.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.core.errors import StageFailed

_LARGEST = 4 * 2**20
"""Largest size of a reply's body in bytes; an answer of one letter takes far less."""
_CHUNK = 2**16
_TRANSIENT = frozenset({408, 409, 425, 429})
_REFUSED = frozenset({400, 413, 422})
"""Statuses for a request that the server will never accept, such as one beyond its context."""
_FAILURE = 4096
"""Bytes that are read of a failed reply's body; the key is masked before the excerpt is cut."""
_EXCERPT = 200
"""Characters of a server's reply that an error message quotes."""
_LEAST_PART = 4
"""Shortest beginning of a key, in characters, that is masked at the end of a cut text."""


class Refused(Exception):
    """The server will never accept this request; it may accept others."""


class _Passing(Exception):
    """A temporary failure.

    Attributes:
        wait: seconds to wait that the server asks for, if it asks.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        self.wait = wait
        super().__init__(message)


@dataclass(frozen=True)
class Reply:
    """The model's text ("" if it gave none), and the token counts (0 if the server gives none)."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


@dataclass(frozen=True)
class ChatEndpoint:
    """One model at one address.

    Attributes:
        base_url: the address without `/chat/completions`, such as `https://api.example.org/v1`.
        key: sent as a bearer token; None for servers that need none.
        timeout: seconds for one try, including its whole body.
        retries: number of tries after the first.
        longest_wait: longest wait before a try, in seconds.
        sleep: waits for a number of seconds; tests replace it.
    """

    base_url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    retries: int = 5
    longest_wait: float = 60.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def body(self, text: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON of a request for an answer to `text`: everything that the answer depends on."""
        asked = [{"role": "user", "content": text}]
        return {"temperature": 0, **options, "model": self.model, "messages": asked}

    def ask(self, body: Mapping[str, Any]) -> Reply:
        """Send a request that `body` returned, with retries.

        Raises:
            Refused: the server will never accept this request.
            StageFailed: the server does not know the key or the model, gave no answer in all tries,
                or asks to wait longer than `longest_wait`.
        """
        for tried in range(self.retries + 1):
            try:
                return self._once(body)
            except _Passing as failure:
                if tried == self.retries:
                    raise StageFailed(
                        "endpoint",
                        f"{self.base_url} gave no answer in {tried + 1} tries; the last: {failure}",
                        fix="run again: answers it gave are kept",
                    ) from None
                wait = min(self.longest_wait, 0.5 * 2**tried)
                if failure.wait is not None:
                    wait = failure.wait
                if wait > self.longest_wait:
                    raise StageFailed(
                        "endpoint",
                        f"{self.base_url} asks to wait {wait:.0f} s ({failure}), and longest_wait"
                        f" is {self.longest_wait:g}",
                        fix="run again later: answers it gave are kept; or raise longest_wait",
                    ) from None
                self.sleep(wait)
        raise AssertionError("every try returns or raises")

    def _once(self, body: Mapping[str, Any]) -> Reply:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(
            f"{self.base_url.rstrip('/')}/chat/completions",
            data=json.dumps(body).encode(),
            headers=headers,
            method="POST",
        )
        opener = urllib.request.build_opener(_NoRedirect)
        try:
            with opener.open(request, timeout=self.timeout) as response:
                reply = _reply(_read(response, self.timeout))
                return replace(reply, text=self._masked(reply.text))
        except urllib.error.HTTPError as error:
            with error:
                raise self._failure(error) from None
        except (OSError, http.client.HTTPException) as error:  # a timeout is an OSError
            raise _Passing(f"{type(error).__name__}: {self._safe(str(error))}") from None

    def _failure(self, error: urllib.error.HTTPError) -> Exception:
        """The exception for a status other than 200."""
        said = _head(error, self.timeout).decode("utf-8", "replace")
        status = f"HTTP {error.code}: {self._safe(said)}"
        if error.code in _TRANSIENT or error.code >= 500:
            return _Passing(status, _asked_wait(error.headers.get("Retry-After")))
        if error.code in _REFUSED:
            return Refused(status)
        fix = "check base_url and model"
        if error.code in (401, 403):
            fix = "check the key in the environment variable that api_key_env names"
        if 300 <= error.code < 400:
            fix = "give the address it redirects to as base_url, if you trust it with the key"
        return StageFailed("endpoint", f"{self.base_url} answered {status}", fix=fix)

    def _safe(self, text: str) -> str:
        """A quoted excerpt of a server's text, with the key masked."""
        return ascii(self._masked(text)[:_EXCERPT])

    def _masked(self, text: str) -> str:
        """The text with the key masked, and also a beginning of the key where the text was cut."""
        if not self.key:
            return text
        plain = text.replace(self.key, "***")
        for size in range(len(self.key) - 1, _LEAST_PART - 1, -1):
            if plain.endswith(self.key[:size]):
                return plain[:-size] + "***"
        return plain


def key_from(variable: str | None) -> str | None:
    """Read the key from an environment variable; None if `variable` is None.

    Raises:
        StageFailed: the variable is not set, or its value cannot be sent in a header; the message
            never contains the key.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise StageFailed(
            "api key",
            f"environment variable {variable}, which should hold the endpoint's key, is not set",
            fix=f"export {variable}=..., then run again; or leave `api_key_env` out for a server"
            " without keys",
        )
    if not all(33 <= ord(character) <= 126 for character in key):
        raise StageFailed(
            "api key",
            f"environment variable {variable} holds a space, a line feed or a character that no"
            " key has",
            fix="set it again, to the key alone",
        )
    return key


def _read(response: Any, timeout: float) -> bytes:
    """Read a whole body.

    Raises:
        _Passing: it is larger than `_LARGEST` or takes longer than `timeout` seconds.
    """
    end, parts, size = time.monotonic() + timeout, [], 0
    while part := response.read1(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > _LARGEST:
            raise _Passing(f"a body of more than {_LARGEST} bytes")
        if time.monotonic() > end:
            raise _Passing(f"a body that took more than {timeout:g} s")
    return b"".join(parts)


def _head(response: Any, timeout: float) -> bytes:
    """Read the beginning of a body, as far as it arrives within `timeout` seconds."""
    end, data = time.monotonic() + timeout, b""
    try:
        while len(data) < _FAILURE and time.monotonic() < end:
            part = response.read1(_FAILURE - len(data))
            if not part:
                break
            data += part
    except (OSError, http.client.HTTPException):
        pass
    return data


def _reply(body: bytes) -> Reply:
    """Read the first choice's text and the token counts from a body.

    The text is "" if it is null: a refusal, or a model that was cut while it still reasoned.

    Raises:
        _Passing: the body has no such text.
    """
    try:
        fields = json.loads(body)
        text = fields["choices"][0]["message"]["content"]
        usage = fields.get("usage") or {}
        counts = [_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise _Passing(f"a body without an answer ({type(error).__name__})") from None
    if text is None:
        return Reply("", *counts)
    if not isinstance(text, str):
        raise _Passing("an answer that is not text")
    return Reply(text, *counts)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _asked_wait(header: str | None) -> float | None:
    """Seconds that `Retry-After` asks for, by a number or a date; None if it cannot be read."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            when = email.utils.parsedate_to_datetime(header)
            seconds = when.timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
