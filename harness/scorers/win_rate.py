"""How often an answer is better than that of the start, by a rule that knows."""

from __future__ import annotations

from typing import Any

from pydantic import PrivateAttr, model_validator

from harness.errors import StageFailed
from harness.scorers._rule import Rule, located, require_sound
from harness.scorers.base import ROWS, START, Metric, PredictionJob, Scorer


class WinRate(Scorer):
    """Share of the prompts to which a variant's answer is better than that of its start (the
    checkpoint its last stage went on from), half for a tie: 0.5 is no change. A rule decides, such
    as one that knows what is true: a function of a row, one answer and another, which returns a
    number above 0 where the first is better, below 0 where the second is, and 0 for a tie.

    Variants that start from the base, or were trained elsewhere, have no start to be held against.
    """

    VERSION = 1
    metrics = {"win_rate": Metric()}

    rule: str
    """Name of an entry point in the group `harness.rules`, or `module:function`; a module of the
    package's suites goes by its name there (`pocket.truth:preference`). It is Python that runs."""
    data: str | None = None
    """Entry under `evaluate:` whose answers are compared; default: all of them."""
    digest: str | None = None
    """sha256 of the module that holds the rule; filled in, and another is refused."""

    _counts: dict[str, int] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _there(self) -> WinRate:
        located(self.rule)
        return self

    def identity(self) -> dict[str, Any]:
        # The answers are an input of the stage: what their rows are called changes no score.
        own = {name: value for name, value in super().identity().items() if name != "data"}
        return {**own, "digest": self.digest or located(self.rule).digest}

    def shows(self) -> str:
        return "preference"

    def beside(self) -> tuple[str, ...]:
        return (ROWS, START)

    def score_job(self, job: PredictionJob) -> list[dict[str, float]]:
        found = located(self.rule)
        if self.digest not in (None, found.digest):
            raise StageFailed(
                "input changed", f"the rule {self.rule} has changed since it was planned",
                fix="run again",
            )  # fmt: skip
        rule: Rule = found.load()
        scores = [
            require_sound(rule, self.rule, row, own.text, other.text)
            for row, own, other in zip(job.rows, job.predictions, job.start, strict=True)
        ]
        names = {1: "won", 0: "tied", -1: "lost"}
        self._counts.update({name: scores.count(sign) for sign, name in names.items()})
        return [{"win_rate": (1 + sign) / 2} for sign in scores]

    def provenance(self) -> dict[str, Any]:
        return dict(self._counts)
