"""Final answers of worked solutions are judged as the code of GSM8K judges them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.scorers.base import Prediction
from harness.scorers.exact_match import ExactMatch

PUBLISHED = {
    "6b_finetuning": 0.21683, "6b_verification": 0.39045,
    "175b_finetuning": 0.34723, "175b_verification": 0.56255,
}  # fmt: skip


def hit(text: str, reference: str, scorer: ExactMatch | None = None) -> bool:
    found = (scorer or ExactMatch()).score(Prediction("1", "1", "", "", text, (reference,)))
    return found["exact_match"] == 1.0


@pytest.mark.real
@pytest.mark.parametrize("model", PUBLISHED)
def test_published_accuracies_of_gsm8k(real_data: Path, model: str) -> None:
    """Every solution is judged as the authors of GSM8K judged it; the file writes `A: n`."""
    path = real_data / "benchmarks" / "gsm8k" / "example_model_solutions.jsonl"
    if not path.is_file():
        pytest.skip("example_model_solutions.jsonl of grade-school-math is not there")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    scorer = ExactMatch(answer_pattern=r"A: (-?[0-9.,]+)")
    found = [hit(row[model]["solution"], row["ground_truth"], scorer) for row in rows]
    assert found == [row[model]["is_correct"] for row in rows]
    assert round(sum(found) / len(found), 5) == PUBLISHED[model]


def cobbe(completion: str) -> str:
    """extract_answer of grade_school_math/dataset.py."""
    match = re.compile(r"#### (\-?[0-9\.\,]+)").search(completion)
    return match.group(1).strip().replace(",", "") if match else "[invalid]"


numbers = st.sampled_from(["18", "-18", "1,234", "1234", "12,34", "18.0", "18.", "0.5", ".5"])
around = st.sampled_from(["", "so 3 + 4 = 7\n", "7\n", "1,234 "])
behind = st.sampled_from(["", " apples", "%", " dollars, and 5 more", "\n#### 18", "\nQ: next?\n"])
before = st.sampled_from(["", "$", "+", "\u2212", "about "])


@settings(max_examples=200, deadline=None)
@given(around, before, numbers, behind, numbers)
def test_numbers_are_judged_by_the_code_of_gsm8k(
    start: str, mark: str, number: str, end: str, reference: str
) -> None:
    text, gold = f"{start}#### {mark}{number}{end}", f"4 + 4 = 8\n#### {reference}"
    if mark and "####" in end:
        return  # their pattern goes on to an answer that is a number
    assert hit(text, gold) == (cobbe(text) == cobbe(gold))


@pytest.mark.parametrize(
    ("text", "reference", "right"),
    [
        ("#### 1,234,567", "#### 1234567", True),
        ("#### 1234", "#### 1,234", True),
        ("#### 3/5", "#### 3/4", False),
        ("#### 3/4", "#### 3/4", True),
        ("#### 2021-05-02", "#### 2021-05-01", False),
        ("#### 12:45", "#### 12:30", False),
        ("#### 3x+2", "#### 3x+1", False),
        ("#### -5", "#### 5", False),
        ("#### yes", "#### Yes", True),
        ("####\n7", "#### 7", True),
        ("#### 7\n\nQuestion: and 2 more?\n#### 9", "#### 7", True),
        ("#### 7\n\nQuestion: and 2 more?\n#### 9", "#### 9", False),
        ("####", "#### 7", False),
        ("", "#### 7", False),
        ("7", "#### 7", False),
    ],
)
def test_what_stands_after_the_mark_is_compared(text: str, reference: str, right: bool) -> None:
    assert hit(text, reference) is right
    assert hit(reference, reference)


@pytest.mark.parametrize(
    ("pattern", "text", "reference", "right"),
    [
        (r"(-?\d[\d,]*(?:\.\d+)?)", "first 3, then 1,015.", "#### 1015", True),
        (r"(?s)Answer: (.*)", "Answer: 5 or 6", "Answer: 5", False),
        (r"(?s)Answer: (.*)", "Answer:  5 ", "Answer: 5", True),
        (r"Answer: \S+", "Answer: 5", "Answer: 5", True),
        (r"A: (\d+)|B: (\d+)", "B: 5", "A: 5", True),
        (r"A: (\d+)|B: (\d+)", "B: 6", "A: 5", False),
    ],
)
def test_a_pattern_of_ones_own(pattern: str, text: str, reference: str, right: bool) -> None:
    assert hit(text, reference, ExactMatch(answer_pattern=pattern)) is right


@pytest.mark.parametrize("pattern", ["", r"\d*", "(?s)(.*)"])
def test_a_pattern_that_finds_nothing_is_refused(pattern: str) -> None:
    """Its last match is the end of the text, so that every answer would be right."""
    with pytest.raises(ValidationError, match="found in the empty text"):
        ExactMatch(answer_pattern=pattern)
