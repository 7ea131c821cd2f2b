"""What a judge is asked about answers, and what it says: the same for labels and for scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.data.cells import content

TIE = 0.5
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
