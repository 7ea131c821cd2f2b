"""The file of everything that a judge said, a line a verdict, beside the scores made from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.data.cells import content
from harness.data.contests import Compared, Contest, Verdict

VERDICTS = "verdicts.jsonl"
"""Name of the file in a stage's folder: see `lines_of`, `rated_line` and `standing_line`."""
RANK = "rank"
"""The dimension of what a ranking says: the share of the other answers that an answer is above."""


def standing_line(
    example: str, order: int, answer: Any, share: Verdict, asked: bool
) -> dict[str, Any]:
    """How an answer stands in one order, as a line of `verdicts.jsonl`."""
    missing = isinstance(share, str)
    return {
        "example_id": example, "form": "listwise", "dimension": RANK, "judge": None,
        "one": "variant", "other": None, "order": order, "verdict": None,
        "value": None if missing else share, "reason": share if missing else None,
        "asked": asked, "one_length": len(content(answer)), "other_length": None,
    }  # fmt: skip


def lines_of(
    example: str,
    sides: tuple[str, str],
    contest: Contest,
    compared: Compared,
    dimension: str | None = None,
) -> Iterator[dict[str, Any]]:
    """A contest as lines of `verdicts.jsonl`: one for each order in which it was asked.

    Args:
        example: id of the row.
        sides: what was compared: two of `variant`, `baseline`, `start` and `reference`, or the
            names `one` and `other` of a file of contests.
        dimension: what the answers were rated for; None: on the whole.
    """
    lengths = {
        "one_length": len(content(contest.one)), "other_length": len(content(contest.other)),
    }  # fmt: skip
    for judge, orders in ((None, compared.orders), *compared.members.items()):
        for order, verdict in enumerate(orders):
            missing = isinstance(verdict, str)
            yield {
                "example_id": example, "form": "pairwise", "dimension": dimension, "judge": judge,
                "one": sides[0], "other": sides[1], "order": order,
                "verdict": None if missing else verdict, "value": None,
                "reason": verdict if missing else None, "asked": compared.asked, **lengths,
            }  # fmt: skip


def rated_line(example: str, dimension: str, answer: Any, value: Verdict) -> dict[str, Any]:
    """One answer on one dimension as a line of `verdicts.jsonl`.

    Args:
        value: on the dimension's scale, or why there is none.
    """
    missing = isinstance(value, str)
    return {
        "example_id": example, "form": "pointwise", "dimension": dimension, "judge": None,
        "one": "variant", "other": None, "order": 0, "verdict": None,
        "value": None if missing else value, "reason": value if missing else None, "asked": True,
        "one_length": len(content(answer)), "other_length": None,
    }  # fmt: skip


def write_lines(folder: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write `verdicts.jsonl` into a stage's folder."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / VERDICTS).write_text(text, encoding="utf-8")


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of `verdicts.jsonl` in a stage's folder."""
    text = (folder / VERDICTS).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def compared_in(
    lines: Iterable[Mapping[str, Any]], dimension: str | None = None
) -> dict[str, Compared]:
    """Example id -> what a judge, or a panel as a whole and each of its members, says of its
    contest.

    Args:
        dimension: by the ratings for this; None: on the whole.
    """
    orders: dict[str, dict[str | None, list[Verdict]]] = {}
    asked: dict[str, bool] = {}
    for line in lines:
        if line["form"] == "pairwise" and line["dimension"] == dimension:
            verdict = line["reason"] if line["verdict"] is None else line["verdict"]
            of = orders.setdefault(line["example_id"], {})
            of.setdefault(line["judge"], []).append(verdict)
            asked[line["example_id"]] = line["asked"]
    return {
        name: Compared(
            tuple(of[None]),
            {m: tuple(said) for m, said in of.items() if m is not None},
            asked[name],
        )
        for name, of in orders.items()
    }
