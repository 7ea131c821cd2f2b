"""Which cells of a matrix a rule of the suite concerns."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


CellFilter = dict[
    str, Annotated[list[str | int | float], BeforeValidator(_listed), Field(min_length=1)]
]
"""Axis -> a name, or a list of names, one of which must match."""
