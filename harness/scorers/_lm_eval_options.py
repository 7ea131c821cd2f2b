"""Options written as text, as on lm_eval's command line: `temperature=0,top_k=1`."""

from __future__ import annotations

import contextlib
import re
from typing import Any

_WORDS = {"true": True, "false": False, "none": None}


def options_of(text: str) -> dict[str, Any]:
    """The options in a text, with values as lm-eval's `simple_parse_args_string` reads them.

    Raises:
        ValueError: a part is no `name=value`.
    """
    options = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise ValueError(f"'{part}' is no option; write name=value, or a mapping")
        options[name] = _value(value.strip())
    return options


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    with contextlib.suppress(ValueError):
        return float(text)
    return text
