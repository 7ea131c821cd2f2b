"""The contract of importers, and checks of single values that all of them need."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.comparison.measured import Run
from harness.core.errors import shortened
from harness.importers.files import Unreadable

if TYPE_CHECKING:
    pass

MAX_NAME = 300
"""The longest id or name that is kept."""
_LOWER = ("perplexity", "loss", "nll", "bits_per_byte", "wer", "cer", "ter", "edit_distance", "mse",
          "mae", "rmse", "brier_score", "toxicity", "bias", "latency", "error", "error_rate", "ece",
          "drift", "forgetting", "hallucination")  # fmt: skip


class Importer(Protocol):
    """The contract of a module in this folder; `FORMATS` in harness.importers lists them."""

    NAME: str
    TITLE: str

    def recognises(self, path: Path, start: bytes) -> bool:
        """Whether this file or folder looks like the tool's. `start` is a file's first bytes,
        unpacked; empty for a folder."""

    def read(self, path: Path) -> list[Run]:
        """The runs in it.

        Raises:
            Unreadable: it is damaged, or not the tool's.
        """


def lower_is_better(metric: str) -> bool:
    """Whether a metric of this name is one that shall be low, for sources that do not say."""
    words = metric.lower().replace("-", "_").replace(" ", "_")
    return any(words == name or words.endswith(f"_{name}") for name in _LOWER)


def fingerprint(*parts: object) -> int:
    """Four bytes of the digest of these texts."""
    text = "\x1f".join(map(str, parts))
    raw = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(raw, "little")


def condition(value: object) -> str:
    """What must be equal in two metrics, as a short text: long values by their digest."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    if len(text) <= 60:
        return text
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def a_name(value: object, what: str, where: str) -> str:
    """An id or a name as text.

    Raises:
        Unreadable: it is empty, too long, or no text or whole number.
    """
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise Unreadable(f"{what} is {shortened(repr(value))}, not a text", where=where)
    text = str(value)
    if len(text) > MAX_NAME:
        raise Unreadable(f"{what} has {len(text)} characters", where=where)
    return text.encode("utf-8", "backslashreplace").decode()  # no file can hold a lone surrogate


def a_number(value: object, what: str, where: str) -> float:
    """A finite number.

    Raises:
        Unreadable: it is none.
    """
    if isinstance(value, bool | int | float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise Unreadable(f"{what} is {shortened(repr(value))}, not a finite number", where=where)


def mapping(value: object, what: str, where: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Unreadable: it is none.
    """
    if not isinstance(value, dict):
        raise Unreadable(f"{what} is not an object", where=where)
    return value


def sequence(value: object, what: str, where: str) -> list[Any]:
    """A JSON list.

    Raises:
        Unreadable: it is none.
    """
    if not isinstance(value, list):
        raise Unreadable(f"{what} is not a list", where=where)
    return value
