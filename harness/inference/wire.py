"""How requests to other servers are sent: the key, limits of a body, waits that a server asks for.

No error contains the key, and no result one of 12 characters or more. No request carries what the
environment holds for others: the OpenAI SDK would send `OPENAI_API_KEY` and further variables to
any address.
"""

from __future__ import annotations

import datetime
import email.utils
import json
import math
import os
import time
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.core.errors import StageFailed

LARGEST = 4 * 2**20
"""Largest size of a reply's body in bytes."""
_PIECE = 2**16
"""Bytes of a packed body that are unpacked at once."""
_EITHER = 47
"""Tells zlib to read its own header and that of gzip."""
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
_CERTIFICATES = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR"})
_EXCERPT = 200
"""Characters of a server's reply that an error message quotes."""
_LEAST_PART = 4
"""Shortest beginning of a key, in characters, that is masked at the end of a cut text."""
_LEAST_IN_ANSWERS = 12
"""The same in the answers of models. Local servers are given keys such as `EMPTY` and
`token-abc123`, and their words stand in answers that have nothing to do with a key."""
_SENT = frozenset(
    {"host", "accept", "connection", "content-type", "content-length", "transfer-encoding",
     "user-agent"}
)  # fmt: skip


def open_client(base_url: str, key: str | None, timeout: float) -> Any:
    """An `openai.OpenAI` without retries of its own, which follows no redirect, sends no header of
    the environment, and bounds the size and the time of each body.

    Args:
        key: sent as a bearer token; None: none is sent.
        timeout: seconds for a connection, for each read, and for a whole body.
    """
    import httpx2
    import openai

    def only_ours(request: Any) -> None:
        for name in [name for name in request.headers if name.lower() not in _SENT]:
            del request.headers[name]
        request.headers["Accept-Encoding"] = "identity"
        if key is not None:
            request.headers["Authorization"] = f"Bearer {key}"

    class Bounded(httpx2.SyncByteStream):
        def __init__(self, whole: Any, packed: str) -> None:
            self.whole, self.end = whole, time.monotonic() + timeout
            self.stream = unpacked(whole, packed)

        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for part in self.stream:
                size += len(part)
                if size > LARGEST:
                    raise httpx2.RemoteProtocolError(f"a body of more than {LARGEST} bytes")
                if time.monotonic() > self.end:
                    raise httpx2.ReadTimeout(f"a body that took more than {timeout:g} s")
                yield part

        def close(self) -> None:
            self.whole.close()

    def bounded(response: Any) -> None:
        packed = response.headers.pop("Content-Encoding", "")
        response.stream = Bounded(response.stream, packed)

    http = httpx2.Client(
        timeout=timeout,
        follow_redirects=False,
        limits=httpx2.Limits(max_connections=None),
        event_hooks={"request": [only_ours], "response": [bounded]},
    )
    return openai.OpenAI(
        base_url=base_url, api_key=key or "none", max_retries=0, timeout=timeout, http_client=http
    )


def unpacked(parts: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The bytes of a body, in pieces that are small however much a packed one expands. None is
    asked for packed; some servers and proxies pack it all the same. An empty body, as that of many
    errors, is empty whatever its head says.

    Raises:
        httpx2.DecodingError: it is packed otherwise than by gzip or deflate, cut, or damaged.
    """
    import httpx2

    if encoding.strip().lower() in ("", "identity"):
        yield from parts
        return
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise httpx2.DecodingError(f"a body packed by {encoding!r}, which nobody asked for")
    reader, empty = zlib.decompressobj(_EITHER), True
    for part in parts:
        while part:
            empty = False
            if reader.eof:  # a body may be several packed ones, one after the other
                reader = zlib.decompressobj(_EITHER)
            try:
                yield reader.decompress(part, _PIECE)
            except zlib.error as error:
                raise httpx2.DecodingError(f"a packed body that is damaged: {error}") from None
            part = reader.unconsumed_tail or reader.unused_data
    if not empty and not reader.eof:
        raise httpx2.DecodingError("a packed body that is cut")


def unusable_environment(error: Exception) -> StageFailed:
    """Why no client can be made at all: what the environment says of proxies or certificates. Its
    values are not shown, as a proxy's address may hold a password."""
    about = _CERTIFICATES if isinstance(error, OSError) else _PROXIES
    names = [name for name in os.environ if name.upper() in about]
    return StageFailed(
        "environment",
        f"no connection can be opened by what {', '.join(sorted(names)) or 'the environment'}"
        f" says ({type(error).__name__})",
        fix="correct it or unset it; a SOCKS proxy needs the package socksio",
    )


def is_proxied(address: str) -> bool:
    """Whether the environment names a proxy for an address."""
    parts, proxies = urllib.parse.urlsplit(address), urllib.request.getproxies()
    named = parts.scheme in proxies or "all" in proxies
    return named and not urllib.request.proxy_bypass(parts.hostname or "")


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


def whole(text: str) -> str:
    """The text with halves of surrogate pairs replaced, which JSON can hold, and no file or request
    can."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def sendable(value: Any) -> Any:
    """The JSON of a request, with its texts as `whole` has them."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, Mapping):
        return {whole(str(name)): sendable(inner) for name, inner in value.items()}
    return [sendable(inner) for inner in value] if isinstance(value, list | tuple) else value


def masked_answer(text: str, key: str | None) -> str:
    """What a model wrote, with a key masked that is too long to be a word."""
    if key is None or len(key) < _LEAST_IN_ANSWERS:
        return text
    return masked(text, key, _LEAST_IN_ANSWERS)


def masked(text: str, key: str | None, least: int = _LEAST_PART) -> str:
    """The text with the key masked, and also a beginning of the key where the text was cut.

    Args:
        least: the shortest such beginning, in characters.
    """
    if not key:
        return text
    plain = text.replace(key, "***").replace(json.dumps(key)[1:-1], "***")
    for size in range(len(key) - 1, least - 1, -1):
        if plain.endswith(key[:size]):
            return plain[:-size] + "***"
    return plain


def excerpt(text: str, key: str | None) -> str:
    """A quoted beginning of a server's text in ASCII, with the key masked."""
    return ascii(masked(text, key)[:_EXCERPT])


def asked_wait(headers: Any) -> float | None:
    """Seconds that `Retry-After` (RFC 9110, section 10.2.3: a number or a date) or OpenAI's
    `retry-after-ms` asks for; None if neither can be read."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    header = headers.get("Retry-After")
    seconds = _number(header)
    if seconds is None and header is not None:
        try:
            date = email.utils.parsedate_to_datetime(header)
            date = date if date.tzinfo else date.replace(tzinfo=datetime.UTC)
            seconds = date.timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return None if seconds is None else max(0.0, seconds)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
