"""Several judges that decide together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self, TypeVar, cast

from pydantic import Field, field_validator

from harness.core import from_yaml
from harness.core.errors import SuiteError
from harness.data.contests import TIE
from harness.labellers.base import (
    Compared,
    LabelJob,
    Labeller,
    Places,
    Question,
    Ranks,
    Reply,
    Verdict,
    ranks_of,
)

T = TypeVar("T")


class Panel(Labeller):
    """Several judges, each asked on its own, of which the majority or the mean counts (Verga et
    al., 2024, arXiv:2404.18796). What each of them says is kept beside what they say together. A
    member that gives no verdict is left out, and so is a contest or question on which fewer than
    half of them give one."""

    VERSION = 1
    answers_questions = True

    members: list[Any] = Field(min_length=2)
    """The judges, each as a labeller of the suite: `reward`, `{judge: {model: NAME}}`."""
    vote: Literal["majority", "mean"] = "majority"
    """`majority`: each member has one vote, and equal votes are a tie; `mean`: of their
    probabilities. Ratings are always averaged."""

    @field_validator("members")
    @classmethod
    def _known(cls, value: list[Any]) -> list[Any]:
        for index, spec in enumerate(value):
            try:
                member = _built(spec, index)
            except SuiteError as error:
                raise ValueError(str(error)) from None
            if isinstance(member, Panel):
                raise ValueError(f"members[{index}] is a panel itself; name its members here")
        return value

    def judges(self) -> tuple[Labeller, ...]:
        return tuple(_built(spec, index) for index, spec in enumerate(self.members))

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "members": [judge.identity() for judge in self.judges()]}

    def placed(self, places: Places) -> Self:
        judges = [judge.placed(places) for judge in self.judges()]
        specs = [{judge.name: judge.model_dump(mode="json")} for judge in judges]
        return self.model_copy(update={"members": specs})

    def runs(self) -> tuple[str, ...]:
        return tuple(line for judge in self.judges() for line in judge.runs())

    def key_variables(self) -> tuple[str, ...]:
        return tuple(name for judge in self.judges() for name in judge.key_variables())

    def calls_at_once(self) -> int:
        return max(judge.calls_at_once() for judge in self.judges())

    def sequences(self, answers: int) -> int:
        return sum(judge.sequences(answers) for judge in self.judges())

    def label(self, job: LabelJob) -> list[Verdict]:
        return [compared.mean for compared in self.compare(job)]

    def compare(self, job: LabelJob) -> list[Compared]:
        said = self._each(job, lambda judge, work: judge.compare(work))
        names = list(said)
        return [
            self._together(dict(zip(names, one, strict=True)))
            for one in zip(*said.values(), strict=True)
        ]

    def reply(self, job: LabelJob, questions: Sequence[Question]) -> list[Reply]:
        said = self._each(job, lambda judge, work: judge.reply(work, questions))
        return [_mean_reply(replies) for replies in zip(*said.values(), strict=True)]

    def rank(self, job: LabelJob, questions: Sequence[Question]) -> list[Ranks]:
        """By the mean of the members' ranks (Borda's count)."""
        said = self._each(job, lambda judge, work: judge.rank(work, questions))
        means = [_mean_reply(ranks) for ranks in zip(*said.values(), strict=True)]
        return [mean if isinstance(mean, str) else ranks_of(mean) for mean in means]

    def _each(
        self, job: LabelJob, ask: Callable[[Labeller, LabelJob], list[T]]
    ) -> dict[str, list[T]]:
        """What each member says, by its number and name. One member's model is loaded at a time.
        Costs of several members are added, and figures stand under the member's name."""
        said: dict[str, list[T]] = {}
        for number, (judge, load) in enumerate(zip(self.judges(), job.members, strict=True)):
            name, (model, tokenizer) = f"{number} {judge.name}", load()
            work = replace(job, model=model, tokenizer=tokenizer, cost={}, figures={}, members=())
            said[name] = ask(judge, work)
            for what, amount in work.cost.items():
                job.cost[what] = job.cost.get(what, 0) + amount
            job.figures.update({f"{what} ({name})": value for what, value in work.figures.items()})
        return said

    def _together(self, members: Mapping[str, Compared]) -> Compared:
        """The panel's verdict on one contest, order by order; a member that does not mind the order
        says the same in both."""
        orders = max(len(compared.orders) for compared in members.values())
        whole = [c.orders * orders if len(c.orders) == 1 else c.orders for c in members.values()]
        verdicts = tuple(self._verdict([each[order] for each in whole]) for order in range(orders))
        asked = any(compared.asked for compared in members.values())
        return Compared(verdicts, {name: c.orders for name, c in members.items()}, asked)

    def _verdict(self, verdicts: Sequence[Verdict]) -> Verdict:
        known = [verdict for verdict in verdicts if not isinstance(verdict, str)]
        if 2 * len(known) < len(verdicts) or not known:
            return next(verdict for verdict in verdicts if isinstance(verdict, str))
        if self.vote == "mean":
            return sum(known) / len(known)
        votes = sum((verdict > TIE) - (verdict < TIE) for verdict in known)
        return TIE + 0.5 * ((votes > 0) - (votes < 0))


def _built(spec: Any, index: int) -> Labeller:
    return cast(Labeller, from_yaml.build("labeller", spec, f"members[{index}]"))


def _mean_reply(replies: Sequence[Reply]) -> Reply:
    """The mean of the members' probabilities of each choice."""
    known = [reply for reply in replies if not isinstance(reply, str)]
    if 2 * len(known) < len(replies) or not known:
        return next(reply for reply in replies if isinstance(reply, str))
    choices = {choice for reply in known for choice in reply}
    return {c: sum(reply.get(c, 0.0) for reply in known) / len(known) for c in sorted(choices)}
