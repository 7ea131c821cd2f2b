"""Which variants a name means: the one rule for commands, claims and keys of the suite."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

from harness.core.errors import SuiteError, unknown

Labels = Mapping[str, Mapping[str, str]]
"""Variant -> axis -> its value there."""
NOT_AXES = ("seed",)


def called(text: str, variants: Labels) -> list[str]:
    """The variants that a text means, in their order; none if it means none.

    It is a name; else a pattern of names such as `lora*`; else the value of some axis, such as a
    method's name; else a part of one variant's name alone, between hyphens.
    """
    if text in variants:
        return [text]
    if any(mark in text for mark in "*?["):
        return fnmatch.filter(variants, text)
    named = [name for name, labels in variants.items() if text in axis_values(labels)]
    if named or not text:
        return named
    part = re.compile(rf"(?:^|-){re.escape(text)}(?:-|$)")
    having = [name for name in variants if part.search(name)]
    return having if len(having) == 1 else []


def the_one_called(text: str, variants: Labels, where: str = "") -> str:
    """The one variant that a text means.

    Raises:
        SuiteError: it means none or several.
    """
    names = called(text, variants)
    if not names:
        raise SuiteError(unknown("variant", text, variants), where=where)
    if len(names) > 1:
        listed = ", ".join(names[:20])
        message = f"'{text}' means {len(names)} variants: {listed}"
        raise SuiteError(message, where=where, fix="name one of them")
    return names[0]


def axis_values(labels: Mapping[str, str]) -> list[str]:
    """The values by which a variant may be called."""
    return [value for axis, value in labels.items() if axis not in NOT_AXES]
