"""The check stage: an AI labeller on preferences that are known already, those of the rows."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from harness.labellers.base import Contest, LabelJob
from harness.stages._labelling import labeller_of, labellers_model
from harness.stages._labels import agreement, outcome_of, reference_pairs
from harness.stages.base import Job
from harness.stages.data import read_rows


def run(job: Job) -> dict[str, Any]:
    """Label some of the rows' own preferences; metrics are counts and the agreement with them, and
    whether the labeller was trained on these rows, which the plan knows."""
    labeller = labeller_of(job)
    with job.ledger.phase("load"):
        known = _known_pairs(job)
        model, tokenizer = labellers_model(job, labeller) if known else (None, None)
    with job.ledger.phase("label"):
        work = LabelJob(known, job.progress, job.work, model, tokenizer)
        verdicts = labeller.label(work) if known else []
    outcomes = [outcome_of(verdict, job.config["tie"]) for verdict in verdicts]
    found = agreement((outcome, 1) for outcome in outcomes)
    job.cost.update(work.cost)
    return {
        "pairs": sum(outcome is not None for outcome in outcomes),
        "unlabelled": dict(Counter(v for v in verdicts if isinstance(v, str))),
        "agreement": {} if found is None else {"rows": {**found, "seen": job.config["seen"]}},
        "labeller": dict(work.figures),
    }


def _known_pairs(job: Job) -> list[Contest]:
    """As many as are asked of the preferences that the rows hold, the better answer first."""
    rows, count = read_rows(job.input("data")), job.config["check"]
    pairs = [Contest(row["prompt"], *pair) for row in rows for pair in reference_pairs(row)]
    if len(pairs) > count:
        pairs = random.Random("pairs that check a labeller").sample(pairs, count)
    return pairs
