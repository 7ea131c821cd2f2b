"""The result of a comparison: plain data, for reports, tables and gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.comparison.claim_verdict import ClaimVerdict, Outcome
from harness.comparison.estimates import Estimate, Noise
from harness.comparison.judge_results import JudgedRank, JudgedRate, PoweredRate, SuiteJudge
from harness.comparison.row import ALL, MAIN, Measured, Row, Tax
from harness.comparison.variant_result import Conditions, Example, VariantResult
from harness.core.errors import HarnessError, unknown
from harness.store.rows_used import RowsUsed

__all__ = [
    "ALL", "MAIN", "ClaimVerdict", "Comparison", "Conditions", "Estimate", "Example", "JudgedRank",
    "JudgedRate", "Measured", "Noise", "Outcome", "PoweredRate", "Row", "SuiteJudge", "Tax",
    "VariantResult",
]  # fmt: skip


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
    """The verdicts on what the suite claims, in its order."""
    judges: tuple[SuiteJudge, ...] = ()
    judged_rates: tuple[JudgedRate, ...] = ()
    judged_ranks: tuple[JudgedRank, ...] = ()
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
