"""The label stage: an AI labeller compares a policy's answers; its labels are rows to train on."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from harness.core.errors import DataError
from harness.core.text import number_of
from harness.data.cells import content
from harness.data.row import RowDict
from harness.labellers.base import Contest, LabelJob, Verdict
from harness.stages._labelling import Labelling, labellers_model
from harness.stages._labels import Outcome, outcome_of, ranked_rows, usable
from harness.stages.base import Job, Known
from harness.stages.data import write_rows
from harness.stages.sample import Sample, read_samples
from harness.store.stage import Record, Stage

VERDICTS = "verdicts.jsonl"
"""Each comparison of two sampled answers, with what the labeller says of it."""
Contested = tuple[int, int, int]
"""Place of a prompt, and of two of its answers."""


class LabelOptions(BaseModel):
    """What becomes of answers and verdicts."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    unfinished: str
    """`drop`: answers that were cut are compared with no other; `keep`."""
    tie: float
    """A preference of at most so much from one half is a tie."""


class Label(Labelling):
    """Verdicts of an AI labeller on a policy's answers, as rows to train on."""

    VERSION = 3
    reads = {"samples": "sample", "*": "train"}

    label: LabelOptions

    def expected(self, known: Known, inputs: Mapping[str, Stage]) -> dict[str, float]:
        """Of the calls, or of the forward passes over a prompt and two answers."""
        sample = Sample.of(inputs["samples"]).sample
        return self.reading(known, sample.samples, sample.prompts, sample.max_new_tokens)

    @classmethod
    def headline(cls, record: Record) -> str:
        return (
            f"{number_of(record.metrics['pairs'], 'pair')},"
            f" {number_of(record.metrics['ties'], 'tie')}"
        )

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Compare every two answers to each prompt; metrics are counts, what was left out, and
        why.

        What is known of the answers has no part in it: the stages check and truth hold labels
        against it, so that no label is asked for again when more is known."""
        options = self.label
        dropped: Counter[str] = Counter()
        with job.ledger.phase("load"):
            model, tokenizer = labellers_model(job)
            sampled = read_samples(job.input("samples"))
            asked = [_prompt(row) for row in sampled]
            answers = [
                [_shaped(row, text) for text in usable(row["answers"], options.unfinished, dropped)]
                for row in sampled
            ]
            places: list[Contested] = [
                (row, i, j)
                for row, texts in enumerate(answers)
                for i, j in itertools.combinations(range(len(texts)), 2)
            ]
        contests = [Contest(asked[r]["prompt"], answers[r][i], answers[r][j]) for r, i, j in places]
        with job.ledger.phase("label"):
            work = LabelJob(contests, job.progress, job.replies, model, tokenizer)
            verdicts = self.labeller.label(work)
        outcomes = [outcome_of(verdict, options.tie) for verdict in verdicts]
        with job.ledger.phase("write"):
            _write_verdicts(job.folder / VERDICTS, asked, places, contests, verdicts)
            rows, prompts = _rows(asked, answers, places, outcomes)
            unlabelled = Counter(v for v in verdicts if isinstance(v, str))
            if not rows:
                raise DataError(_nothing_left(answers=dropped, prompts=prompts, pairs=unlabelled))
            written = write_rows(job.folder, rows)
        job.cost.update(work.cost)
        return {
            **written,
            "dropped": dict(prompts),
            "answers_dropped": dict(dropped),
            "pairs": sum(outcome is not None for outcome in outcomes),
            "ties": outcomes.count(0),
            "unlabelled": dict(unlabelled),
            "labeller": dict(work.figures),
        }


def _prompt(row: Mapping[str, Any]) -> RowDict:
    return {name: value for name, value in row.items() if name != "answers"}


def _shaped(row: Mapping[str, Any], text: str) -> Any:
    """An answer in the form of its prompt: a string, or a list of one message."""
    return text if isinstance(row["prompt"], str) else [{"role": "assistant", "content": text}]


def _rows(
    asked: Sequence[RowDict],
    answers: Sequence[Sequence[Any]],
    places: Sequence[Contested],
    outcomes: Sequence[Outcome],
) -> tuple[list[RowDict], Counter[str]]:
    """Rows to train on, and reason -> prompts that give none."""
    by_prompt: dict[int, dict[tuple[int, int], Outcome]] = {}
    for (prompt, i, j), outcome in zip(places, outcomes, strict=True):
        by_prompt.setdefault(prompt, {})[i, j] = outcome
    rows, dropped = list[RowDict](), Counter[str]()
    for number, row in enumerate(asked):
        verdicts = by_prompt.get(number, {})
        ranked = ranked_rows(row, answers[number], verdicts) if verdicts else []
        rows += ranked
        if not verdicts:
            dropped["fewer than two answers"] += 1
        elif not ranked:
            unknown = all(outcome is None for outcome in verdicts.values())
            dropped["no label" if unknown else "no answer is better"] += 1
    return rows, dropped


def _write_verdicts(
    path: Path,
    asked: Sequence[RowDict],
    places: Sequence[Contested],
    contests: Sequence[Contest],
    verdicts: Sequence[Verdict],
) -> None:
    with path.open("w", encoding="utf-8") as handle:
        for (row, _, _), contest, verdict in zip(places, contests, verdicts, strict=True):
            sides = {"one": content(contest.one), "other": content(contest.other)}
            line = {"id": asked[row]["id"], **sides, "verdict": verdict}
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")


def _nothing_left(**counts: Counter[str]) -> str:
    reasons = [
        f"{n} {what}: {reason}" for what, counted in counts.items() for reason, n in counted.items()
    ]
    return f"no label is left to train on ({'; '.join(reasons)})"
