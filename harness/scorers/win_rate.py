"""How often an answer is better than the one of the variant's start, by a rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, PrivateAttr

from harness.core.errors import StageFailed
from harness.data.preference_rule import NAMED
from harness.scorers.base import SHARE, Asked, Metric, ScoreJob, Scorer, Subject


class WinRate(Scorer):
    """Share of the prompts to which the variant's answer is better than the answer of its start
    (the checkpoint that its last stage started from), half for a tie: 0.5 means no change. A rule
    of the suite decides, such as one that knows which answers are true.

    Variants that start from the base, or were trained elsewhere, have no start and no win rate.
    """

    VERSION = 2
    metrics = {"win_rate": Metric(bounds=SHARE)}

    rule: str = Field(pattern=NAMED, examples=["FILE.py:FUNCTION"])
    """`FILE.py:FUNCTION` of a rule. The file lies beside the suite, in the working folder or in the
    package (`pocket/truth.py:better`). FUNCTION(row, one, other) returns a number above 0 if the
    first answer is better, below 0 if the other one is, and 0 for a tie. It is Python code that
    runs. The score is computed again when the file changes, or a file beside it that it imports;
    a data file that it reads is not checked, so change the rule together with it."""

    _counts: dict[str, int] = PrivateAttr(default_factory=dict)

    def runs(self) -> tuple[str, ...]:
        return (f"{self.rule}, Python that is asked for every pair of answers",)

    def shows(self) -> str:
        return "preference"

    def asks(self, of: Subject) -> Mapping[str, Asked]:
        return {
            "answers": of.answers(),
            "start": of.start().answers(),
            "rows": of.rows(),
            "rule": of.rule(self.rule),
        }

    def score_job(self, job: ScoreJob) -> list[dict[str, Any]]:
        signs, rule = [], job.rule()
        for row, answer, before in zip(
            job.rows(), job.answers(), job.answers("start"), strict=True
        ):
            sign = rule(row, answer.text, before.text)
            if sign is None:
                raise StageFailed(
                    "rule", f"{self.rule} does not know which answer to row {row['id']} is better",
                    fix="set `data:` to rows that it knows",
                )  # fmt: skip
            signs.append(sign)
        names = {1: "won", 0: "tied", -1: "lost"}
        self._counts.update({name: signs.count(sign) for sign, name in names.items()})
        return [{"win_rate": (1 + sign) / 2} for sign in signs]

    def provenance(self) -> dict[str, Any]:
        return dict(self._counts)
