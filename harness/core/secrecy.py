"""Detects secrets in texts by their form. Messages never show their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.core.errors import SuiteError

_TOKENS = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}"
    r"|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}"
    r"|AIza[\w-]{35}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY-----)"
)
"""Tokens of the hub, OpenAI and its like, GitHub, GitLab, Slack, AWS, Google; JSON web tokens."""
_LOGIN = re.compile(r"\b[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@", re.I)
"""An address that contains a password."""
_VARIABLE = re.compile(r"token|key|secret|passw|credential|auth", re.I)
"""Parts of the names of environment variables that hold secrets."""
_FIX = (
    "remove it, and give it to the library that needs it in the environment (`export HF_TOKEN=`"
    " and the like); the content of a suite is written to disk, into the store and the report."
    " If it was shared, revoke it"
)


def require_none(text: str, where: str) -> None:
    """Check that a text holds nothing that looks like a secret.

    Raises:
        SuiteError: it does; the message names the line and the kind, not the value.
    """
    for number, line in enumerate(text.split("\n"), 1):
        kind = _kind(line)
        if kind:
            raise SuiteError(f"line {number} holds {kind}", where=where, fix=_FIX)


def require_none_in(tree: Any, where: str) -> None:
    """Check that no value or key of a YAML tree looks like a secret.

    Raises:
        SuiteError: one does; the message names its place and kind, not the value.
    """
    for place, value in _texts(tree, ""):
        if kind := _kind(value):
            raise SuiteError(f"{place} holds {kind}", where=where, fix=_FIX)


def secret_variable(name: str) -> bool:
    """True if an environment variable of this name probably holds a secret."""
    return _VARIABLE.search(name) is not None


def _kind(text: str) -> str:
    if _TOKENS.search(text):
        return "what looks like an access token or a key"
    return "an address with a password in it" if _LOGIN.search(text) else ""


def _texts(tree: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, str):
        yield place.removeprefix("."), tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _texts(key, place)
            yield from _texts(value, f"{place}.{key}")
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _texts(value, f"{place}[{index}]")
