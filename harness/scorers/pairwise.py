"""How often a judge prefers the variant's answer to another one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import PrivateAttr

from harness.data.cells import content
from harness.data.contests import TIE, lines_of, write_lines
from harness.data.render import prompt_row
from harness.scorers._judged import (
    column_of,
    judged_metric,
    missing_note,
    shaped,
)
from harness.scorers.base import (
    SHARE,
    Asked,
    Compared,
    Contest,
    Metric,
    ScoreJob,
    Scorer,
    Subject,
)


class Pairwise(Scorer):
    """How often a judge prefers the variant's answer to another one. `judge_win_rate` is the share
    of the prompts to which it does, half for a tie. `judge_preference` is the mean probability that
    it gives to the variant's answer (as the weighted win rate of AlpacaEval 2): it tells more where
    verdicts are close.

    The judge is a labeller: a local model, a reward model, a model behind an endpoint, a panel of
    them, or a file of verdicts (`harness list labellers`). It is asked in both orders, and a
    verdict that changes with the order is a tie (Zheng et al., 2023, arXiv:2306.05685). It sees no
    names of models. Equal answers tie, and nobody is asked. Contests without a verdict are missing,
    and never lost.

    Nothing is trained or generated for it. The report says how often verdicts change with the
    order, how much the first place and the longer answer are preferred, and how often there is no
    verdict. All that was said is kept beside the scores, in `verdicts.jsonl`. A judge is only as
    good as its agreement with people: until that is known, the report calls it uncalibrated.
    """

    VERSION = 2

    labeller: str | dict[str, Any]
    """The judge, as `rlaif` names its labeller: `reward`, `{judge: {model: NAME}}`, ..."""
    against: Literal["baseline", "start", "reference"] = "baseline"
    """The other answer: that of the variant that the suite compares this one with, that of the
    checkpoint that its last training started from, or the row's first reference."""

    _notes: list[str] = PrivateAttr(default_factory=list)
    _biases: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def needs_references(self) -> bool:  # type: ignore[override]
        """Whether rows without a reference are refused."""
        return self.against == "reference"

    def declared(self) -> Mapping[str, Metric]:
        even = TIE if self.against == "baseline" else None
        return {
            "judge_win_rate": judged_metric("judge_win", bounds=SHARE, even=even),
            "judge_preference": judged_metric("judge_mean", bounds=SHARE, even=even),
        }

    def shows(self) -> str:
        return {"start": "preference", "baseline": "", "reference": "answers"}[self.against]

    def asks(self, of: Subject) -> Mapping[str, Asked]:
        others = {"baseline": of.baseline, "start": of.start}
        other = {"other": others[self.against]().answers()} if self.against in others else {}
        labeller = of.labeller(self.labeller)
        return {"answers": of.answers(), "rows": of.rows(), "labeller": labeller, **other}

    def score_job(self, job: ScoreJob) -> list[dict[str, Any]]:
        answers, rows = job.answers(), job.rows()
        others = (
            [answer.references[0] for answer in answers]
            if self.against == "reference"
            else [answer.text for answer in job.answers("other")]
        )
        prompts = [prompt_row(row)["prompt"] for row in rows]
        contests = [
            Contest(prompt, shaped(prompt, answer.text), shaped(prompt, other))
            for prompt, answer, other in zip(prompts, answers, others, strict=True)
        ]
        compared = job.labeller().compare(contests)
        said = list(zip(answers, contests, compared, strict=True))
        write_lines(
            job.folder,
            (
                line
                for answer, contest, one in said
                for line in lines_of(answer.example_id, ("variant", self.against), contest, one)
            ),
        )
        reasons = [one.reason for one in compared if one.reason is not None]
        self._notes = missing_note(f"against {self.against}", reasons, len(compared))
        self._biases.update(biases(contests, compared))
        return [
            {
                **column_of("judge_win", one.decided),
                **column_of("judge_mean", None if isinstance(one.mean, str) else one.mean),
            }
            for one in compared
        ]

    def questions(self) -> int:
        return 2

    def provenance(self) -> dict[str, Any]:
        notes = {"answer_notes": self._notes} if self._notes else {}
        return {**notes, "biases": self._biases}


def biases(contests: Sequence[Contest], compared: Sequence[Compared]) -> dict[str, Any]:
    """How much the order and the length of answers matter to a judge, as counts, so that those of
    several variants can be added.

    Returns:
        `both`: contests with a verdict in both orders; `flips`: those whose verdict changes with
        the order; `first`: sum, and sum of squares, of the mean probability of the first place;
        `unequal`: contests decided between answers of two lengths; `longer`: those of them that the
        longer answer won.
    """
    asked = [(c, one) for c, one in zip(contests, compared, strict=True) if one.asked and one.known]
    both = [one for _, one in asked if len(one.known) == 2]
    first = [(one.known[0] + 1 - one.known[1]) / 2 for one in both]
    longer = list(_longer_preferred(asked))
    return {
        "both": len(both), "flips": sum(one.flips for one in both),
        "first": [math.fsum(first), math.fsum(share**2 for share in first)],
        "unequal": len(longer), "longer": sum(longer),
    }  # fmt: skip


def _longer_preferred(asked: Iterable[tuple[Contest, Compared]]) -> Iterable[bool]:
    """Of each contest that was decided between answers of two lengths, whether the longer won."""
    for contest, one in asked:
        longer = len(content(contest.one)) - len(content(contest.other))
        if longer and one.decided in (0.0, 1.0):
            yield (longer > 0) == (one.decided == 1.0)
