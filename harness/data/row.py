"""Types of rows: a row maps the names of its columns to their cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
"""A row that is only read."""
RowDict = dict[str, Any]
"""A row that may be changed, or a new one."""
