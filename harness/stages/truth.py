"""The truth stage: AI labels held against a rule of the suite that knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from harness.core.text import number_of
from harness.data.preference_rule import load_rule
from harness.stages._labels import agreement, agreements, outcome_of
from harness.stages.base import Job, NotHashed, StageKind
from harness.stages.label import VERDICTS
from harness.stages.sample import read_samples
from harness.store.stage import Record, Resources


class Truth(StageKind):
    """Labels held against a rule of the suite that knows."""

    VERSION = 1
    reads = {"labels": "label", "samples": "sample"}

    truth: dict[str, Any]
    """Identity of the rule: digest of its file, and its function."""
    file: Annotated[str, NotHashed]
    """Where that file lies."""

    def resources(self, asked: Resources) -> Resources:
        return asked.without_gpu()

    @classmethod
    def headline(cls, record: Record) -> str:
        return f"{number_of(record.metrics['pairs'], 'label')}{agreements(record.metrics)}"

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Write the verdicts with what the rule says of each pair; metrics are the labels'
        agreement with it."""
        tie = job.input_record("labels").config["label"]["tie"]
        with job.ledger.phase("truth"):
            rule = load_rule(Path(self.file), self.truth)
            asked = {row["id"]: _prompt(row) for row in read_samples(job.input("samples"))}
            text = (job.input("labels") / VERDICTS).read_text(encoding="utf-8")
            lines = [json.loads(line) for line in text.splitlines()]
            for line in lines:
                line["truth"] = rule(asked[line["id"]], line["one"], line["other"])
        with job.ledger.phase("write"), (job.folder / VERDICTS).open("w", encoding="utf-8") as out:
            for line in lines:
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
        agreed = agreement((outcome_of(line["verdict"], tie), line["truth"]) for line in lines)
        return {"pairs": len(lines), "agreement": {} if agreed is None else {"truth": agreed}}


def _prompt(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "answers"}
