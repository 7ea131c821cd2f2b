"""What a comparison says: plain data, for reports, tables and gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.store.rows_used import RowsUsed

ALL = ""
"""The slice that holds every example."""
MAIN = ("handled", "rougeL", "exact_match")
"""Metrics that stand for the quality of answers: the first that a suite measures. Who measures what
is refused asks about that."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval; the interval is None where it cannot be told."""

    value: float
    low: float | None = None
    high: float | None = None

    def meets(self, other: Estimate) -> bool | None:
        """Whether the two intervals overlap; None where either has none."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return None
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Row:
    """One variant on one metric, beside the baseline.

    Attributes:
        group: the variant without its seed.
        evaluation: data entry whose test rows were scored.
        slice: a group of those rows, or ALL.
        n: examples that the metric is about. clusters: independent ones. seeds: training runs
            behind the number.
        difference: variant minus baseline on the same examples; None for the baseline itself. Its
            interval holds zero just where p is 0.05 or more.
        p: two-sided, of no difference. p_holm: adjusted over the report's family; a verdict goes
            by this one.
        detectable: smallest difference seen with 80% power at the 5% level.
        level: `checkpoint` (one seed: the claim is about these weights) or `method`.
        verdict: `better`, `worse`, `no difference shown`, `baseline`, `incomparable`, `same
            measurement` (of the same model on the same rows: there is nothing to compare).
        note: why there is no interval or no verdict, and what a verdict is not about.
        by_seed: (seed, metric) of each training run.
        forgetting: it tells what the variant still knows of before, and not what it was trained
            for, as its scorer declares.
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

    @property
    def shown_alone(self) -> bool:
        """By itself the difference is clear of zero, but not beside all that is compared."""
        return self.verdict == "no difference shown" and self.p is not None and self.p < 0.05

    @property
    def set_apart(self) -> bool:
        """By itself the difference is clear of zero, whatever became of it beside the others."""
        return self.verdict in ("better", "worse") or self.shown_alone

    @property
    def fell(self) -> bool:
        """It is set apart, and on the worse side."""
        if self.verdict == "worse" or self.difference is None or not self.shown_alone:
            return self.verdict == "worse"
        return (self.difference.value > 0) is not self.higher_is_better

    def noted(self, note: str) -> Row:
        """The row with one thing more to know."""
        return replace(self, note="; ".join(part for part in (self.note, note) if part))


@dataclass(frozen=True)
class Measured:
    """One measure of an aligned variant.

    Attributes:
        kind: what it says, as scorers declare it: one of harness.comparison.alignment.KINDS.
        row: its difference is from the variant's start; of `preference`, from one half; of
            `from_start` there is none.
    """

    kind: str
    row: Row


@dataclass(frozen=True)
class Tax:
    """What a variant gained and lost against the checkpoint that its last stage went on from.

    Attributes:
        start: that checkpoint's name; it need not be a variant of the suite, and says whose start
            it is where a variant of that name is another checkpoint.
        reason: why nothing is measured.
    """

    group: str
    start: str
    measures: tuple[Measured, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Conditions:
    """What a time depends on besides the work.

    Attributes:
        device: name of the GPU, else of the processor, else the platform.
        threads: of torch; None where not known, or on a GPU.
        busy: it waited for a processor, which others had, for more than a tenth of the time that it
            wanted one.
    """

    device: str
    threads: int | None = None
    busy: bool = False

    def __str__(self) -> str:
        count = "" if self.threads is None else f", {self.threads} thread"
        count += "s" if self.threads not in (None, 1) else ""
        return f"{self.device}{count}{', beside other work' if self.busy else ''}"


@dataclass(frozen=True)
class VariantResult:
    """A variant over its seeds: what it is, what it cost, how its answers ended.

    Attributes:
        status: `ok`; `failed` with the reasons of the stages that ended without a result; `partial`
            where other stages of it have one.
        cost: means over seeds, in seconds, bytes and counts; None where not measured.
        generation: rates and lengths of its answers, by data entry.
        audit: checks of every training run.
        elsewhere: it was trained elsewhere: what that cost is not known.
    """

    group: str
    ids: tuple[str, ...]
    labels: Mapping[str, str]
    trained: bool
    seeds: tuple[int, ...]
    status: str
    reasons: tuple[str, ...]
    cost: Mapping[str, float | None]
    predicted: Mapping[str, float | None]
    generation: Mapping[str, Mapping[str, float]]
    audit: tuple[Mapping[str, str], ...]
    losses: tuple[tuple[tuple[int, float], ...], ...] = ()
    """(step, loss) of each training run."""
    elsewhere: bool = False
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Least and most of each cost over the seeds."""
    timed: tuple[Conditions, ...] = ()
    """Under what its trainings ran, each once."""
    answering: tuple[Conditions, ...] = ()
    """Under what its answers were generated, each once."""
    learnt: frozenset[str] = frozenset()
    """Data entries that it was trained on, at whatever stage, parts of mixtures included."""
    merged_from: str = ""
    """The variant whose checkpoints it shares, where it is that with the adapter merged."""

    @property
    def has_result(self) -> bool:
        """Whether there is a figure of it to show."""
        return self.status != "failed"

    def trained_on(self, entry: str) -> bool:
        """Whether rows of this data entry were among those it was trained on."""
        return entry in self.learnt or entry == self.labels.get("data")


@dataclass(frozen=True)
class Example:
    """One test row with every variant's answer (first seed) and its per-example scores."""

    id: str
    evaluation: str
    group: str
    prompt: str
    references: tuple[str, ...]
    answers: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float]]
    """Variant -> metric -> the example's own value (means only)."""
    finishes: Mapping[str, str] = field(default_factory=dict)
    """Variant -> how its answer ended: `eos`, `stop`, or `length` where it was cut at the limit."""


@dataclass(frozen=True)
class Comparison:
    """All that a report shows. Nothing here is computed again by the report."""

    suite: str
    description: str
    command: str
    baseline: str
    variants: tuple[VariantResult, ...]
    rows: tuple[Row, ...]
    examples: tuple[Example, ...]
    contamination: tuple[Mapping[str, Any], ...]
    provenance: Mapping[str, Any]
    data: tuple[Mapping[str, Any], ...]
    """A line for each data stage: label, rows, dropped by reason, digest."""
    ledger: Mapping[str, float]
    """Seconds by kind of stage and phase, over the stages behind this report."""
    notes: tuple[str, ...] = field(default=())
    """What a reader must know: one seed, leaks, mixed versions."""
    suite_text: str = ""
    tests: str = (
        "Paired on the same examples: exact McNemar for single runs that are right or wrong; else"
        " Student's t over clusters with Hall's correction for skew, and training seeds as a level"
        " of their own."
    )
    """How differences were tested."""
    tuning: tuple[Mapping[str, Any], ...] = ()
    """Each tuned variant's trials, as its select stage recorded them."""
    merged: tuple[Row, ...] = ()
    """Each merged variant, its difference from the same checkpoints unmerged."""
    rows_used: tuple[RowsUsed, ...] = ()
    """What each training and each evaluation made of its rows."""
    taxes: tuple[Tax, ...] = ()
    """Each variant that goes on from another training, against that; none where nothing does."""
    baselines: Mapping[str, str] = field(default_factory=dict)
    """Variant -> what it is compared with, where that is not `baseline` for all."""

    @property
    def failed(self) -> tuple[VariantResult, ...]:
        """Variants of which some stage ended without a result; those with figures included."""
        return tuple(v for v in self.variants if v.status != "ok")

    def against(self, group: str) -> str:
        """The variant that this one is compared with."""
        return self.baselines.get(group, self.baseline)

    def is_baseline(self, group: str) -> bool:
        """Whether others are compared with this variant."""
        return self.against(group) == group

    def sets_apart(self, one: str, other: str, metric: str, evaluation: str) -> bool:
        """Whether a difference between two variants on the same examples, whichever of them is
        compared with the other, is by itself clear of zero; over all examples alone."""
        whole = {variant.group: variant.merged_from for variant in self.variants}
        pairs = [
            *((row, self.against(row.group)) for row in self.rows),
            *((row, whole.get(row.group, "")) for row in self.merged),
            *((found.row, tax.start) for tax in self.taxes for found in tax.measures),
        ]
        return any(
            row.set_apart
            and {row.group, against} == {one, other}
            and (row.metric, row.evaluation, row.slice) == (metric, evaluation, ALL)
            for row, against in pairs
        )

    def row(self, group: str, metric: str, evaluation: str | None = None, slice: str = ALL) -> Row:
        """The row of a variant and a metric; KeyError where there is none."""
        for row in self.rows:
            found = (row.group, row.metric, row.slice) == (group, metric, slice)
            if found and evaluation in (None, row.evaluation):
                return row
        raise KeyError((group, metric, evaluation, slice))

    def metrics(self) -> list[tuple[str, str]]:
        """(metric, evaluation) pairs in the suite's order."""
        return list(dict.fromkeys((row.metric, row.evaluation) for row in self.rows))
