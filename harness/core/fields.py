"""Types of fields that several sections of a suite use: seeds, steps and names."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed that both numpy and torch accept."""


def _some_steps(value: int) -> int:
    if value == 0:
        raise ValueError("0 steps train nothing; -1 stands for as many as the epochs take")
    return value


Steps = Annotated[int, Field(ge=-1), AfterValidator(_some_steps)]
"""Optimizer steps: 1 or more; -1 for as many as the epochs take."""


_NAME = re.compile(r"\w[\w .+=@-]*")
_LONGEST_NAME = 80


def _plain_name(value: str) -> str:
    if len(value) > _LONGEST_NAME:
        raise ValueError(
            f"a name may have {_LONGEST_NAME} characters, and this one has {len(value):,}"
        )
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a valid name: names begin with a letter or a digit, and contain only"
            " letters, digits, spaces and . _ - + = @, as they become names of files and folders"
        )
    return value


Name = Annotated[str, AfterValidator(_plain_name)]
"""The name of a model, a data entry or a use of the base. It becomes a part of paths and labels."""
