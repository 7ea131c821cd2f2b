"""A variant on one metric, beside its baseline or beside the checkpoint that it started from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.comparison.estimates import Estimate

ALL = ""
"""The slice that holds every example."""
MAIN = ("handled", "rougeL", "exact_match")
"""Metrics that stand for the quality of answers: the first of these that a suite measures. A suite
that measures `handled` is about refusals, so it comes first."""


@dataclass(frozen=True)
class Row:
    """One variant on one metric, and its difference from the baseline.

    Attributes:
        group: the variant without its seed.
        evaluation: the data entry whose test rows were scored.
        slice: a group of those rows, or ALL.
        n: the number of examples that the metric counts.
        clusters: the number of independent clusters of examples.
        seeds: the number of training runs.
        difference: variant minus baseline on the same examples; None for the baseline itself. Its
            interval contains zero exactly if p is 0.05 or more.
        p: two-sided, of the hypothesis of no difference.
        p_holm: p after Holm's adjustment over the report's family; it decides the verdict.
        detectable: the smallest difference that is detected with 80% power at the 5% level.
        level: `checkpoint` (one seed: the claim is about these weights) or `method`.
        verdict: `better`, `worse`, `no difference shown`, `baseline`, `incomparable`, `same
            measurement` (the same model on the same rows, so that there is nothing to compare),
            `all alike` (every variant has the same value on every example, so that the metric tells
            nothing apart),
            `uncalibrated` (a judge sees a difference, and nobody knows how good a judge it is), or
            `not trusted` (it sees one, and its labels do not show that it is better than chance).
        note: why there is no interval or no verdict, and the limits of a verdict.
        by_seed: (seed, metric) of each training run.
        forgetting: its scorer declares that the metric shows what the variant still knows from
            before its training, not what it was trained for.
        chance: the value that guessing reaches; None where it is not known.
        judged: a judge gave the values.
        credentials: how well that judge agrees with people, in words; empty if that is not known.
        trusted: it is shown that the judge agrees with people more than chance does.
    """

    group: str
    metric: str
    evaluation: str
    slice: str
    higher_is_better: bool
    unit: str
    n: int
    clusters: int
    seeds: int
    estimate: Estimate
    difference: Estimate | None
    p: float | None
    p_holm: float | None
    detectable: float | None
    level: str
    verdict: str
    note: str = ""
    by_seed: tuple[tuple[int, float], ...] = ()
    forgetting: bool = False
    chance: float | None = None
    judged: bool = False
    credentials: str = ""
    trusted: bool = False
    constant: bool = False
    """Every variant has the same value on every example."""

    @property
    def uncalibrated(self) -> bool:
        """True for the figures of a judge whose error is not known, or which is not shown to be
        better than guessing: they decide nothing."""
        return self.judged and not self.trusted

    @property
    def shown_alone(self) -> bool:
        """True if p alone shows a difference, and p after Holm's adjustment does not."""
        return self.verdict == "no difference shown" and self.p is not None and self.p < 0.05

    @property
    def set_apart(self) -> bool:
        """True if p alone shows a difference, whatever Holm's adjustment makes of it."""
        return self.verdict in ("better", "worse") or self.shown_alone

    @property
    def fell(self) -> bool:
        """True if p alone shows that the variant is worse than its baseline."""
        if self.verdict == "worse" or self.difference is None or not self.shown_alone:
            return self.verdict == "worse"
        return (self.difference.value > 0) is not self.higher_is_better

    def noted(self, note: str) -> Row:
        """The row with one more note."""
        return replace(self, note="; ".join(part for part in (self.note, note) if part))


@dataclass(frozen=True)
class Measured:
    """One measure of an aligned variant.

    Attributes:
        kind: the kind that the scorer declares: one of harness.comparison.alignment.KINDS.
        row: the metric, with its difference from the variant's start. The difference of
            `preference` is from one half, and `from_start` has none.
    """

    kind: str
    row: Row


@dataclass(frozen=True)
class Tax:
    """What a variant gained and lost against the checkpoint that its last training started from.

    Attributes:
        start: the name of that checkpoint. It need not be a variant of the suite; if another
            checkpoint is a variant of that name, this name says whose start it is.
        reason: why nothing was measured.
    """

    group: str
    start: str
    measures: tuple[Measured, ...] = ()
    reason: str = ""
