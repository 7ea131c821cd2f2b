"""The gate's outcome: what a candidate's results say against a baseline's.

`harness.comparison.judged` decides the claims; here is what the outcome is made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from harness.comparison.claims import ClaimVerdict
from harness.comparison.measured import Measured, Run
from harness.core.errors import EXIT_INCONCLUSIVE, EXIT_NOT_JUDGED, EXIT_OK, EXIT_REGRESSED

Outcome = Literal["passed", "regressed", "inconclusive", "not judged"]
Allowance = Literal["inconclusive", "prompts", "missing"]
ALLOWANCES: Mapping[str, str] = {
    "inconclusive": "a claim that the data cannot decide passes",
    "prompts": "both sides may have other prompts, as of two chat templates",
    "missing": "examples that one side lacks are left out and counted",
}
_EXIT = {
    "passed": EXIT_OK, "regressed": EXIT_REGRESSED, "inconclusive": EXIT_INCONCLUSIVE,
    "not judged": EXIT_NOT_JUDGED,
}  # fmt: skip
CANDIDATE = "candidate"


@dataclass(frozen=True)
class Side:
    """One side of a check: the runs of one variant, by seed.

    Attributes:
        name: as it was given, such as `SUITE:VARIANT` or a file.
    """

    name: str
    runs: Mapping[int, Run]

    @property
    def variant(self) -> str:
        """The variant's or model's name."""
        return next(iter(self.runs.values())).variant

    @property
    def metrics(self) -> dict[str, dict[int, Measured]]:
        """The runs' metrics: by name, then by seed."""
        found: dict[str, dict[int, Measured]] = {}
        for seed, run in self.runs.items():
            for metric in run.metrics:
                found.setdefault(metric.name, {})[seed] = metric
        return found


def on_the_same_task(baseline: Side, candidate: Side) -> Side:
    """The baseline, on the candidate's task if both are one sample file of lm-eval and share none.

    Such a file names its task by its own name alone, which people change. Whether its examples are
    those of the other is compared by their contents.
    """
    known = baseline.metrics.keys() & candidate.metrics.keys()
    tasks = [{m.evaluation for r in s.runs.values() for m in r.metrics}
             for s in (candidate, baseline)]  # fmt: skip
    files = all(map(_one_sample_file, (candidate, baseline)))
    if known or not files or any(len(names) != 1 for names in tasks):
        return baseline
    (ours,), (theirs,) = tasks
    note = f"The baseline's examples of '{theirs}' are taken for those of '{ours}'."
    runs = {
        seed: replace(run, notes=(*run.notes, note),
                      metrics=tuple(replace(metric, evaluation=ours) for metric in run.metrics))
        for seed, run in baseline.runs.items()
    }  # fmt: skip
    return replace(baseline, runs=runs)


def _one_sample_file(side: Side) -> bool:
    return all(
        run.source.get("tool") == "lm-evaluation-harness"
        and str(run.source.get("file")).endswith(".jsonl")
        for run in side.runs.values()
    )


@dataclass(frozen=True)
class Settings:
    """What a check is asked for.

    Attributes:
        margins: metric, or a pattern of its name -> its margin; `` is the margin of all others.
        allow: what does not keep the check from passing.
    """

    margins: Mapping[str, float | str] = field(default_factory=dict)
    confidence: float = 0.95
    allow: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Worse:
    """The examples whose score fell on one metric.

    Attributes:
        count: how many fell. better: how many rose. of: how many there are.
        examples: (id, baseline's score, candidate's score), the largest fall first.
    """

    metric: str
    count: int
    better: int
    of: int
    examples: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Checked:
    """The result of a check."""

    candidate: Side
    baseline: Side
    verdicts: tuple[ClaimVerdict, ...]
    worse: tuple[Worse, ...]
    notes: tuple[str, ...]
    allow: frozenset[str]
    error: str = ""
    """Why nothing was judged; empty if something was."""

    @property
    def outcome(self) -> Outcome:
        """`regressed` if a claim is refuted; else the worst of what its claims are."""
        said = {verdict.verdict for verdict in self.verdicts}
        if "refuted" in said:
            return "regressed"
        if not said or said & {"incomparable", "failed"}:
            return "not judged"
        if "inconclusive" in said and "inconclusive" not in self.allow:
            return "inconclusive"
        return "passed"

    @property
    def exit_code(self) -> int:
        """0 passed, 1 regressed, 3 inconclusive, 4 not judged."""
        return _EXIT[self.outcome]
