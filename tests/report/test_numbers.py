"""How numbers are written, at the borders between one form and the next."""

from __future__ import annotations

import math
import unicodedata

import pytest

from harness.report import numbers
from harness.report.tables.columns import MARKS


@pytest.mark.parametrize(
    ("p", "written"),
    [(None, numbers.MISSING), (0.0, "< 0.001"), (0.00099, "< 0.001"), (0.001, "0.001"),
     (0.0496, "0.050"), (1.0, "1.000")],
)  # fmt: skip
def test_a_p_value_is_a_bound_where_it_is_not_known_more_exactly(
    p: float | None, written: str
) -> None:
    assert numbers.probability(p) == written


@pytest.mark.parametrize(
    ("count", "written"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (99.9 * 1024, "99.9 KiB"),
     (100 * 1024, "100 KiB"), (1010 * 1024, "1,010 KiB"), (1023.6 * 1024, "1.0 MiB"),
     (2**20, "1.0 MiB"), (3 * 2**30, "3.0 GiB"), (5000 * 2**40, "5,000 TiB"),
     (None, numbers.MISSING), (math.inf, numbers.MISSING)],
)  # fmt: skip
def test_bytes_have_the_prefix_that_leaves_less_than_1024(
    count: float | None, written: str
) -> None:
    assert numbers.size(count) == written


@pytest.mark.parametrize(
    ("duration", "written"),
    [(0.004, "0.00 s"), (9.99, "9.99 s"), (9.996, "10.0 s"), (59.94, "59.9 s"),
     (59.96, "1 min 00 s"), (119.6, "2 min 00 s"), (3599.6, "1 h 00 min"), (11220, "3 h 07 min")],
)  # fmt: skip
def test_a_duration_is_rounded_before_it_is_parted(duration: float, written: str) -> None:
    assert numbers.seconds(duration) == written


def test_the_mark_of_a_verdict_points_its_way() -> None:
    ways = {name: unicodedata.name(mark) for name, mark in MARKS.items()}
    assert {name for name, way in ways.items() if "UP-POINTING" in way} == {"better"}
    assert {name for name, way in ways.items() if "DOWN-POINTING" in way} == {"worse"}
    assert len({MARKS[name] for name in ("supported", "refuted", "inconclusive", "failed")}) == 4
