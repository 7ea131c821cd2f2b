"""Random search: what methods share is drawn alike for all of them."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import SuiteError
from harness.suite.tune import Range, Settings, Tune, propose

Space = dict[str, list[Any] | Range]
RATES = [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3]


def drawn(space: Space, trials: int, seed: int = 0) -> list[Settings]:
    """The trials of one cell."""
    whole = Tune(trials=trials, space=space, metric="rougeL", seed=seed)
    return propose(whole, space, [], higher_is_better=True)


def of(component: str, trials: list[Settings]) -> list[Settings]:
    """What the trials set of one component."""
    return [
        {key: value for key, value in trial.items() if key.startswith(f"{component}.")}
        for trial in trials
    ]


def test_full_and_lora_try_the_same_rates_whatever_lora_tunes_beside_them() -> None:
    for seed in range(500):
        full = drawn({"sft.learning_rate": RATES}, 4, seed)
        lora = drawn({"sft.learning_rate": RATES, "lora.r": [4, 8, 16]}, 4, seed)
        assert of("sft", lora) == full, f"seed {seed}"


fields = st.one_of(
    st.lists(st.integers(0, 9), min_size=1, max_size=5, unique=True),
    st.builds(lambda low: Range(low=low, high=low + 3), st.integers(0, 3)),
    st.just(Range(low=1e-5, high=1e-2, log=True)),
    st.just(Range(low=0.1, high=0.1003)),
)  # fmt: skip


def spaces(component: str, least: int = 0) -> st.SearchStrategy[Space]:
    """Up to three fields of one component."""
    return st.lists(fields, min_size=least, max_size=3).map(
        lambda found: {f"{component}.field{i}": choices for i, choices in enumerate(found)}
    )


@given(
    objectives=st.tuples(spaces("sft", 1), spaces("orpo", 1)),
    methods=st.tuples(spaces("lora"), spaces("ia3"), st.just({})),
    trials=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_every_two_cells_share_the_draws_of_a_component_they_share_and_try_nothing_twice(
    objectives: tuple[Space, ...], methods: tuple[Space, ...], trials: int, seed: int
) -> None:
    cells = []
    for objective, method in itertools.product(objectives, methods):
        with contextlib.suppress(SuiteError):  # fewer configurations than trials
            cells.append(drawn({**method, **objective}, trials, seed))
    for cell in cells:
        assert len({tuple(settings.items()) for settings in cell}) == trials
    for one, other in itertools.combinations(cells, 2):
        for component in ("sft", "orpo", "lora", "ia3"):
            if any(of(component, one)) and any(of(component, other)):
                assert of(component, one) == of(component, other)


def test_small_spaces_are_tried_whole() -> None:
    found = drawn({"sft.learning_rate": RATES[:3], "lora.r": [4, 8]}, 6)
    assert len({tuple(settings.items()) for settings in found}) == 6


def test_ranges_too_narrow_for_so_many_trials_are_refused() -> None:
    with pytest.raises(SuiteError, match="too narrow for 9 different trials"):
        drawn({"sft.learning_rate": Range(low=0.1, high=0.1003)}, 9)
