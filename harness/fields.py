"""Kinds of numbers that several sections of a suite take."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What numpy and torch both take as a seed."""


def _some_steps(value: int) -> int:
    if value == 0:
        raise ValueError("0 steps train nothing; -1 stands for as many as the epochs take")
    return value


Steps = Annotated[int, Field(ge=-1), AfterValidator(_some_steps)]
"""Optimizer steps: 1 or more; -1 for as many as the epochs take."""
