"""A labeller from outside the package."""

from __future__ import annotations

from harness import Labeller
from harness.data.cells import content
from harness.labellers.base import LabelJob, Verdict


class Longest(Labeller):
    """The longer answer is the better one; of one with a question mark it has no opinion."""

    def label(self, job: LabelJob) -> list[Verdict]:
        return [verdict(content(pair.one), content(pair.other)) for pair in job.contests]


def verdict(one: str, other: str) -> Verdict:
    """The probability that the first answer is better, or why there is none."""
    if "?" in one + other:
        return "a question"
    return 0.5 + 0.5 * ((len(one) > len(other)) - (len(one) < len(other)))
