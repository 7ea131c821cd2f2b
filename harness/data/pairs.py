"""Makes pairs of a better and a worse answer, from preference rows or from ranked or scored
lists."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from harness.core.errors import DataError
from harness.data.cells import Unusable, content
from harness.data.render import TEMPLATE_COLUMNS
from harness.data.row import Row

OnUnusable = Literal["drop", "error"]
"""What happens to rows that cannot be used."""


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt; strings, or lists of messages.

    Attributes:
        chosen: the better answer.
        rejected: the worse answer.
        margin: by how much it is better, on the data's own scale; None if the data does not say.
        dimension: in what respect it is better (helpful, truthful ...); empty if it is not named.
        row: the id of its row, or the row's number.
        template_columns: the columns of its row that the chat template reads besides the turns,
            such as `tools`.
    """

    prompt: Any
    chosen: Any
    rejected: Any
    margin: float | None = None
    dimension: str = ""
    row: str = ""
    template_columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt_key(self) -> str:
        """A text that is equal for equal prompts."""
        columns = self.template_columns
        return json.dumps([self.prompt, columns] if columns else self.prompt, sort_keys=True)


def pairs_of(
    rows: Sequence[Row], unusable: OnUnusable, score_range: tuple[float, float] | None = None
) -> tuple[list[Pair], dict[str, int]]:
    """All pairs that the rows imply, and the counts of rows and pairs left out, by reason.

    A row has `prompt, chosen, rejected` (and perhaps `chosen_score` and `rejected_score`), or
    `prompt, responses` with `ranks` (1 is best) or `scores` (higher is better). It may have
    `dimension`. Two answers of equal rank or score are a tie, which is left out and counted
    (InstructGPT, section 3.5, ranks D > C > A = B).

    Args:
        unusable: what happens to a row that cannot be used.
        score_range: the least and the greatest score there can be; a row with another is unusable.

    Raises:
        DataError: a row cannot be used and `unusable` is `error`; or no pair is left.
    """
    pairs: list[Pair] = []
    counts: Counter[str] = Counter()
    for number, row in enumerate(rows):
        try:
            for pair in _row_pairs(row, score_range, counts):
                reason = _fault(pair)
                if reason:
                    raise Unusable(reason)
                columns = {n: row[n] for n in TEMPLATE_COLUMNS if row.get(n)}
                pairs.append(
                    replace(pair, row=str(row.get("id", number)), template_columns=columns)
                )
        except Unusable as fault:
            if unusable == "error":
                name = row.get("id", f"number {number}")
                raise DataError(
                    f"row {name}: {fault}", fix="mend the row, or set unusable: drop"
                ) from None
            counts[str(fault)] += 1
    if not pairs:
        raise DataError(
            f"no pair is left of {len(rows)} rows ({_listed(counts)})",
            fix="check the columns: prompt, chosen, rejected; or prompt, responses and ranks",
        )
    return pairs, dict(counts)


def grouped(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """The pairs grouped by prompt, in the order in which the prompts first occur."""
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.prompt_key, []).append(pair)
    return list(groups.values())


def _row_pairs(
    row: Row, score_range: tuple[float, float] | None, counts: Counter[str]
) -> list[Pair]:
    dimension = str(row.get("dimension") or "")
    if "responses" in row:
        return _ranked_pairs(row, dimension, score_range, counts)
    scores = (row.get("chosen_score"), row.get("rejected_score"))
    margin = None
    if scores[0] is not None and scores[1] is not None:
        better, worse = (_score(value, score_range) for value in scores)
        if better < worse:
            raise Unusable("the rejected answer has the higher score")
        if better == worse:
            counts["ties"] += 1
            return []
        margin = better - worse
    return [Pair(row["prompt"], row["chosen"], row["rejected"], margin, dimension)]


def _ranked_pairs(
    row: Row,
    dimension: str,
    score_range: tuple[float, float] | None,
    counts: Counter[str],
) -> list[Pair]:
    answers, scored = list(row["responses"]), row.get("scores") is not None
    values = row.get("scores") if scored else row.get("ranks")
    if values is None or len(values) != len(answers):
        raise Unusable("there is not one rank or score for each answer")
    # Higher is better from here on: ranks change their sign, and give no margin.
    goods = [_score(value, score_range) for value in values] if scored else [-v for v in values]
    pairs = []
    for (one, good), (other, less) in itertools.combinations(zip(answers, goods, strict=True), 2):
        if good == less:
            counts["ties"] += 1
            continue
        better, worse = (one, other) if good > less else (other, one)
        margin = abs(good - less) if scored else None
        pairs.append(Pair(row["prompt"], better, worse, margin, dimension))
    return pairs


def _score(value: Any, score_range: tuple[float, float] | None) -> float:
    score = float(value)
    if score_range is not None and not score_range[0] <= score <= score_range[1]:
        raise Unusable(f"a score is outside {score_range[0]:g} to {score_range[1]:g}")
    return score


def _fault(pair: Pair) -> str | None:
    if pair.chosen == pair.rejected:
        return "the two answers are equal"
    if not (_text(pair.chosen).strip() and _text(pair.rejected).strip()):
        return "an answer is empty"
    return None


def _text(answer: Any) -> str:
    return content(answer)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason}: {n}" for reason, n in sorted(counts.items())) or "no rows"
