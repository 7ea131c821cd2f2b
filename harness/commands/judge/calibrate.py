"""`harness judge calibrate`: how well a suite's judge agrees with labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.commands.judge import tables
from harness.commands.judge.asking import compared
from harness.commands.judge.pairs import answers_of, data_pairs, triples
from harness.commands.session import Opened
from harness.comparison.calibration import JudgedPair, credentials
from harness.comparison.judged_verdicts import Said, said_in, said_of, won_in
from harness.comparison.kept_credentials import keep
from harness.comparison.powered_rates import powered_rate
from harness.comparison.result import PoweredRate
from harness.core.errors import HarnessError, SuiteError
from harness.data.cells import content
from harness.data.judge_labels import Label, Pair, digest_labels, read_labels
from harness.data.preference_rule import Rule, find_rule, load_rule
from harness.data.render import prompt_row
from harness.planning.duels import duels
from harness.planning.judging import Judged, judge_called
from harness.scheduling.schedule import Reporter
from harness.stages.score import Score

TRUTH = "rule"
"""Who gives the labels of the suite's own rule."""


@dataclass(frozen=True)
class Asked:
    """What a judge is held against.

    Attributes:
        source: where the labels come from, for people.
    """

    labels: Sequence[Label]
    source: str


def calibrate(
    opened: Opened,
    *,
    judge: str | None = None,
    labels: Path | None = None,
    rule: str | None = None,
    entry: str | None = None,
    count: int = 200,
    runs: int = 2,
    seed: int = 0,
    precision: float = 0.05,
    reporter: Reporter | None = None,
) -> str:
    """Run the suite's judge over labelled pairs, keep its credentials, and return their table.

    Args:
        judge: its name, where the suite has several.
        labels: a file of labels; by default the suite's own rule labels its answers.
        rule: `FILE.py:FUNCTION`, in place of the suite's own.
        entry: hold it to the chosen and rejected answers of this data entry.
        count: how many pairs are drawn, if no file of labels is given.
        runs: independent runs of the judge, for its repeatability.
        precision: half the width of the interval that the table says how many labels reach.

    Raises:
        HarnessError: there are no labels, or answers are not there yet.
        StageFailed: the judge failed.
    """
    judged = judge_called(opened.plan, judge)
    asked = _asked(opened, judged, labels, rule, entry, count, seed)
    pairs = list({label.pair.id: label.pair for label in asked.labels}.values())
    by_pair = _by_pair(asked.labels)
    stages = compared(opened, judged, pairs, runs, reporter)
    said = [said_in(stage, opened.store) for stage in stages]
    rated = {name: said_in(stages[0], opened.store, name) for name in judged.dimensions}
    held = [_compared(pair, by_pair[pair.id], said, rated) for pair in pairs]
    made = credentials(judge or judged.name, asked.source, held, precision)
    made = made.model_copy(update={"rates": _rates(opened, judged, asked.labels)})
    path = keep(opened.store.root, judged.identity, digest_labels(asked.labels), made)
    return f"{tables.credentials_table(made)}\n\nkept for the report: {path}"


def _asked(
    opened: Opened, judged: Judged, labels: Path | None, rule: str | None, entry: str | None,
    count: int, seed: int,
) -> Asked:  # fmt: skip
    if labels is not None:
        return Asked(read_labels(labels), labels.name)
    found = _rule(opened, rule)
    if entry is not None:
        drawn = list(data_pairs(opened, entry, count, seed))
        if rule is None:
            return Asked([Label(p, s, "data") for _, p, s in drawn], f"chosen answers of {entry}")
        assert found is not None
        return Asked(_by_rule(found, [(row, pair) for row, pair, _ in drawn]), found.name)
    if found is None:
        raise SuiteError(
            "nothing says which answers are better",
            where=str(opened.plan.file),
            fix="give --labels FILE (`harness judge label` makes one), --rule FILE.py:FUNCTION, or"
            " --data ENTRY with chosen and rejected answers",
        )
    return Asked(_by_rule(found, triples(opened, judged, count, seed)), found.name)


@dataclass(frozen=True)
class _Named:
    name: str
    rule: Rule = field(repr=False)


def _rule(opened: Opened, named: str | None) -> _Named | None:
    """The rule that is named, else that of the suite's scorers; None if there is none."""
    if named is not None:
        file, identity = find_rule(
            named, opened.loaded.path, opened.store.file_digest, "--rule"
        )  # fmt: skip
        return _Named(named, load_rule(Path(file), identity))
    for path in opened.plan.paths:
        for scored in path.scores:
            if scored.stage.kind != "score":
                continue
            config = Score.of(scored.stage)
            if "rule" in config.rules:
                file, identity = config.rules["rule"], config.scorer["rule"]
                title = f"{Path(file).name}:{identity['function']}"
                return _Named(title, load_rule(Path(file), identity))
    return None


def _by_rule(named: _Named, drawn: Iterable[tuple[Mapping[str, Any], Pair]]) -> list[Label]:
    """A label of each pair that the rule knows."""
    labels = []
    for row, pair in drawn:
        known = named.rule(row, content(pair.one), content(pair.other))
        if known is not None:
            labels.append(Label(pair, known, TRUTH))
    if not labels:
        raise SuiteError(
            f"{named.name} knows none of these answers",
            fix="name another --rule, or --data ENTRY with rows that it knows",
        )
    return labels


def _by_pair(labels: Sequence[Label]) -> dict[str, dict[str, dict[str, int]]]:
    """Id of a pair -> dimension -> labeller -> sign."""
    by_pair: dict[str, dict[str, dict[str, int]]] = {}
    for label in labels:
        by_dimension = by_pair.setdefault(label.pair.id, {})
        by_dimension.setdefault(label.dimension, {})[label.labeller] = label.sign
    return by_pair


Labels = Mapping[str, Mapping[str, int]]


def _compared(
    pair: Pair,
    labels: Labels,
    said: Sequence[Mapping[str, Said]],
    rated: Mapping[str, Mapping[str, Said]],
) -> JudgedPair:
    first = said[0][pair.id]
    return JudgedPair(
        pair.row, labels, tuple(run[pair.id].sign for run in said), _orders(first), first.lengths,
        first.compared.asked, _names(pair),
        {name: of_dimension[pair.id].sign for name, of_dimension in rated.items()},
    )  # fmt: skip


def _names(pair: Pair) -> tuple[str, str, str]:
    """Of the prompt and of both answers, for triples."""
    return pair.example_id, content(pair.one).strip(), content(pair.other).strip()


def _orders(said: Said) -> tuple[float, float] | None:
    known = said.compared.known
    return (known[0], known[1]) if len(known) == 2 else None


def _rates(opened: Opened, judged: Judged, labels: Sequence[Label]) -> list[PoweredRate]:
    """The win rates of the suite whose answers were labelled, with the judge's error in them.

    A label is of two answers, not of a row alone: another evaluation may have rows of the same
    ids, and a variant that was trained anew gives other answers.
    """
    rates = []
    for duel in duels(opened.plan, judged):
        said = said_of(duel, opened.store)
        if not won_in(said):
            continue
        try:
            rows, ones, others = answers_of(opened, duel)
        except HarnessError:  # the answers are gone, and nothing tells what the labels are of
            continue
        both = {name: (ones[name].strip(), others[name].strip()) for name in ones.keys() & others}
        asked = {name: prompt_row(rows[name])["prompt"] for name in both if name in rows}
        rate = powered_rate(
            duel.one, duel.other, duel.evaluation, won_in(said),
            _meant(asked, both, labels), duel.stage.key,
            equal=[name for name, (one, other) in both.items() if one == other],
            clusters={name: one.cluster for name, one in said.items()},
        )  # fmt: skip
        if rate is not None:
            rates.append(rate)
    return rates


def _meant(
    asked: Mapping[str, Any], both: Mapping[str, tuple[str, str]], labels: Sequence[Label]
) -> dict[str, float]:
    """Example -> how often its labels prefer the first of both answers, half for a tie. A label is
    of two texts: it holds for every variant that gave one of them.

    Args:
        asked: example -> its prompt. both: example -> both answers.
    """
    shares: dict[str, list[float]] = {}
    for label in labels:
        pair, name = label.pair, label.pair.example_id
        if label.dimension or name not in both or asked.get(name) != pair.prompt:
            continue
        texts = content(pair.one).strip(), content(pair.other).strip()
        if both[name] == texts:
            shares.setdefault(name, []).append((1 + label.sign) / 2)
        elif both[name] == texts[::-1]:
            shares.setdefault(name, []).append((1 - label.sign) / 2)
    return {name: sum(of_name) / len(of_name) for name, of_name in shares.items()}
