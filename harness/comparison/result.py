"""The result of a comparison: plain data, for reports, tables and gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from harness.core.errors import HarnessError, unknown
from harness.store.rows_used import RowsUsed
from harness.suite.claims import Claim

ALL = ""
"""The slice that holds every example."""
MAIN = ("handled", "rougeL", "exact_match")
"""Metrics that stand for the quality of answers: the first of these that a suite measures. A suite
that measures `handled` is about refusals, so it comes first."""

Outcome = Literal["supported", "refuted", "inconclusive", "incomparable", "failed"]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval; both ends are None if there is no interval."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        interval = "" if self.low is None else f" [{self.low:.4g}, {self.high:.4g}]"
        return f"{self.value:.4g}{interval}"

    def meets(self, other: Estimate) -> bool | None:
        """Whether the two intervals overlap; None where either has none."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return None
        return self.low <= other.high and other.low <= self.high


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
class PoweredRate:
    """A win rate of a suite with the judge's error in its interval.

    Attributes:
        labelled: examples with a label; `examples` have a verdict.
        judged: by the judge alone, whose interval would not know of its error.
        labels: by the labelled examples alone.
        both: by prediction-powered inference.
        weight: of the judge in it, from 0 to 1.
        stage: the key of the score stage whose win rate it is.
    """

    variant: str
    other: str
    evaluation: str
    labelled: int
    examples: int
    judged: float
    labels: Estimate
    both: Estimate
    weight: float
    stage: str = ""

    @property
    def open(self) -> bool:
        """Whether the win rate may be one half, for all that the labels tell."""
        low, high = self.both.low, self.both.high
        return low is None or high is None or low <= 0.5 <= high


@dataclass(frozen=True)
class SuiteJudge:
    """A judge of the suite, with what is known of it by one set of labels.

    Attributes:
        source: where the labels come from; empty if it was held to none.
        pairs: with a label and a verdict.
        by_chance: the agreement that guessing reaches; None without labels.
        attacked: how often attacks win over it; None if none were tried.
        trusted: it is shown to agree with the labels more than chance does.
        rates: the suite's win rates with the judge's error in them.
    """

    name: str
    source: str = ""
    pairs: int = 0
    agreement: Estimate | None = None
    by_chance: float | None = None
    kappa: Estimate | None = None
    alpha: Estimate | None = None
    position: Estimate | None = None
    flips: Estimate | None = None
    verbosity: Estimate | None = None
    attacked: Estimate | None = None
    trusted: bool = False
    rates: tuple[PoweredRate, ...] = ()


@dataclass(frozen=True)
class JudgedRate:
    """How often a judge prefers a variant's answers, and what its rank is among others.

    Attributes:
        examples: those with a verdict; `missing` more have none.
        controlled: the win rate if all answers were equally long (harness.comparison.win_rates).
        strength: of Bradley and Terry; None where fewer than three variants are compared.
        rank: a range where the intervals of strengths overlap; empty without a strength.
    """

    judge: str
    variant: str
    other: str
    evaluation: str
    examples: int
    missing: int
    wins: int
    ties: int
    losses: int
    rate: Estimate
    controlled: Estimate
    strength: Estimate | None = None
    rank: str = ""


@dataclass(frozen=True)
class JudgedRank:
    """A variant's place among all variants that a judge compared with one another.

    Attributes:
        strength: of Bradley and Terry, with ties as half a win each.
        rank: a range where the intervals of strengths overlap.
        won: other variant -> how often this one's answers are preferred, half for a tie, and over
            how many examples; those that it was compared with.
    """

    judge: str
    variant: str
    evaluation: str
    strength: Estimate
    rank: str
    won: Mapping[str, tuple[float, int]]


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


@dataclass(frozen=True)
class Conditions:
    """The conditions of a measured time: times are comparable under equal conditions only.

    Attributes:
        device: the name of the GPU, else of the processor, else the platform.
        threads: the number of torch's threads; None if unknown, or on a GPU.
        busy: other programs kept the processors busy for more than a tenth of the time that the
            stage needed one.
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
        status: `ok`; `failed` if a stage failed and there are no scores; `partial` if a stage
            failed and there are scores all the same.
        reasons: the error message of each failed stage.
        cost: means over seeds, in seconds, bytes and counts; None if not measured.
        predicted: the plan's estimates of the same costs.
        generation: rates and lengths of its answers, by data entry.
        audit: the checks of every training run.
        elsewhere: it was trained outside the harness, so that the cost of its training is unknown.
        served: another server answers for it, so that its size and its memory are unknown.
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
    served: bool = False
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """The least and the greatest value of each cost over the seeds."""
    timed: tuple[Conditions, ...] = ()
    """The different conditions that its trainings ran under."""
    answering: tuple[Conditions, ...] = ()
    """The different conditions that its answers were generated under."""
    learnt: frozenset[str] = frozenset()
    """The data entries that it was trained on in any of its stages, with the parts of mixtures."""
    merged_from: str = ""
    """For a merged variant, the unmerged variant that it shares its checkpoints with."""

    @property
    def has_result(self) -> bool:
        """Whether it has at least one score."""
        return self.status != "failed"

    def trained_on(self, entry: str) -> bool:
        """Whether it was trained on rows of this data entry."""
        return entry in self.learnt or entry == self.labels.get("data")


@dataclass(frozen=True)
class Example:
    """One test row with every variant's answer (of its first seed) and the scores of the answer."""

    id: str
    evaluation: str
    group: str
    prompt: str
    references: tuple[str, ...]
    answers: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float]]
    """Variant -> metric -> the example's value, for metrics that are means over examples."""
    finishes: Mapping[str, str] = field(default_factory=dict)
    """Variant -> how its answer ended: `eos`, `stop`, or `length` if it was cut at the limit."""


@dataclass(frozen=True)
class Noise:
    """Where the doubt of a difference comes from, as shares of its variance that sum to 1; None
    for what the data does not tell apart from the rest.

    Attributes:
        examples: which examples are in the test set.
        answers: which answers were drawn to them.
        seeds: which training runs there are.
    """

    examples: float
    answers: float | None = None
    seeds: float | None = None

    @property
    def known(self) -> dict[str, float]:
        """Name -> share, of the parts that are told apart."""
        return {name: share for name, share in vars(self).items() if share is not None}

    @property
    def largest(self) -> str:
        """What to spend on next."""
        return max(self.known, key=lambda name: self.known[name])


@dataclass(frozen=True)
class ClaimVerdict:
    """What the scores say of one claim about one variant.

    Attributes:
        estimate, reference: the two values that are compared.
        difference: variant minus the other (times the claim's `ratio`), with its interval of the
            claim's confidence.
        p: the level at which the interval reaches the limit. p_adjusted: over all claims.
        n, clusters, seeds: how many examples, clusters of them, and training runs of the variant.
        level: `checkpoint` if each side is one training run, `method` if seeds are a level too,
            `cost` for a cost.
        detectable: how far beyond the limit (of `equal`, the lower one) the truth must be so that
            80% of such experiments show it, at the claim's confidence and before the adjustment.
        needed: how many more examples would decide it 80% of the time, if the difference and its
            spread stay as they are; None if it is decided, or if no number of examples would.
        reason: what limits the verdict, or why there is none.
        noise: where the doubt comes from; None if only one source of it is known.
    """

    claim: Claim
    variant: str
    against: str
    metric: str
    evaluation: str
    verdict: Outcome
    estimate: float | None = None
    reference: float | None = None
    difference: Estimate | None = None
    p: float | None = None
    p_adjusted: float | None = None
    n: int = 0
    clusters: int = 0
    seeds: int = 0
    level: str = ""
    detectable: float | None = None
    needed: int | None = None
    reason: str = ""
    unit: str = ""
    higher_is_better: bool = True
    noise: Noise | None = None

    @property
    def title(self) -> str:
        """The claim about this variant in words."""
        if self.claim.name:
            return f"{self.claim.name} ({self.variant} against {self.against})"
        return self.claim.sentence(self.variant, self.against)

    def noted(self, reason: str) -> ClaimVerdict:
        """The verdict with one more reason."""
        parts = [part for part in (self.reason, reason) if part]
        return replace(self, reason="; ".join(dict.fromkeys(parts)))


@dataclass(frozen=True)
class Comparison:
    """All that a report shows; the report computes none of it again."""

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
    """For each data stage: entry, split, rows, layout, rows dropped by reason, digest."""
    ledger: Mapping[str, float]
    """Seconds by kind of stage and phase, over all stages of this report."""
    notes: tuple[str, ...] = field(default=())
    """What a reader must know, such as a single seed, test rows in training, mixed versions."""
    suite_text: str = ""
    tests: str = (
        "Paired on the same examples: exact McNemar for single runs that are right or wrong; else"
        " Student's t over clusters with Hall's correction for skew, and training seeds as a level"
        " of their own."
    )
    """How differences were tested."""
    tuning: tuple[Mapping[str, Any], ...] = ()
    """The trials of each tuned variant, as its select stage recorded them."""
    merged: tuple[Row, ...] = ()
    """Each merged variant with its difference from the same checkpoints unmerged."""
    rows_used: tuple[RowsUsed, ...] = ()
    """How many rows each training and each evaluation used, and how many it left out."""
    taxes: tuple[Tax, ...] = ()
    """Each variant that started from another training, compared with that training."""
    baselines: Mapping[str, str] = field(default_factory=dict)
    """Variant -> the variant that it is compared with instead of `baseline`."""
    best: str = ""
    """The variant with the best estimate of the headline metric."""
    beside_best: tuple[Row, ...] = ()
    """The headline metric of the other variants, each with its difference from `best`."""
    claims: tuple[ClaimVerdict, ...] = ()
    judges: tuple[SuiteJudge, ...] = ()
    judged_rates: tuple[JudgedRate, ...] = ()
    judged_ranks: tuple[JudgedRank, ...] = ()
    """The verdicts on what the suite claims, in its order."""
    correction: Literal["holm", "bh"] = "holm"
    """How p was adjusted over the claims."""

    @property
    def failed(self) -> tuple[VariantResult, ...]:
        """The variants with a failed stage, even if they have scores."""
        return tuple(v for v in self.variants if v.status != "ok")

    def against(self, group: str) -> str:
        """The variant that this one is compared with."""
        return self.baselines.get(group, self.baseline)

    def is_baseline(self, group: str) -> bool:
        """Whether others are compared with this variant."""
        return self.against(group) == group

    def sets_apart(self, one: str, other: str, metric: str, evaluation: str) -> bool:
        """Whether p alone shows a difference between two variants over all examples.

        It does not matter which of the two is the other's baseline.
        """
        unmerged = {variant.group: variant.merged_from for variant in self.variants}
        pairs = [
            *((row, self.against(row.group)) for row in self.rows),
            *((row, unmerged.get(row.group, "")) for row in self.merged),
            *((row, self.best) for row in self.beside_best),
            *((measured.row, tax.start) for tax in self.taxes for measured in tax.measures),
        ]
        return any(
            row.set_apart
            and {row.group, against} == {one, other}
            and (row.metric, row.evaluation, row.slice) == (metric, evaluation, ALL)
            for row, against in pairs
        )

    def row(self, group: str, metric: str, evaluation: str | None = None, slice: str = ALL) -> Row:
        """The row of a variant and a metric.

        Args:
            evaluation: by default, the first evaluation that has this metric.

        Raises:
            HarnessError: there is no such row.
        """
        for row in self.rows:
            same_cell = (row.group, row.metric, row.slice) == (group, metric, slice)
            if same_cell and evaluation in (None, row.evaluation):
                return row
        metrics = {row.metric for row in self.rows if row.group == group}
        for variant in self.failed:
            if variant.group == group and not metrics:
                raise HarnessError(f"{group} has no results: {'; '.join(variant.reasons)}")
        if not metrics:
            raise HarnessError(unknown("variant", group, {row.group for row in self.rows}))
        if metric not in metrics:
            raise HarnessError(unknown("metric", metric, metrics))
        raise HarnessError(f"{group} has no {metric} on '{evaluation}' and slice '{slice}'")

    def metrics(self) -> list[tuple[str, str]]:
        """(metric, evaluation) pairs in the suite's order."""
        return list(dict.fromkeys((row.metric, row.evaluation) for row in self.rows))
