"""The check stage: an AI labeller on preferences that are known already, those of the rows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

from harness.core.text import number_of
from harness.labellers.base import Contest, LabelJob
from harness.stages._labelling import Labelling, labellers_model
from harness.stages._labels import agreement, agreements, outcome_of, reference_pairs
from harness.stages.base import Job, Known
from harness.stages.data import read_rows
from harness.store.stage import Record, Stage


class Check(Labelling):
    """A labeller's verdicts on preferences that the rows hold."""

    VERSION = 1
    reads = {"data": "data", "*": "train"}
    long = False

    check: int
    """How many preferences are labelled, at most."""
    tie: float
    """A preference of at most so much from one half is a tie."""
    seen: bool
    """True if the labeller was trained on these rows."""

    def expected(self, known: Known, inputs: Mapping[str, Stage]) -> dict[str, float]:
        """Of the calls, or of the forward passes over a prompt and two answers."""
        return self.reading(known, 2, self.check, 0)

    @classmethod
    def headline(cls, record: Record) -> str:
        return f"{number_of(record.metrics['pairs'], 'label')}{agreements(record.metrics)}"

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Label some of the rows' own preferences; metrics are counts and the agreement with them,
        and whether the labeller was trained on these rows, which the plan knows."""
        with job.ledger.phase("load"):
            known = self._pairs(read_rows(job.input("data")))
            model, tokenizer = labellers_model(job) if known else (None, None)
        with job.ledger.phase("label"):
            work = LabelJob(known, job.progress, job.replies, model, tokenizer)
            verdicts = self.labeller.label(work) if known else []
        outcomes = [outcome_of(verdict, self.tie) for verdict in verdicts]
        agreed = agreement((outcome, 1) for outcome in outcomes)
        job.cost.update(work.cost)
        return {
            "pairs": sum(outcome is not None for outcome in outcomes),
            "unlabelled": dict(Counter(v for v in verdicts if isinstance(v, str))),
            "agreement": {} if agreed is None else {"rows": {**agreed, "seen": self.seen}},
            "labeller": dict(work.figures),
        }

    def _pairs(self, rows: list[dict[str, Any]]) -> list[Contest]:
        """As many as are asked of the preferences that the rows hold, the better answer first."""
        pairs = [Contest(row["prompt"], *pair) for row in rows for pair in reference_pairs(row)]
        if len(pairs) > self.check:
            pairs = random.Random("pairs that check a labeller").sample(pairs, self.check)
        return pairs
