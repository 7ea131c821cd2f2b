"""How often a judge prefers the variant's answer to another one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import PrivateAttr

from harness.data.contests import TIE
from harness.data.render import prompt_row
from harness.data.verdict_lines import lines_of, write_lines
from harness.scorers._judged import (
    column_of,
    judged_metric,
    missing_note,
    shaped,
)
from harness.scorers.base import (
    SHARE,
    Asked,
    Contest,
    Metric,
    ScoreJob,
    Scorer,
    Subject,
    Verdict,
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
    against: Literal["baseline", "start", "reference", "variants"] = "baseline"
    """The other answer: that of the variant that the suite compares this one with, that of the
    checkpoint that its last training started from, the row's first reference, or those of all other
    variants. With `variants` the win rate is the mean over the others, every two variants are
    compared once, and the report ranks them all."""

    _notes: list[str] = PrivateAttr(default_factory=list)

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
        shows = {"start": "preference", "reference": "answers", "variants": "answers"}
        return shows.get(self.against, "")

    def asks(self, of: Subject) -> Mapping[str, Asked]:
        if self.against == "variants":
            plain = {"against": "baseline", "data": None, "label": None, "forgetting": None}
            return {"answers": of.answers(), "pairs": of.pairs(self.model_copy(update=plain))}
        others = {"baseline": of.baseline, "start": of.start}
        other = {"other": others[self.against]().answers()} if self.against in others else {}
        labeller = of.labeller(self.labeller)
        return {"answers": of.answers(), "rows": of.rows(), "labeller": labeller, **other}

    def score_job(self, job: ScoreJob) -> list[dict[str, Any]]:
        if self.against == "variants":
            return self._mean_of_pairs(job)
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
        return [
            {
                **column_of("judge_win", one.decided),
                **column_of("judge_mean", _known(one.mean)),
            }
            for one in compared
        ]

    def _mean_of_pairs(self, job: ScoreJob) -> list[dict[str, Any]]:
        """The means over the other variants, as far as there are verdicts."""
        of_answers = [[pair[answer.example_id] for pair in job.pairs()] for answer in job.answers()]
        said = [compared for several in of_answers for compared in several]
        reasons = [compared.reason for compared in said if compared.reason is not None]
        self._notes = missing_note("against the other variants", reasons, len(said))
        return [
            {
                **column_of("judge_win", _mean(one.decided for one in several)),
                **column_of("judge_mean", _mean(_known(one.mean) for one in several)),
            }
            for several in of_answers
        ]

    def questions(self) -> int:
        return 0 if self.against == "variants" else 2

    def provenance(self) -> dict[str, Any]:
        return {"answer_notes": self._notes} if self._notes else {}


def _known(verdict: Verdict) -> float | None:
    return None if isinstance(verdict, str) else verdict


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
