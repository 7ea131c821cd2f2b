"""A comparison as a pandas frame, and the frame of a report on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.comparison.result import Comparison
from harness.core.errors import HarnessError, why

if TYPE_CHECKING:
    import pandas as pd

TABLE = "comparison.parquet"
_LEFT_OUT = ("estimate", "difference", "by_seed", "constant")
"""Fields that have columns of their own, or that the verdict tells."""
_ENDS = ("value", "low", "high")
_COSTS = (
    "train_seconds", "seconds", "trainable_parameters", "state_bytes", "checkpoint_bytes",
    "peak_host_bytes", "peak_device_bytes", "tokens", "flops", "joules", "mfu",
    "tokens_per_second",
)  # fmt: skip


def to_frame(comparison: Comparison) -> pd.DataFrame:
    """One row for each variant, metric, evaluation and slice.

    A failed variant has one more row, with its reasons as the note.
    """
    import pandas as pd

    variants = {variant.group: variant for variant in comparison.variants}
    lines: list[dict[str, Any]] = []
    for row in comparison.rows:
        line = {k: v for k, v in vars(row).items() if k not in _LEFT_OUT}
        line |= vars(row.estimate)
        line |= {f"difference_{k}": getattr(row.difference, k, None) for k in _ENDS}
        variant = variants[row.group]
        lines.append({**line, **_about(variant), "baseline": comparison.against(row.group)})
    for variant in comparison.failed:
        note = "; ".join(variant.reasons)
        lines.append({"group": variant.group, "verdict": "failed", "note": note, **_about(variant)})
    return pd.DataFrame(lines).rename(columns={"group": "variant", "value": "estimate"})


def _about(variant: Any) -> dict[str, Any]:
    labels = {f"axis_{name}": value for name, value in variant.labels.items()}
    return {**labels, **{name: variant.cost.get(name) for name in _COSTS}}


def load(source: Comparison | str | Path) -> pd.DataFrame:
    """The figures of a comparison as a table: a row for each variant, metric, evaluation and slice.

        table = harness.load("reports/demo")
        table = harness.load(harness.run("suite.yaml"))

    Args:
        source: a report's folder, the table in it, or what `harness.run` or `harness.compare` gave.

    Raises:
        HarnessError: the folder holds no comparison, or its table is damaged.
    """
    import pandas as pd

    if isinstance(source, Comparison):
        return to_frame(source)
    table = Path(source) / TABLE if Path(source).is_dir() else Path(source)
    if not table.is_file():
        raise HarnessError(
            f"{source} holds no {TABLE}", fix="give a folder that `harness run` wrote"
        )
    try:
        return pd.read_parquet(table)
    except (OSError, ValueError) as error:
        fix = "make it again with `harness report`"
        raise HarnessError(f"{table} cannot be read: {why(error)}", fix=fix) from error
