"""Reads answers that were ranked or scored, in one or in several dimensions.

Their normal form is `ranked`: prompt, responses, and either `ranks` (1 is best, without gaps, equal
for a tie: D > C > A = B is 3, 3, 2, 1) or `scores` (higher is better, equal for a tie).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.core.errors import DataError
from harness.data.cells import Unusable, content
from harness.data.messages import prompt_of, side
from harness.data.row import Row

LAYOUTS = ("ranked", "scored")
"""Layouts whose answers may be scored in several dimensions."""
OPTIONAL = frozenset({"dimension", "chosen_score", "rejected_score", "ranks", "scores", "tools",
                      "documents", "chat_template_kwargs"})  # fmt: skip
"""Columns that some rows of a layout may have and others may lack."""


@dataclass(frozen=True)
class Reading:
    """How scores are read.

    Attributes:
        scale: the least and the greatest score there can be; None: any number.
        weights: dimension -> weight. The weighted mean of an answer's scores ranks it.
    """

    scale: tuple[float, float] | None = None
    weights: Mapping[str, float] = field(default_factory=dict)

    def require(self, row: Row, layout: str, where: str) -> None:
        """Check that the weights fit the rows.

        Raises:
            DataError: there are weights and no scores by dimension, or scores by dimension and no
                weights.
        """
        scores = row.get("scores") if layout in LAYOUTS else None
        if self.weights and not isinstance(scores, Mapping):
            raise DataError(
                "`weights` is for answers with scores by dimension (`scores: {helpful: ...}`)",
                where=f"{where}.weights",
                fix="remove it; pairs are weighed by the reward objective's dimension_weights",
            )
        if isinstance(scores, Mapping) and not self.weights:
            raise DataError(
                f"answers are scored in several dimensions ({', '.join(sorted(map(str, scores)))}),"
                " and nothing says how one ranking comes of them",
                where=f"{where}.weights",
                fix="give each dimension a weight, such as `weights: {helpful: 1, harmless: 2}`",
            )


def ranked(row: Row, reading: Reading) -> dict[str, Any]:
    """The columns of a prompt with several answers and `ranks`, a `ranking` (D > C > A = B), or
    `scores`.

    Raises:
        Unusable: the answers or their ranks or scores cannot be used.
    """
    prompt, responses = prompt_of(row), row.get("responses")
    if not isinstance(responses, Sequence) or isinstance(responses, str) or len(responses) < 2:
        raise Unusable("`responses` is no list of two answers or more")
    answers = [side({"responses": answer}, "responses", prompt) for answer in responses]
    columns: dict[str, Any] = {"prompt": prompt, "responses": answers, **dimension(row)}
    if row.get("scores") is not None:
        columns["scores"] = _scores(row["scores"], len(answers), reading)
    else:
        columns["ranks"] = _ranks(row, len(answers))
    if len({json.dumps(answer) for answer in answers}) < len(answers):
        raise Unusable("two answers are equal")
    return columns


def scored(row: Row, reading: Reading) -> dict[str, Any]:
    """The columns of a prompt with one answer and its `score`, or `scores` by dimension (see
    `gathered`).

    Raises:
        Unusable: the score cannot be used.
    """
    prompt = prompt_of(row)
    columns = {"prompt": prompt, "completion": side(row, "completion", prompt), **dimension(row)}
    scores = row.get("scores")
    if isinstance(scores, Mapping):
        scores = {name: [value] for name, value in scores.items()}
        return {**columns, "score": _scores(scores, 1, reading)[0]}
    return {**columns, "score": _number(row.get("score"), reading)}


def dimension(row: Row) -> dict[str, str]:
    """The row's `dimension`, in which an answer is better; empty if it has none."""
    return {"dimension": str(row["dimension"])} if row.get("dimension") else {}


def pair_scores(row: Row, reading: Reading) -> dict[str, float]:
    """The scores of a pair's two answers; empty if one is missing.

    Raises:
        Unusable: the rejected answer has the higher score.
    """
    names = ("chosen_score", "rejected_score")
    if any(row.get(name) is None for name in names):
        return {}
    scores = {name: _number(row[name], reading) for name in names}
    if scores["chosen_score"] < scores["rejected_score"]:
        raise Unusable("the rejected answer has the higher score")
    return scores


def gathered(rows: Sequence[Row]) -> tuple[list[dict[str, Any]], dict[str, list[int]]]:
    """Gather rows with one scored answer each: all answers to one prompt (and dimension) become one
    ranked row.

    Returns:
        The ranked rows, each with id, cluster and group of its first answer's row; and reason ->
        indices of the rows that were left out.
    """
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        key = json.dumps([row["prompt"], row.get("dimension")], sort_keys=True)
        places.setdefault(key, []).append(place)
    rankings, left_out = [], dict[str, list[int]]()
    for group in places.values():
        scores: dict[str, float] = {}
        for place in group:
            answer, score = json.dumps(rows[place]["completion"]), rows[place]["score"]
            if scores.setdefault(answer, score) != score:
                left_out.setdefault("an answer to the prompt has two scores", []).extend(group)
                break
        else:
            if len(scores) < 2:
                left_out.setdefault("the prompt has no second answer", []).extend(group)
                continue
            first = {n: v for n, v in rows[group[0]].items() if n not in ("completion", "score")}
            answers = [json.loads(answer) for answer in scores]
            rankings.append({**first, "responses": answers, "scores": list(scores.values())})
    rankings = [
        {**row, "references": [content(answer) for answer in best(row)]} for row in rankings
    ]
    return rankings, left_out


def best(row: Row) -> list[Any]:
    """The best answers of a ranked row: several if they are tied."""
    goods = row["scores"] if row.get("scores") is not None else [-rank for rank in row["ranks"]]
    pairs = zip(row["responses"], goods, strict=True)
    return [answer for answer, good in pairs if good == max(goods)]


def _scores(scores: Any, count: int, reading: Reading) -> list[float]:
    """One score for each answer: the weighted mean, if there are several dimensions."""
    if not isinstance(scores, Mapping):
        return _numbers(scores, count, reading)
    unknown = sorted(set(scores) - set(reading.weights))
    if unknown:
        raise Unusable(f"dimension '{unknown[0]}' has no weight")
    missing = sorted(set(reading.weights) - set(scores))
    if missing:
        raise Unusable(f"no scores for dimension '{missing[0]}'")
    columns = {name: _numbers(scores[name], count, reading) for name in reading.weights}
    total = sum(abs(weight) for weight in reading.weights.values())
    # Rounded, so that sums equal on paper tie.
    return [
        round(sum(w * columns[name][i] for name, w in reading.weights.items()) / total, 9)
        for i in range(count)
    ]


def _numbers(values: Any, count: int, reading: Reading) -> list[float]:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != count:
        raise Unusable("there is not one score for each answer")
    return [_number(value, reading) for value in values]


def _number(value: Any, reading: Reading) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise Unusable("a score is no number") from None
    if isinstance(value, bool) or not math.isfinite(number):
        raise Unusable("a score is no number")
    if reading.scale is not None and not reading.scale[0] <= number <= reading.scale[1]:
        raise Unusable(f"a score is outside {reading.scale[0]:g} to {reading.scale[1]:g}")
    return number


def _ranks(row: Row, count: int) -> list[int]:
    """Ranks from 1 without gaps, made of `ranks` (the lowest is best) or of a written `ranking`."""
    if isinstance(row.get("ranking"), str):
        values: Sequence[Any] = _written(row["ranking"], count)
    else:
        values = row.get("ranks") or ()
    if isinstance(values, str) or len(values) != count:
        raise Unusable("there is not one rank or score for each answer")
    numbers = [_number(value, Reading()) for value in values]
    order = sorted(set(numbers))
    return [order.index(number) + 1 for number in numbers]


def _written(ranking: str, count: int) -> list[int]:
    """The ranks in a text such as `D > C > A = B`, in which A is the first answer."""
    tiers = [re.split(r"\s*=\s*", tier.strip()) for tier in ranking.split(">")]
    ranks = {letter: rank for rank, tier in enumerate(tiers) for letter in tier}
    letters = [chr(ord("A") + i) for i in range(count)]
    if sorted(ranks) != letters or sum(map(len, tiers)) != count:
        raise Unusable("`ranking` does not name each answer once, as in `D > C > A = B`")
    return [ranks[letter] for letter in letters]
