"""A check's two sides: which examples fell, and what was not compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from harness.comparison.gate import Settings, Side
from harness.comparison.judged import judge
from harness.comparison.measured import Examples, Measured, Run


def metric(
    values: Sequence[float], *, up: bool = True, name: str = "m", ids: str = "abcdef"
) -> Measured:
    column = np.asarray(values, float)
    examples = Examples(pa.array(list(ids[: len(column)])))
    return Measured(name, "e", float(column.mean()), up, columns={"value": column},
                    examples=examples, n=len(column))  # fmt: skip


def side(name: str, *metrics: Measured) -> Side:
    return Side(name, {0: Run(name, metrics)})


@pytest.mark.parametrize("up", [True, False])
def test_examples_that_got_worse_are_told_with_the_largest_fall_first(up: bool) -> None:
    before, now = [0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.2, 0.9, 0.1, 0.5, 0.4]
    sign = 1 if up else -1
    ours, theirs = (metric([sign * v for v in values], up=up) for values in (now, before))
    checked = judge(side("new", ours), side("old", theirs), None, Settings())
    (worse,) = checked.worse
    assert (worse.count, worse.better, worse.of) == (3, 1, 6)
    assert [name for name, *_ in worse.examples] == ["d", "b", "f"]
    assert worse.examples[0] == ("d", sign * 0.5, sign * 0.1)


def test_examples_are_matched_by_their_ids() -> None:
    ours, theirs = metric([1, 0, 1], ids="bcd"), metric([1, 1, 0, 1], ids="abcd")
    checked = judge(side("new", ours), side("old", theirs), None,
                    Settings(allow=frozenset({"missing"})))  # fmt: skip
    (worse,) = checked.worse
    assert (worse.count, worse.better, worse.of, worse.examples) == (0, 0, 3, ())


@pytest.mark.parametrize(("alone", "more"), [(1, ""), (8, ""), (9, " and 1 more")])
def test_metrics_of_one_side_alone_are_named_and_the_rest_counted(alone: int, more: str) -> None:
    values = [1.0, 0, 1, 1, 0, 1]
    others = [metric(values, name=f"x{k}") for k in range(alone)]
    shared = metric(values), metric(values[::-1])
    names = ", ".join(f"x{k}/e" for k in range(min(alone, 8)))
    wanted = f"Not compared, as only the {{}} has them: {names}{more}."
    ours, theirs = side("new", shared[0], *others), side("old", shared[1])
    assert judge(ours, theirs, None, Settings()).notes == (wanted.format("candidate"),)
    assert judge(theirs, ours, None, Settings()).notes == (wanted.format("baseline"),)
