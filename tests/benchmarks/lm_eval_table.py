"""The tables of lm_eval_speed.py: speed, and beside it whether the results are the same."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.lm_eval_exact import CLOSE

SIDES = ("lm-eval", "harness")


@dataclass(frozen=True)
class Row:
    """A case, and its rounds as they are kept."""

    model: str
    case: str
    floor: float
    kept: dict[str, Any]

    def ratio(self, what: str) -> float:
        """The median over the rounds of lm-eval's `what` over ours."""
        return statistics.median(r["lm-eval"][what] / r["harness"][what] for r in self.rounds)

    def median(self, side: str, what: str) -> float:
        return statistics.median(r[side][what] for r in self.rounds)

    @property
    def rounds(self) -> list[dict[str, Any]]:
        rounds: list[dict[str, Any]] = self.kept["rounds"]
        return rounds

    def exact(self, what: str) -> float:
        """The largest figure of a round."""
        return max(r["exact"][what] for r in self.rounds)

    def named(self, what: str) -> list[str]:
        return sorted({name for r in self.rounds for name in r["exact"][what]})


def holds(row: Row, dtype: str) -> bool:
    """Whether the results are the same, so that the speed counts."""
    if row.kept["tokens"] or row.exact("requests"):
        return False
    if dtype != "float32":
        return True
    return not (row.exact("texts") or row.named("answers") or row.exact("apart") > CLOSE)


SPEED = (
    "model", "case", "rounds x documents", "times as fast (wall)", "floor", "in seconds of cores",
    "weights counted", "lm-eval's batch", "lm-eval s", "ours s", "lm-eval's model s",
    "our model s", "load",
)  # fmt: skip
EXACT = (
    "model", "case", "other requests", "other tokens", "log-probabilities apart",
    "other answers", "near-ties", "other texts",
)  # fmt: skip
LOWER = ("changed documents against float32", "nats from float32, on average")
"""More of the exactness table, in lower precision."""


def speed_line(row: Row, dtype: str) -> str:
    """A case's line of the speed table."""
    wall = f"{row.ratio('wall'):.2f}" if holds(row, dtype) else "void"
    loads = [r["load"] for r in row.rounds]
    cells = [
        row.model, row.case, f"{len(row.rounds)} x {row.exact('documents')}", wall, row.floor,
        f"{row.ratio('cores'):.2f}", f"{row.ratio('weights'):.2f}", row.kept["batch"],
        *(f"{row.median(side, 'wall'):.1f}" for side in SIDES),
        *(f"{row.median(side, 'model'):.1f}" for side in SIDES),
        f"{min(loads):.0f} to {max(loads):.0f}",
    ]  # fmt: skip
    return line(cells)


def exact_line(row: Row, dtype: str) -> str:
    """A case's line of the exactness table."""
    cells = [
        row.model, row.case, row.exact("requests"), row.kept["tokens"],
        f"{row.exact('apart'):.0e}", len(row.named("answers")),
        ", ".join(row.named("near_ties")) or 0, row.exact("texts"),
    ]  # fmt: skip
    if dtype != "float32":
        told = [each for each in row.rounds if "changed" in each]
        for what, how in (("changed", sum), ("distance", statistics.mean)):
            sides = told[0][what] if told else ()
            figures = {side: how([each[what][side] for each in told]) for side in sides}
            cells.append(", ".join(f"{side} {figure:.3g}" for side, figure in figures.items()))
    return line(cells)


def tables(rows: Sequence[Row], dtype: str) -> str:
    """Both tables."""
    exact = EXACT if dtype == "float32" else (*EXACT, *LOWER)
    return "\n".join([
        line(SPEED), "|" + "---|" * len(SPEED), *(speed_line(row, dtype) for row in rows), "",
        line(exact), "|" + "---|" * len(exact), *(exact_line(row, dtype) for row in rows), "",
    ])  # fmt: skip


def line(cells: Sequence[Any]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"
