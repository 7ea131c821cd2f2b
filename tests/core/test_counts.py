"""A number of things is told in the singular where there is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.core.text import number_of

FOLDERS = ("report", "commands", "comparison", "scheduling")
NOUNS = (
    "claims|stages|rows|examples|variants|metrics|seeds|runs|trials|pairs|labels|clusters|answers"
    "|contests|comparisons|attacks|checks|requests|trainings|tokens|tasks|files|documents|turns"
)
HARNESS = Path(__file__).parents[2] / "harness"
MORE_THAN_ONE = {
    "_LARGEST} rows", "MAX_ROWS:,} rows", "_MOST:,} rows", "counts['trained']} variants",
}  # fmt: skip
"""Numbers that are never 1."""


@pytest.mark.parametrize(
    ("count", "told"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1200, "1,200 rows")]
)
def test_one_thing_is_in_the_singular(count: int, told: str) -> None:
    assert number_of(count, "row") == told
    verbs = number_of(count, "row is", "rows are")
    assert verbs.endswith("row is" if count == 1 else "rows are")


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_text_for_people_writes_a_number_before_a_plural_by_itself(folder: str) -> None:
    """`number_of` does it, which knows of one."""
    plural = re.compile(r"\{[^{}]+\} (?:" + NOUNS + r")\b")
    lines = [
        f"{path.name}: {told.group()}"
        for path in (HARNESS / folder).rglob("*.py")
        for told in plural.finditer(path.read_text(encoding="utf-8"))
        if not any(told.group().endswith(never) for never in MORE_THAN_ONE)
    ]
    assert not lines
