"""The pairs of answers that a suite's judge is asked about, drawn by a seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.commands.session import Opened, run_command
from harness.core.errors import HarnessError, SuiteError, unknown
from harness.core.files import digest_json
from harness.data.cells import content
from harness.data.judge_labels import Pair
from harness.data.render import prompt_row
from harness.planning.duels import Duel, duels
from harness.planning.judging import Judged
from harness.stages._predictions import read_predictions
from harness.stages.data import read_rows
from harness.stages.score import PREDICTIONS, rows_of_stage
from harness.store.stage import Stage

_TOGETHER = 3
"""Answers to one prompt that `triples` compares with one another."""


def own_pairs(opened: Opened, judged: Judged, count: int, seed: int) -> list[Pair]:
    """Pairs that the judge decides in this suite: different prompts first, the variants by turns.

    Raises:
        HarnessError: the answers are not there yet.
        SuiteError: the judge compares no answers, or all of them are equal.
    """
    drawn = random.Random(seed)
    fought = [(duel, *answers_of(opened, duel)) for duel in duels(opened.plan, judged)]
    if not fought:
        raise SuiteError(
            f"the judge '{judged.name}' compares no answers of this suite",
            fix="add a scorer such as `- pairwise: {labeller: ...}`, or give --data or --labels",
        )
    examples = list(
        dict.fromkeys((d.evaluation, name) for d, rows, _, _ in fought for name in rows)
    )
    drawn.shuffle(examples)
    pairs: list[Pair] = []
    for turn in range(len(fought)):
        for number, (evaluation, name) in enumerate(examples):
            if len(pairs) == count:
                return pairs
            duel, rows, ones, others = fought[(number + turn) % len(fought)]
            if duel.evaluation == evaluation and name in ones and name in others:
                pairs += _pair(rows[name], duel.one, ones[name], duel.other, others[name])
    if not pairs:
        raise SuiteError("all answers that the judge compares are equal")
    return pairs


def triples(
    opened: Opened, judged: Judged, count: int, seed: int
) -> Iterator[tuple[Mapping[str, Any], Pair]]:
    """(row, pair): every two of up to three different answers to a prompt, so that verdicts can be
    held to a ranking, for prompts that are drawn until there are `count` pairs.

    Raises:
        As `own_pairs`.
    """
    drawn = random.Random(seed)
    answers: dict[tuple[str, str], dict[str, str]] = {}
    rows: dict[tuple[str, str], Mapping[str, Any]] = {}
    for duel in duels(opened.plan, judged):
        by_id, ones, others = answers_of(opened, duel)
        for name in by_id:
            rows[duel.evaluation, name] = by_id[name]
            said = answers.setdefault((duel.evaluation, name), {})
            said.update(
                {w: t[name] for w, t in ((duel.one, ones), (duel.other, others)) if name in t}
            )
    if not answers:
        own_pairs(opened, judged, count, seed)  # says why
    places, made = list(answers), 0
    drawn.shuffle(places)
    for place in places:
        different = {text.strip(): whose for whose, text in sorted(answers[place].items())}
        chosen = drawn.sample(sorted(different), min(_TOGETHER, len(different)))
        for one, other in itertools.combinations(chosen, 2):
            if made == count:
                return
            made += 1
            (pair,) = _pair(rows[place], different[one], one, different[other], other)
            yield rows[place], pair


def data_pairs(
    opened: Opened, entry: str, count: int, seed: int
) -> Iterator[tuple[Mapping[str, Any], Pair, int]]:
    """(row, pair, sign): the chosen and the rejected answer of test rows, in an order that is
    drawn, and 1 where the chosen one stands first.

    Raises:
        SuiteError: there is no such entry, or it holds no preferences.
        HarnessError: its rows are not there yet.
    """
    if entry not in opened.plan.suite.data:
        raise SuiteError(unknown("data entry", entry, opened.plan.suite.data), where="--data")
    stage = opened.plan.data.get((entry, "test"))
    if stage is None:
        raise SuiteError(
            f"data.{entry} has no test rows that this suite uses",
            where="--data", fix="name it under `evaluate:`",
        )  # fmt: skip
    _require(opened, [stage])
    rows = [row for row in read_rows(stage.path(opened.store.root)) if "rejected" in row]
    if not rows:
        raise SuiteError(
            f"data.{entry} holds no preferences", where="--data",
            fix="name an entry whose test rows have a chosen and a rejected answer",
        )  # fmt: skip
    drawn = random.Random(seed)
    for row in drawn.sample(rows, min(count, len(rows))):
        sides = [("chosen", content(row["chosen"])), ("rejected", content(row["rejected"]))]
        first = drawn.random() < 0.5
        (one, a), (other, b) = sides if first else sides[::-1]
        for pair in _pair(row, one, a, other, b):
            yield row, pair, 1 if first else -1


Texts = Mapping[str, str]


def answers_of(opened: Opened, duel: Duel) -> tuple[dict[str, dict[str, Any]], Texts, Texts]:
    """Example id -> row, the variant's answer, and the other answer."""
    stage, others = duel.stage, duel.others
    data = rows_of_stage(stage)
    assert data is not None, "a scorer of answers has rows"
    needed = [data, stage.inputs[PREDICTIONS], *([] if others is None else [others])]
    _require(opened, needed)
    root = opened.store.root
    rows = {row["id"]: row for row in read_rows(data.path(root))}
    said = read_predictions(stage.inputs[PREDICTIONS].path(root))
    ones = {answer.example_id: answer.text for answer in said}
    if others is None:
        references = {a.example_id: a.references[0] for a in said if a.references}
        return rows, ones, references
    return rows, ones, {a.example_id: a.text for a in read_predictions(others.path(root))}


def _require(opened: Opened, stages: Sequence[Stage]) -> None:
    for stage in stages:
        record = opened.store.record(stage)
        if record is None or not record.ok or not opened.store.intact(stage, record):
            raise HarnessError(
                f"{stage.kind} {stage.label} has not run", fix=f"run {run_command(opened)}"
            )


def _pair(row: Mapping[str, Any], one_is: str, one: str, other_is: str, other: str) -> list[Pair]:
    """The pair, unless both answers say the same."""
    if one.strip() == other.strip():
        return []
    prompt = prompt_row(row)["prompt"]
    name = digest_json([row["id"], prompt, one_is, other_is, one, other])[:16]
    first, second = (answer_like(prompt, text) for text in (one, other))
    return [Pair(name, prompt, first, second, str(row["id"]), one_is, other_is)]


def answer_like(prompt: Any, text: str) -> Any:
    """An answer in the form of its prompt: a string, or a list of one message."""
    return text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
