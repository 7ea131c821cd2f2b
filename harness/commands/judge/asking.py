"""Asks a suite's judge about pairs of answers, through the store like any other work."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.commands.run import run_beside
from harness.commands.session import Opened
from harness.core.errors import StageFailed, SuiteError
from harness.core.files import digest_json, write_atomic
from harness.core.text import number_of
from harness.data.judge_labels import Pair, json_lines
from harness.data.render import prompt_row
from harness.planning.judging import Judged
from harness.scheduling.schedule import Reporter
from harness.stages.data import read_rows
from harness.store.stage import Stage

FOLDER = "judged_pairs"
"""Folder of the store for files of pairs, each named by its content."""


def compared(
    opened: Opened,
    judged: Judged,
    pairs: Iterable[Pair],
    runs: int = 1,
    reporter: Reporter | None = None,
) -> list[Stage]:
    """The stages in which the judge has said which answer of each pair is better, one for each of
    several independent runs.

    Raises:
        StageFailed: the judge, or what it reads, failed.
        SuiteError: it rates answers beside references, and the suite has none to some pair.
    """
    distinct = {pair.id: pair for pair in pairs}
    file = _written(opened, judged, list(distinct.values()))
    stages = [judged.contests(file, opened.store, repeat) for repeat in range(runs)]
    _tell_requests(opened, judged, stages, len(distinct))
    outcome = run_beside(opened, stages, reporter)
    causes = [r.error or {} for r in outcome.failed if not (r.error or {}).get("skipped")]
    for error in causes:
        raise StageFailed(error.get("reason", "error"), error.get("message", "a stage failed"))
    return stages


def _tell_requests(opened: Opened, judged: Judged, stages: Sequence[Stage], pairs: int) -> None:
    """Say how many requests a judge elsewhere may get, before it gets them."""
    asked = [stage for stage in stages if (r := opened.store.record(stage)) is None or not r.ok]
    if judged.labeller.calls_at_once() and asked:
        most = judged.questions * pairs * len(asked)
        places = "; ".join(judged.labeller.runs())
        print(f"note: {number_of(pairs, 'pair')}: up to {most:,} {places}", file=sys.stderr)


def _written(opened: Opened, judged: Judged, pairs: Sequence[Pair]) -> Path:
    rows = [{"id": p.id, "prompt": p.prompt, "one": p.one, "other": p.other} for p in pairs]
    if judged.reads_references:
        known = _references(opened)
        for row, pair in zip(rows, pairs, strict=True):
            row["reference"] = known.get(_asked(pair.prompt), "")
            if not row["reference"]:
                raise SuiteError(
                    f"'{judged.name}' rates answers beside a reference, and no test row of the"
                    f" suite has one to the prompt of pair '{pair.id}'",
                    fix="name pairs of this suite's rows, or rate without `reference: true`",
                )
    folder = opened.store.root / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{len(rows)}-pairs-{digest_json(rows)[:16]}.jsonl"
    write_atomic(path, json_lines(rows))
    return path


def _references(opened: Opened) -> dict[str, str]:
    """What is asked -> the first reference, of the suite's test rows."""
    references: dict[str, str] = {}
    for (_, split), stage in opened.plan.data.items():
        record = opened.store.record(stage) if split == "test" else None
        if record is not None and record.ok:
            for row in read_rows(stage.path(opened.store.root)):
                if row.get("references"):
                    prompt = prompt_row(row)["prompt"]
                    references.setdefault(_asked(prompt), row["references"][0])
    return references


def _asked(prompt: Any) -> str:
    """A prompt, whether it is a text or messages with more than a role and a text."""
    if isinstance(prompt, str):
        return prompt
    return digest_json([[turn.get("role"), turn.get("content")] for turn in prompt])
