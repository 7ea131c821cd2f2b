"""Asks a suite's judge about pairs of answers, through the store like any other work."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.commands.run import run_beside
from harness.commands.session import Opened
from harness.comparison.judged_verdicts import Said, said_in
from harness.core.errors import StageFailed
from harness.core.files import digest_json, write_atomic
from harness.data.judge_labels import Pair, json_lines
from harness.planning.judging import Judged
from harness.scheduling.schedule import Reporter
from harness.store.stage import Stage
from harness.store.store import Store

FOLDER = "judged_pairs"
"""Folder of the store for files of pairs, each named by its content."""


def compared(
    opened: Opened,
    judged: Judged,
    pairs: Iterable[Pair],
    runs: int = 1,
    reporter: Reporter | None = None,
) -> list[dict[str, Said]]:
    """What the judge says of each pair, by its id, in each of several independent runs.

    Raises:
        StageFailed: the judge, or what it reads, failed.
    """
    distinct = {pair.id: pair for pair in pairs}
    file = _written(opened.store, list(distinct.values()))
    stages = [judged.contests(file, opened.store, repeat) for repeat in range(runs)]
    _tell_requests(opened, judged, stages, len(distinct))
    outcome = run_beside(opened, stages, reporter)
    causes = [r.error or {} for r in outcome.failed if not (r.error or {}).get("skipped")]
    for error in causes:
        raise StageFailed(error.get("reason", "error"), error.get("message", "a stage failed"))
    return [said_in(stage, opened.store) for stage in stages]


def _tell_requests(opened: Opened, judged: Judged, stages: Sequence[Stage], pairs: int) -> None:
    """Say how many requests a judge elsewhere may get, before it gets them."""
    asked = [stage for stage in stages if (r := opened.store.record(stage)) is None or not r.ok]
    if judged.labeller.calls_at_once() and asked:
        most = 2 * pairs * len(asked)
        places = "; ".join(judged.labeller.runs())
        print(f"note: {pairs} pairs: up to {most:,} {places}", file=sys.stderr)


def _written(store: Store, pairs: Sequence[Pair]) -> Path:
    rows = [{"id": p.id, "prompt": p.prompt, "one": p.one, "other": p.other} for p in pairs]
    folder = store.root / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{len(rows)}-pairs-{digest_json(rows)[:16]}.jsonl"
    write_atomic(path, json_lines(rows))
    return path
