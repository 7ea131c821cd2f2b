"""The truth stage: AI labels held against a rule of the suite that knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.data.preference_rule import load_rule
from harness.stages._labels import agreement, outcome_of
from harness.stages.base import Job
from harness.stages.label import VERDICTS
from harness.stages.sample import read_samples


def run(job: Job) -> dict[str, Any]:
    """What the rule says of each pair that was labelled stands beside the verdict in the written
    lines; metrics are the labels' agreement with it."""
    tie = job.input_record("labels").config["label"]["tie"]
    with job.ledger.phase("truth"):
        rule = load_rule(Path(job.locators["truth"]), job.config["truth"])
        asked = {row["id"]: _prompt(row) for row in read_samples(job.input("samples"))}
        text = (job.input("labels") / VERDICTS).read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        for line in lines:
            line["truth"] = rule(asked[line["id"]], line["one"], line["other"])
    with job.ledger.phase("write"), (job.folder / VERDICTS).open("w", encoding="utf-8") as out:
        for line in lines:
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
    found = agreement((outcome_of(line["verdict"], tie), line["truth"]) for line in lines)
    return {"pairs": len(lines), "agreement": {} if found is None else {"truth": found}}


def _prompt(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "answers"}
