"""What the report puts first: metrics in order, their names, the words and marks of verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.comparison.result import ALL, MAIN, Comparison, Row, VariantResult
from harness.core.text import label, line
from harness.report import numbers

MARKS = {
    "better": "▲",
    "worse": "▼",
    "no difference shown": "≈",
    "baseline": "○",
    "incomparable": "≠",
    "same measurement": "=",
    "failed": "✕",
}


STAR = "*"
STAR_NOTE = (
    f"{STAR} By itself the difference is clear of 0, but not after Holm's adjustment for the number"
    " of comparisons here: of many, some are clear of 0 by chance."
)


@dataclass(frozen=True)
class Column:
    """A metric on an evaluation.

    Attributes:
        name: for people; the evaluation is named where the metric has several.
        up: higher is better.
        forgetting: it tells what is still known of before.
    """

    metric: str
    evaluation: str
    name: str
    up: bool
    unit: str
    forgetting: bool = False

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↑" if self.up else "↓"

    @property
    def key(self) -> tuple[str, str]:
        """As in Comparison.metrics."""
        return self.metric, self.evaluation

    @property
    def quality(self) -> bool:
        """What the variants are trained for, as against what they forget."""
        return not self.forgetting


@dataclass(frozen=True)
class Cost:
    """A cost column: a key of VariantResult.cost and how it is written."""

    key: str
    name: str
    kind: str

    def amount(self, variant: VariantResult) -> float | None:
        """The figure; none where it was not measured. What is not trained costs no training."""
        found = variant.cost.get(self.key)
        if found is None and not variant.trained and self.training:
            return 0.0
        return found if found is not None and math.isfinite(found) else None

    @property
    def training(self) -> bool:
        """A cost of training, which the untrained model does not have."""
        return self.kind != "rate"

    def text(self, variant: VariantResult) -> str:
        """The figure with its unit; a dash where nothing was measured."""
        amount = variant.cost.get(self.key)
        if amount is None and variant.elsewhere and self.key == "train_seconds":
            return "trained elsewhere"
        return self.written(amount)

    def written(self, amount: float | None) -> str:
        """An amount with its unit."""
        if self.kind == "seconds":
            return numbers.seconds(amount)
        if self.kind == "rate":
            return numbers.rate(amount, "tokens/s")
        return numbers.size(amount) if self.kind == "bytes" else numbers.count(amount)


COSTS = (
    Cost("train_seconds", "training time", "seconds"),
    Cost("trainable_parameters", "trainable parameters", "count"),
    Cost("state_bytes", "state memory", "bytes"),
    Cost("peak_host_bytes", "peak host memory", "bytes"),
    Cost("peak_device_bytes", "peak device memory", "bytes"),
    Cost("checkpoint_bytes", "checkpoint", "bytes"),
    Cost("seconds_before", "of that time, stages before", "seconds"),
    Cost("tokens", "tokens trained on", "count"),
    Cost("tokens_per_second", "generation speed", "rate"),
)
MAIN_COSTS = COSTS[:3]


def costs(comparison: Comparison) -> list[Cost]:
    """The cost columns that some variant has a figure for."""
    found = [v.cost for v in comparison.variants]
    return [c for c in COSTS if any(f.get(c.key) is not None for f in found)]


def columns(comparison: Comparison) -> list[Column]:
    """Every metric in the suite's order, the headline one first."""
    names = [metric for metric, _ in comparison.metrics()]
    first = {(row.metric, row.evaluation): row for row in reversed(comparison.rows)}
    found = [
        Column(
            metric,
            evaluation,
            label(f"{metric} · {evaluation}" if names.count(metric) > 1 else metric),
            first[metric, evaluation].higher_is_better,
            label(first[metric, evaluation].unit),
            first[metric, evaluation].forgetting,
        )
        for metric, evaluation in comparison.metrics()
    ]
    if not found:
        return []
    headline = _headline(found)
    return [headline, *(column for column in found if column is not headline)]


def _headline(found: list[Column]) -> Column:
    for name in MAIN:
        for column in found:
            if column.metric == name:
                return column
    up = [column for column in found if column.up and column.quality]
    return (up or [column for column in found if column.quality] or found)[0]


def forgetting(comparison: Comparison) -> list[Column]:
    """Metrics of what the model knew before, as their scorers declare."""
    return [column for column in columns(comparison) if not column.quality]


def main(comparison: Comparison, most: int) -> list[Column]:
    """The headline metric, what is forgotten, then the others in order; at most so many."""
    found = columns(comparison)
    kept = [column for column in found[1:] if not column.quality]
    return [*found[:1], *kept, *(c for c in found[1:] if c.quality)][:most]


def table(comparison: Comparison, part: str = ALL) -> dict[tuple[str, str, str], Row]:
    """Rows of a slice by (variant, metric, evaluation)."""
    return {
        (row.group, row.metric, row.evaluation): row for row in comparison.rows if row.slice == part
    }


def words(row: Row) -> str:
    """The verdict; a star where the difference is clear by itself and the adjustment undid it."""
    return f"{row.verdict}{STAR if row.shown_alone else ''}"


def slices(comparison: Comparison) -> list[str]:
    """Groups of test rows, in the comparison's order, without the whole."""
    return list(dict.fromkeys(row.slice for row in comparison.rows if row.slice != ALL))


def difference(row: Row) -> str:
    """The difference from the baseline with its interval; its reason where there is none."""
    if row.difference is not None:
        return numbers.both(row.difference, signed=True)
    return line(row.note)
