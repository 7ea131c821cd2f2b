"""The examples beside the page are JSON that every reader takes."""

from __future__ import annotations

import json

import pytest

from harness.comparison.result import Example
from harness.report.examples import lines, shown
from tests.comparisons import comparison


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_is_null(odd: float) -> None:
    example = Example("row", "tasks", "", "prompt", ("yes",), {"lora-sft": "no"},
                      {"lora-sft": {"rougeL": odd, "length": 1 / 3}})  # fmt: skip
    made = comparison(examples=(example,))
    read = json.loads(lines(made), parse_constant=pytest.fail)
    assert read["scores"] == {"lora-sft": {"rougeL": None, "length": 0.333333}}
    page = json.loads(shown(made).json, parse_constant=pytest.fail)
    assert odd not in [score for of in page["examples"][0]["scores"] for score in of]
