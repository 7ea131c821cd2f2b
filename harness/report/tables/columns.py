"""The columns of metrics and costs in their order, and the words and marks of verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.comparison.best import headline
from harness.comparison.result import ALL, Comparison, Row, VariantResult
from harness.core.text import label, line
from harness.report import numbers

MARKS = {
    "better": "▲",
    "worse": "▼",
    "no difference shown": "≈",
    "baseline": "○",
    "incomparable": "≠",
    "same measurement": "=",
    "all alike": "=",
    "uncalibrated": "?",
    "not trusted": "?",
    "failed": "✕",
    "supported": "✔",
    "refuted": "✘",
    "inconclusive": "?",
}


_SERVICE = "service_"
"""Beginning of the keys of costs that a service asks for."""
STAR = "*"
STAR_NOTE = (
    f"{STAR} By itself the difference is clear of 0, but not after Holm's adjustment for the number"
    " of comparisons here: of many, some are clear of 0 by chance."
)


@dataclass(frozen=True)
class Column:
    """A metric on an evaluation.

    Attributes:
        name: the metric's name for people, with the evaluation if the metric has several.
        up: higher is better.
        forgetting: it shows what the variant still knows from before its training.
        chance: the value that guessing reaches; None where it is not known.
    """

    metric: str
    evaluation: str
    name: str
    up: bool
    unit: str
    forgetting: bool = False
    chance: float | None = None

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↑" if self.up else "↓"

    @property
    def key(self) -> tuple[str, str]:
        """(metric, evaluation), as in Comparison.metrics."""
        return self.metric, self.evaluation

    @property
    def quality(self) -> bool:
        """True for what the variants are trained for, False for what they may forget."""
        return not self.forgetting


@dataclass(frozen=True)
class Cost:
    """A cost column.

    Attributes:
        key: in VariantResult.cost.
        kind: how it is written: `seconds`, `bytes`, `count`, `rate`, `money`, `joules`, `share`.
    """

    key: str
    name: str
    kind: str

    def amount(self, variant: VariantResult) -> float | None:
        """The variant's cost; None if it was not measured, 0 for training an untrained variant."""
        amount = variant.cost.get(self.key)
        if amount is None and variant.untrained and self.training and not variant.served:
            return 0.0
        return amount if amount is not None and math.isfinite(amount) else None

    @property
    def up(self) -> bool:
        """True for what is better the more of it there is: speeds, and the use of a device."""
        return self.kind in ("rate", "share")

    @property
    def training(self) -> bool:
        """Whether it is a cost of training, which an untrained model does not have."""
        return not self.up and not self.key.startswith(_SERVICE)

    def text(self, variant: VariantResult) -> str:
        """The variant's cost with its unit; a dash if it was not measured."""
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
        if self.kind == "money":
            return numbers.money(amount)
        if self.kind == "joules":
            return numbers.energy(amount)
        if self.kind == "share":
            return numbers.share(amount)
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
    Cost("joules", "training energy", "joules"),
    Cost("mfu", "MFU of the last training", "share"),
    Cost("tokens_per_second", "generation speed", "rate"),
    Cost("service_prompt_tokens", "tokens sent to a service", "count"),
    Cost("service_completion_tokens", "tokens it wrote", "count"),
    Cost("service_money", "paid for them", "money"),
)
MAIN_COSTS = COSTS[:3]


def costs(comparison: Comparison) -> list[Cost]:
    """The costs that were measured for at least one variant."""
    measured = [variant.cost for variant in comparison.variants]
    return [cost for cost in COSTS if any(c.get(cost.key) is not None for c in measured)]


def main_costs(comparison: Comparison) -> list[Cost]:
    """The costs of short tables, if one of them was measured; imports have none."""
    known = costs(comparison)
    return list(MAIN_COSTS) if any(cost in known for cost in MAIN_COSTS) else []


def columns(comparison: Comparison) -> list[Column]:
    """All metrics: the headline metric, then the others in the suite's order."""
    names = [metric for metric, _ in comparison.metrics()]
    first = {(row.metric, row.evaluation): row for row in reversed(comparison.rows)}
    metrics = [
        Column(
            metric,
            evaluation,
            label(f"{metric} · {evaluation}" if names.count(metric) > 1 else metric)
            + judged_by(first[metric, evaluation]),
            first[metric, evaluation].higher_is_better,
            label(first[metric, evaluation].unit),
            first[metric, evaluation].forgetting,
            first[metric, evaluation].chance,
        )
        for metric, evaluation in comparison.metrics()
    ]
    first_key = headline(comparison.rows)
    return sorted(metrics, key=lambda column: column.key != first_key)


def judged_by(row: Row) -> str:
    """What stands after the name of a metric by a judge: how well it agrees with people, or that
    nobody knows."""
    return f" ({line(row.credentials) or 'uncalibrated'})" if row.judged else ""


def forgetting(comparison: Comparison) -> list[Column]:
    """The metrics of forgetting, as their scorers declare them."""
    return [column for column in columns(comparison) if not column.quality]


def main(comparison: Comparison, most: int) -> list[Column]:
    """At most `most` metrics: the headline metric, those of forgetting, then the others."""
    metrics = columns(comparison)
    kept = [column for column in metrics[1:] if not column.quality]
    return [*metrics[:1], *kept, *(c for c in metrics[1:] if c.quality)][:most]


def table(comparison: Comparison, part: str = ALL) -> dict[tuple[str, str, str], Row]:
    """The rows of a slice, by (variant, metric, evaluation)."""
    return {
        (row.group, row.metric, row.evaluation): row for row in comparison.rows if row.slice == part
    }


def words(row: Row) -> str:
    """The verdict, with a star if p alone shows a difference that Holm's adjustment undid."""
    return f"{row.verdict}{STAR if row.shown_alone else ''}"


def slices(comparison: Comparison) -> list[str]:
    """The groups of test rows, in the comparison's order."""
    return list(dict.fromkeys(row.slice for row in comparison.rows if row.slice != ALL))


def difference(row: Row) -> str:
    """The difference from the baseline with its interval, or why there is none."""
    if row.difference is not None:
        return numbers.both(row.difference, signed=True)
    return line(row.note)
