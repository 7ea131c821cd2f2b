"""The ranking stage: a judge ranks the answers of all variants to each prompt."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self, cast

from harness.core.errors import StageFailed
from harness.core.text import number_of
from harness.data.render import prompt_row
from harness.models.endpoint import EndpointSettings
from harness.scorers.listwise import Listwise
from harness.stages._cost import BYTES_A_TOKEN, service_cost
from harness.stages._judging import ANSWERS, STANDINGS, Judging, answers_in
from harness.stages._predictions import read_predictions
from harness.stages.base import Job, Known, member_of
from harness.stages.data import read_rows
from harness.stages.generate import asked_rows
from harness.stages.score import DATA, Score
from harness.store.stage import Record, Stage

LABELLER = "labeller"
"""The name by which the judge is asked for."""
_TOKENS_A_RANK = 2


class Ranking(Score):
    """A judge's rankings of the answers of all variants to each prompt, which every variant's score
    of the scorer `listwise` reads. Its fields are those of a score stage."""

    VERSION = 1
    reads = {DATA: "data", f"{ANSWERS}.*": "generate"}

    def expected(self, known: Known, inputs: Mapping[str, Stage]) -> dict[str, float]:
        """Calls of judges behind endpoints, with their tokens and money, if all answers differ and
        each is as long as half of a row."""
        rows, answers = known.rows.get("rows", 0), len(inputs) - 1
        calls = rows * self.built().questions()
        cost: dict[str, float] = {}
        for judge in member_of("labeller", self.labellers[LABELLER]).judges() if rows else ():
            if isinstance(judge, EndpointSettings):
                length = len(self.prompts["prompt"]) + (1 + answers / 2) * known.rows["mean_bytes"]
                asked, told = calls * length / BYTES_A_TOKEN, calls * _TOKENS_A_RANK * answers
                for name, amount in service_cost(judge, calls, asked, told).items():
                    cost[name] = cost.get(name, 0.0) + amount
        return cost

    @classmethod
    def headline(cls, record: Record) -> str:
        figures = record.metrics
        missing = f", {figures['missing']} missing" if figures["missing"] else ""
        return (
            f"{number_of(figures['answers'], 'answer')} to each of"
            f" {number_of(figures['prompts'], 'prompt')}{missing}"
        )

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Rank, and write how each variant's answers stand; metrics are counts."""
        scorer = cast(Listwise, self.built()).model_copy(update={"prompt": self.prompts["prompt"]})
        with job.ledger.phase("load"):
            rows, texts = _answers(job)
        lists = [list(dict.fromkeys(of)) for of in texts]
        asked = [
            list(scorer.questions_of(row["id"], prompt_row(row)["prompt"], answers))
            for row, answers in zip(rows, lists, strict=True)
        ]
        labeller = member_of("labeller", self.labellers[LABELLER])
        judge = Judging(job, labeller, LABELLER, self.others, self.places)
        with job.ledger.phase("score"):
            said = iter(judge.rank(list(itertools.chain.from_iterable(asked))))
        ranks = [[next(said) for _ in questions] for questions in asked]
        roles = answers_in(job.spec["inputs"])
        with job.ledger.phase("write"), (job.folder / STANDINGS).open("w") as file:
            for row, answers, several, of in zip(rows, lists, ranks, texts, strict=True):
                standings = scorer.standings(row["id"], answers, several, of)
                about = {"example_id": row["id"], "cluster": row["cluster"]}
                for role, one in zip(roles, standings, strict=True):
                    file.write(json.dumps({**about, "of": role, **asdict(one)}) + "\n")
        if judge.figures:
            job.provenance["scorer"] = {LABELLER: judge.figures}
        missing = sum(any(isinstance(one, str) for one in several) for several in ranks)
        return {"prompts": len(rows), "answers": len(roles), "missing": missing}


def _answers(job: Job) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """The rows that were answered, and the answers of all variants to each.

    Raises:
        StageFailed: they are not answers to the same rows.
    """
    roles = answers_in(job.spec["inputs"])
    rows = asked_rows(read_rows(job.input(DATA)), job.input_record(roles[0]).config)
    texts = []
    for role in roles:
        said = read_predictions(job.input(role))
        if [one.example_id for one in said] != [row["id"] for row in rows]:
            raise StageFailed("input changed", f"{role} and {DATA} are not of the same examples")
        texts.append([one.text for one in said])
    return rows, [list(of) for of in zip(*texts, strict=True)]
