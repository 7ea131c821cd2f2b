"""Fetches a file from an address that a service gave: bounded in size and time, with a key for it
alone."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import StageFailed
from harness.inference.wire import masked

_TRIES, _REDIRECTS = 4, 3
_SHORTEST = 0.1
"""Seconds that a connection is given at least."""


def download(
    url: str,
    path: Path,
    *,
    limit: int,
    origin: str = "",
    headers: Mapping[str, str] = {},
    timeout: float = 60.0,
    most: float = 3600.0,
    sleep: Any = time.sleep,
    clock: Any = time.monotonic,
) -> None:
    """Write what an address holds to a file. Broken connections, bodies and 5xx are tried
    again.

    Args:
        limit: largest size in bytes.
        origin: address whose server gets `headers`; no other server does, redirected to or not.
        timeout: seconds for a connection, and for each read.
        most: seconds in all, for every try together.

    Raises:
        StageFailed: it is refused, too large, too slow, or no address of the web. The message holds
            no query of an address, which may be signed.
    """
    import httpx2

    end = clock() + most

    def require_time() -> None:
        if clock() >= end:
            told = f"has not come within {most:g} s (the method's `download_timeout`)"
            raise StageFailed("weights", f"{_shown(url, headers)} {told}")

    for attempt in range(1, _TRIES + 1):
        require_time()
        seconds = min(timeout, max(_SHORTEST, end - clock()))
        try:
            with httpx2.Client(timeout=seconds, follow_redirects=False) as client:
                return _written(client, url, path, limit, origin, headers, require_time)
        except (ValueError, httpx2.InvalidURL):  # whose text may be the address with its query
            told = "the service gives something that is no address of the web"
            raise StageFailed("weights", told) from None
        except httpx2.RequestError as error:
            fault = type(error).__name__
        except _Again as again:
            fault = str(again)
        if attempt < _TRIES:
            sleep(min(2.0 ** (attempt - 1), max(0.0, end - clock())))
    raise StageFailed("weights", f"{_shown(url, headers)}: {fault}, {_TRIES} times")


class _Again(Exception):
    """The server may answer otherwise soon."""


def _written(
    client: Any,
    url: str,
    path: Path,
    limit: int,
    origin: str,
    headers: Mapping[str, str],
    require_time: Callable[[], None],
) -> None:
    for _ in range(_REDIRECTS + 1):
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise StageFailed("weights", f"the service gives {_shown(url, headers)} as an address")
        sent = dict(headers) if _server(url) == _server(origin) else {}
        with client.stream("GET", url, headers=sent) as response:
            if response.status_code in (301, 302, 303, 307, 308):
                url = urllib.parse.urljoin(url, response.headers.get("Location", ""))
                continue
            if response.status_code >= 500 or response.status_code == 429:
                raise _Again(f"status {response.status_code}")
            if response.status_code != 200:
                told = f"answers with status {response.status_code}"
                raise StageFailed("weights", f"{_shown(url, headers)} {told}")
            size = 0
            with path.open("wb") as file:
                for part in response.iter_bytes():
                    require_time()
                    size += len(part)
                    if size > limit:
                        told = f"has more than the {limit} bytes that such an adapter can have"
                        raise StageFailed("weights", f"{_shown(url, headers)} {told}")
                    file.write(part)
            return
    raise StageFailed("weights", f"{_shown(url, headers)} is redirected again and again")


def _server(url: str) -> tuple[str, str | None, int | None]:
    parts = urllib.parse.urlsplit(url)
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, parts.port or usual


def _shown(url: str, headers: Mapping[str, str]) -> str:
    """An address for people: without user and query, and without a key."""
    parts = urllib.parse.urlsplit(url)
    text = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"[:200]
    for value in headers.values():
        text = masked(text, value)
    return ascii(text)[1:-1]
