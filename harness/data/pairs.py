"""Preferences as pairs: from chosen and rejected, or from ranked or scored lists with ties."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from harness.core.errors import DataError
from harness.data.cells import content
from harness.data.render import GIVEN, Row

Unusable = Literal["drop", "error"]


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, the better first; strings, or lists of messages.

    Attributes:
        margin: how much better, on the data's own scale; None where it does not say.
        dimension: in what it is better (helpful, truthful ...); empty where it is not named.
        row: id of the row that it is of, or its number.
        given: what its row gives the chat template beside the turns, such as `tools`.
    """

    prompt: Any
    chosen: Any
    rejected: Any
    margin: float | None = None
    dimension: str = ""
    row: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt_key(self) -> str:
        """Equal for equal prompts."""
        return json.dumps([self.prompt, self.given] if self.given else self.prompt, sort_keys=True)


class _Unusable(Exception):
    pass


def pairs_of(
    rows: Sequence[Row], unusable: Unusable, score_range: tuple[float, float] | None = None
) -> tuple[list[Pair], dict[str, int]]:
    """Every pair that the rows imply, and counts of what was left out, by reason.

    A row is `prompt, chosen, rejected` (with `chosen_score` and `rejected_score`, where there are
    scores), or `prompt, responses` with `ranks` (1 is best) or `scores` (higher is better), equal
    ones being ties. Either may have `dimension`. A tie says nothing of its two answers, and is
    left out and counted (InstructGPT, section 3.5, ranks D > C > A = B).

    Raises:
        DataError: a row that cannot be used, and `unusable` is `error`; no pair is left.
    """
    found: list[Pair] = []
    counts: Counter[str] = Counter()
    for number, row in enumerate(rows):
        try:
            for pair in _row_pairs(row, score_range, counts):
                reason = _fault(pair)
                if reason:
                    raise _Unusable(reason)
                given = {n: row[n] for n in GIVEN if row.get(n)}
                found.append(replace(pair, row=str(row.get("id", number)), given=given))
        except _Unusable as fault:
            if unusable == "error":
                name = row.get("id", f"number {number}")
                raise DataError(
                    f"row {name}: {fault}", fix="mend the row, or set unusable: drop"
                ) from None
            counts[str(fault)] += 1
    if not found:
        raise DataError(
            f"no pair is left of {len(rows)} rows ({_listed(counts)})",
            fix="check the columns: prompt, chosen, rejected; or prompt, responses and ranks",
        )
    return found, dict(counts)


def grouped(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """The pairs of each prompt together, prompts in their first order."""
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
            raise _Unusable("the rejected answer has the higher score")
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
    given = row.get("scores") if scored else row.get("ranks")
    if given is None or len(given) != len(answers):
        raise _Unusable("there is not one rank or score for each answer")
    # As goodness: a rank is better when lower, and its distance is no score.
    goods = [_score(value, score_range) for value in given] if scored else [-v for v in given]
    found = []
    for (one, good), (other, less) in itertools.combinations(zip(answers, goods, strict=True), 2):
        if good == less:
            counts["ties"] += 1
            continue
        better, worse = (one, other) if good > less else (other, one)
        margin = abs(good - less) if scored else None
        found.append(Pair(row["prompt"], better, worse, margin, dimension))
    return found


def _score(value: Any, score_range: tuple[float, float] | None) -> float:
    score = float(value)
    if score_range is not None and not score_range[0] <= score <= score_range[1]:
        raise _Unusable(f"a score is outside {score_range[0]:g} to {score_range[1]:g}")
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
