"""A labeller from outside the package."""

from __future__ import annotations

from harness.data.cells import content
from harness.labellers.base import LabelJob, Labeller, Verdict


class Longest(Labeller):
    """The longer answer is the better one; of one with a question mark it has no opinion."""

    def label(self, job: LabelJob) -> list[Verdict]:
        return [_verdict(content(c.one), content(c.other)) for c in job.contests]


def _verdict(one: str, other: str) -> Verdict:
    if "?" in one + other:
        return "a question"
    return 0.5 + 0.5 * ((len(one) > len(other)) - (len(one) < len(other)))
