"""What a judge is asked about answers, and what it says: the same for labels and for scores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.core.errors import DataError, shortened
from harness.data.cells import content

VERDICTS = "verdicts.jsonl"
"""The file of everything that a judge said, beside the scores that are made from it: see
`lines_of` and `rated_line`."""
TIE = 0.5
RANK = "rank"
"""The dimension of what a ranking says: the share of the other answers that an answer is above."""
Verdict = float | str
"""The probability, in [0, 1], that a contest's first answer is better; or, if the labeller gives
none, the reason as a sentence. Contests without a verdict are counted by reason."""
Reply = Mapping[str, float] | str
"""The probability of each choice of a question (they sum to 1); or why there is none."""

Ranks = Mapping[str, float] | str
"""The rank of each choice of a question, 1 for the best, equal ones sharing the mean of theirs; or
why there is none."""


@dataclass(frozen=True)
class Contest:
    """Two answers to one prompt, as strings or as lists of messages, like the rows they are of.

    Attributes:
        reference: a good answer, for judges that compare with one; empty if there is none.
    """

    prompt: Any
    one: Any
    other: Any
    reference: str = ""

    def exchanged(self) -> Contest:
        """The same contest with its answers in the other order."""
        return replace(self, one=self.other, other=self.one)

    def equal(self) -> bool:
        """Whether both answers say the same, so that nobody needs to be asked."""
        return content(self.one).strip() == content(self.other).strip()


@dataclass(frozen=True)
class Question:
    """One question to a judge that reads text.

    Attributes:
        template: a Jinja template (see harness.data.prompts).
        fields: what it is filled with: texts that are data, whatever stands in them.
        choices: the answers that the judge can give, such as `A`, `B` and `C`.
    """

    template: str
    fields: Mapping[str, Any]
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Compared:
    """What a judge says of a contest.

    Attributes:
        orders: its verdict on the first answer of the contest, for each order in which it was
            asked: as they stand, then exchanged. One verdict if the order means nothing to it.
        members: the same of each member of a panel, by name.
        asked: false if the answers are equal: a tie that nobody was asked about.
    """

    orders: tuple[Verdict, ...]
    members: Mapping[str, tuple[Verdict, ...]] = field(default_factory=dict)
    asked: bool = True

    @property
    def reason(self) -> str | None:
        """Why there is no verdict; None if there is one."""
        return next((verdict for verdict in self.orders if isinstance(verdict, str)), None)

    @property
    def known(self) -> list[float]:
        """The verdicts in all orders; empty if one is missing."""
        verdicts = [verdict for verdict in self.orders if not isinstance(verdict, str)]
        return verdicts if len(verdicts) == len(self.orders) else []

    @property
    def mean(self) -> Verdict:
        """The mean over both orders, so that a liking for a place cancels (Lee et al., 2023,
        arXiv:2309.00267); the reason if there is no verdict."""
        return self.reason or sum(self.known) / len(self.known)

    @property
    def decided(self) -> float | None:
        """1 if the first answer is better in every order, 0 if the other is, else 0.5: a verdict
        that changes with the order is a tie (Zheng et al., 2023, arXiv:2306.05685, section 3.4).
        None if there is no verdict."""
        if not self.known:
            return None
        if min(self.known) > TIE:
            return 1.0
        return 0.0 if max(self.known) < TIE else TIE

    @property
    def turned(self) -> Compared:
        """The same of the contest with its answers exchanged."""
        return Compared(
            _turned(self.orders), {n: _turned(said) for n, said in self.members.items()}, self.asked
        )

    @property
    def flips(self) -> bool:
        """Whether one order prefers one answer and the other order the other."""
        return bool(self.known) and min(self.known) < TIE < max(self.known)


def _turned(orders: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
    return tuple(one if isinstance(one, str) else 1 - one for one in reversed(orders))


EQUAL = Compared((TIE, TIE), asked=False)
"""Of answers that say the same."""


@dataclass(frozen=True)
class Standing:
    """How an answer stands among those of all variants.

    Attributes:
        orders: in each order that the judge read them in, the share of the others that it stands
            above, half for one of its rank; or why there is no ranking.
        places: its place in each of these orders, counted from 0; empty if all answers are equal,
            so that nobody was asked.
    """

    orders: tuple[Verdict, ...]
    places: tuple[int, ...] = ()

    @property
    def asked(self) -> bool:
        """Whether the judge was asked."""
        return bool(self.places)

    @property
    def reason(self) -> str | None:
        """Why there is no standing; None if there is one."""
        return next((share for share in self.orders if isinstance(share, str)), None)

    @property
    def mean(self) -> float | None:
        """The mean over all orders; None if one of them is missing."""
        known = [share for share in self.orders if not isinstance(share, str)]
        return sum(known) / len(known) if len(known) == len(self.orders) else None

    def beside(self, other: Standing) -> Compared:
        """Both answers as a contest: the one that stands higher is the better one."""
        orders: list[Verdict] = []
        for one, two in zip(self.orders, other.orders, strict=True):
            if isinstance(one, str) or isinstance(two, str):
                orders.append(next(share for share in (one, two) if isinstance(share, str)))
            else:
                orders.append(TIE + 0.5 * ((one > two) - (one < two)))
        return Compared(tuple(orders), asked=self.asked and self.places != other.places)


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
    """Example id -> what a judge, or a panel as a whole, says of its contest.

    Args:
        dimension: by the ratings for this; None: on the whole.
    """
    orders: dict[str, list[Verdict]] = {}
    asked: dict[str, bool] = {}
    for line in lines:
        is_whole = line["form"] == "pairwise" and line["judge"] is None
        if is_whole and line["dimension"] == dimension:
            verdict = line["reason"] if line["verdict"] is None else line["verdict"]
            orders.setdefault(line["example_id"], []).append(verdict)
            asked[line["example_id"]] = line["asked"]
    return {name: Compared(tuple(said), asked=asked[name]) for name, said in orders.items()}


def read_contests(path: Path) -> list[tuple[str, Contest]]:
    """The contests of a JSON-lines file, each with its id.

    A line has `prompt`, `one` and `other`, strings or lists of messages, and may have an `id` (else
    its number, from 1), a `reference` and whatever else its maker needs.

    Raises:
        DataError: a line is no such object, or two have one id.
    """
    contests: dict[str, Contest] = {}
    for number, row in json_lines(path, _FIX):
        place = f"{path.name}, line {number}"
        _require_contest(row, place)
        name = str(row.get("id", number))
        if name in contests:
            raise DataError(f"{place}: the id '{shortened(name)}' stands twice", fix="rename one")
        prompt, one, other = (row[key] for key in _KEYS)
        contests[name] = Contest(prompt, one, other, str(row.get("reference") or ""))
    if not contests:
        raise DataError(f"{path.name} holds no contest", fix=_FIX)
    return list(contests.items())


_KEYS = ("prompt", "one", "other")
_FIX = 'each line is an object such as {"prompt": "...", "one": "...", "other": "..."}'


def json_lines(path: Path, fix: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file, each with the number of its line, counted from 1.

    Args:
        fix: what a line should be, for messages.

    Raises:
        DataError: the file is no UTF-8 text, or a line is no object.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text (byte {error.start})", fix=fix) from None
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path.name}, line {number} is no JSON: {error}", fix=fix) from None
        if not isinstance(row, dict):
            raise DataError(f"{path.name}, line {number} is no object", fix=fix)
        yield number, row


def _require_contest(row: Mapping[str, Any], place: str) -> None:
    for key in _KEYS:
        if not is_said(row.get(key)):
            raise DataError(f"{place}: `{key}` is no text and no list of messages", fix=_FIX)


def is_said(value: Any) -> bool:
    """Whether this is a text, or a list of messages."""
    if isinstance(value, str):
        return True
    return (
        isinstance(value, Sequence)
        and bool(value)
        and all(isinstance(turn, dict) and isinstance(turn.get("content"), str) for turn in value)
    )
