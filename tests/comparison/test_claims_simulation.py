"""The simulation in tests/benchmarks/claims.py: all of it among the slow tests, a small slice every
day. Its table is in docs/claims-simulation.md."""

from __future__ import annotations

import math

import pytest

from tests.benchmarks.claims import Experiment, experiments, looked, rates

TABLES = dict(experiments())
AT_THE_LIMIT = [e for title, listed in TABLES.items() if title != "Power" for e in listed]
POWER = TABLES["Power"]


def _slice(listed: list[Experiment], runs: int) -> list[tuple[Experiment, int]]:
    return [(experiment, runs) for experiment in listed]


def _cases(listed: list[Experiment], every: int) -> list[object]:
    """A part of the experiments in 300 draws, and all of them, marked slow, in 2,000."""
    whole = [pytest.param(*case, marks=[pytest.mark.slow, pytest.mark.timeout(600)])
             for case in _slice(listed, 2000)]  # fmt: skip
    return [*_slice(listed[::every], 300), *whole]


def _told(part: Experiment | int) -> str:
    return f"{part}" if isinstance(part, int) else f"{part.name}, n {part.n}, {part.line}"


def _noise(rate: float, runs: int) -> float:
    """Three standard errors of a rate."""
    return 3 * math.sqrt(rate * (1 - rate) / runs)


@pytest.mark.parametrize(("experiment", "runs"), _cases(AT_THE_LIMIT, 6), ids=_told)
def test_claim_at_its_limit_is_decided_by_chance_alone(experiment: Experiment, runs: int) -> None:
    found = rates(experiment, runs)
    if experiment.few:
        return
    assert found.held >= 0.95 - _noise(0.05, runs)
    assert found.decided <= 0.05 + _noise(0.05, runs)
    assert found.supported <= 0.025 + _noise(0.025, runs)


@pytest.mark.parametrize(("experiment", "runs"), _cases(POWER, 3), ids=_told)
def test_power_is_that_of_the_formula(experiment: Experiment, runs: int) -> None:
    assert experiment.power is not None
    found = rates(experiment, runs)
    assert found.refuted == 0
    assert abs(found.supported - experiment.power) <= 0.03 + _noise(experiment.power, runs)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_repeated_looks_raise_no_more_false_alarms_than_one() -> None:
    runs = 200
    assert looked(runs, "repeated") <= 0.05
    assert looked(runs, "once") > 0.15, "looking as often with the interval of one look is no test"
