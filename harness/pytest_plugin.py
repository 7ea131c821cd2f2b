"""pytest's fixture `assert_no_regression`: a check of two results as a test.

    def test_checkpoint_is_as_good(assert_no_regression):
        assert_no_regression("runs/new/samples.jsonl", "main", margin=0.02)

It is installed with the package (entry point `pytest11`), and imports nothing heavy before a test
asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

Scores = Mapping[str, Mapping[str, float]]
"""Metric -> example id -> score."""


def assert_no_regression(
    candidate: str | Path | Scores,
    baseline: str | Path | Scores,
    *,
    margin: float | str | Mapping[str, float | str] | None = None,
    claims: str | Path | None = None,
    confidence: float = 0.95,
    allow: Sequence[str] = (),
    store: str | Path | None = None,
) -> None:
    """Fail unless `harness check` passes: the same claims, statistics and table.

    Args:
        candidate, baseline: SUITE:VARIANT, a file or folder of results, the name of a stored
            baseline, or scores: metric -> example id -> score.
        margin: of all metrics, or of each by its name.
        claims: a file of claims, instead of a margin.
        allow: `inconclusive`, `prompts`, `missing`.
        store: the folder of cached stages.

    Raises:
        AssertionError: it regressed, is inconclusive, or cannot be judged; the message is the
            table.
        HarnessError: an argument is wrong.
    """
    __tracebackhide__ = True
    from harness.commands import check
    from harness.commands.session import store_at

    margins = margin if isinstance(margin, Mapping) else {} if margin is None else {"": margin}
    request = check.Request(
        _named(candidate), _named(baseline), None if claims is None else Path(claims),
        [f"{name}={amount}" if name else str(amount) for name, amount in margins.items()],
        confidence, list(allow),
    )  # fmt: skip
    given = {
        role: _scores(value)
        for role, value in (("candidate", candidate), ("baseline", baseline))
        if isinstance(value, Mapping)
    }
    checked, table = check.check(request, store_at(store), given, announced=False)
    if checked.exit_code != 0:
        raise AssertionError(table)


def _named(side: str | Path | Scores) -> str:
    return "scores" if isinstance(side, Mapping) else str(side)


def _scores(given: Scores) -> list:
    from harness.importers.collector import Collector

    rows: dict[str, dict[str, float]] = {}
    for metric, scores in given.items():
        for identifier, score in scores.items():
            rows.setdefault(identifier, {})[metric] = score
    collector = Collector("", "scores")
    for identifier, row in rows.items():
        collector.add(identifier, row)
    return collector.measured()


@pytest.fixture(name="assert_no_regression", scope="session")
def _assert_no_regression() -> object:
    """The function `assert_no_regression` of harness.pytest_plugin."""
    return assert_no_regression
