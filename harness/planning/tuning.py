"""Plans the trials of a cell on validation rows, and the stage that selects the best of them.

All that is read here are records of trials' score stages; their rows are validation rows, and a
suite whose validation rows are also its test rows is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.core.errors import SuiteError, unknown
from harness.core.files import digest_json
from harness.planning.graph import Trial, Tuning
from harness.planning.unmeasured import how_to_measure
from harness.scorers.base import Scorer
from harness.stages.select import Select, Tried
from harness.store.stage import Record, Resources, Stage
from harness.suite.tune import Range, Settings, Tune, propose
from harness.variants.settings import with_settings
from harness.variants.steps import Trained
from harness.variants.variant import Cell


@dataclass(frozen=True)
class Judge:
    """The metric that trials are judged by.

    Attributes:
        scorer: position in the suite's scorers.
        metric: its name among that scorer's metrics.
        data: the data entry whose validation rows are scored; None: the entry that the cell trains
            on.
    """

    scorer: int
    metric: str
    data: str | None
    higher_is_better: bool


def judge_of(tune: Tune, scorers: Sequence[Scorer], entries: Mapping[str, Any]) -> Judge:
    """The scorer of `tune.metric`. The metric is named as its column in a report.

    Raises:
        SuiteError: no scorer of the suite has such a metric, or no data entry is called so; several
            scorers have it, on other rows or set otherwise.
    """
    known: dict[str, list[Judge]] = {}
    for index, scorer in enumerate(scorers):
        label = scorer.label
        metrics = scorer.declared()
        for name, metric in metrics.items():
            title = name if label is None else label if len(metrics) == 1 else None
            entry = tune.data or scorer.data
            judge = Judge(index, name, entry, metric.higher_is_better)
            known.setdefault(title or f"{label} {name}", []).append(judge)
    if tune.metric not in known:
        hint = "metrics of the suite's `scorers:`"
        if any(scorer.sets() for scorer in scorers):
            hint += "; benchmarks judge no trials, as they have no validation rows"
        here = how_to_measure(tune.metric, known)
        message = unknown("metric", tune.metric, known, hint=hint, here=here)
        raise SuiteError(message, where="tune.metric")
    if tune.data is not None and tune.data not in entries:
        raise SuiteError(unknown("data", tune.data, entries), where="tune.data")
    judges = known[tune.metric]
    named = [judge for judge in judges if scorers[judge.scorer].data == tune.data]
    judges = named if tune.data is not None and named else judges
    # Two that measure alike on the same rows are one judge.
    asked = {(judge.data, digest_json(scorers[judge.scorer].identity())) for judge in judges}
    if len(asked) > 1:
        places = ", ".join(
            f"scorers[{judge.scorer}] on {f'data.{judge.data}' if judge.data else 'the own rows'}"
            for judge in judges
        )
        raise SuiteError(
            f"'{tune.metric}' is the metric of several: {places}",
            where="tune.metric",
            fix="say which rows judge (`tune.data`), or give one of the scorers a `label:`",
        )
    return judges[0]


def untuned_starts(tune: Tune, trainings: Iterable[tuple[Cell, Trained]]) -> tuple[str, ...]:
    """A warning for each field that `tune.space` varies and that is fixed in what a tuned variant
    goes on from: an SFT before DPO keeps the rate that the suite gives it.

    Args:
        trainings: each tuned cell with a training that stands before its last.
    """
    fixed: dict[tuple[str, str, Any], list[str]] = {}
    for cell, step in trainings:
        for key in tune.space:
            name, _, option = key.partition(".")
            if name == step.objective.name:
                value = getattr(step.objective, option)
                fixed.setdefault((key, step.group, value), []).append(cell.group)
    return tuple(
        f"{', '.join(dict.fromkeys(groups))}: the trials do not choose {key} of {start}, which is"
        f" trained before, or beside, at {value}: set it by `overrides:`"
        for (key, start, value), groups in fixed.items()
    )


def tuned(cell: Cell, settings: Settings) -> Cell:
    """The cell with a trial's settings."""
    method = with_settings(cell.method, settings, "tune.space")
    objective = with_settings(cell.recipe.objective, settings, "tune.space")
    return replace(cell, method=method, recipe=replace(cell.recipe, objective=objective))


def plan_tuning(
    tune: Tune,
    judge: Judge,
    cell: Cell,
    evaluation: str,
    score: Callable[[Cell], Stage],
    record: Callable[[Stage], Record | None],
    resources: Resources,
) -> Tuning:
    """The trials of a cell that are known so far; and the stage that selects the best, once all
    trials are known.

    Args:
        cell: with any seed.
        score: makes the score stage of a trained variant on the validation rows.
        record: a stage's record, where it has ended.

    Raises:
        SuiteError: the space holds nothing for this cell, or too little.
    """
    present = (cell.method.name, cell.recipe.objective.name)
    space = {key: c for key, c in tune.space.items() if key.split(".")[0] in present}
    if not space:
        raise SuiteError(
            f"nothing is tuned for {cell.group}: no entry names {' or '.join(present)}",
            where="tune.space",
            fix=f"add one, such as {present[1]}.learning_rate, or leave the cell out (`exclude:`)",
        )
    trials: list[Trial] = []
    while True:
        history = list(_history(trials, judge.metric, record))
        proposed = propose(tune, space, history, judge.higher_is_better)
        if len(proposed) == len(trials):
            break
        trials = [_trial(tune, cell, i, s, score) for i, s in enumerate(proposed, 1)]
    complete = len(trials) == tune.trials
    return Tuning(
        group=cell.group,
        metric=judge.metric,
        evaluation=evaluation,
        higher_is_better=judge.higher_is_better,
        total=tune.trials,
        trials=tuple(trials),
        select=_select(tune, judge, cell, trials, resources) if complete else None,
        logarithmic=tuple(k for k, c in space.items() if isinstance(c, Range) and c.log),
    )


def winner(tuning: Tuning, record: Callable[[Stage], Record | None]) -> Settings | None:
    """The settings that the select stage chose; None until it has run, or if all trials failed."""
    chosen = record(tuning.select) if tuning.select is not None else None
    if chosen is None or not chosen.ok:
        return None
    return dict(chosen.metrics["winner"]["set"])


def _trial(
    tune: Tune, cell: Cell, number: int, settings: Settings, score: Callable[[Cell], Stage]
) -> Trial:
    settled = tuned(cell, settings)
    several = len(tune.seeds) > 1
    scores = []
    for seed in tune.seeds:
        name = f"{cell.group} trial {number}" + (f"#{seed}" if several else "")
        scores.append(score(replace(settled, id=name, seed=seed)))
    return Trial(number, settings, tuple(scores))


def _select(
    tune: Tune,
    judge: Judge,
    cell: Cell,
    trials: Sequence[Trial],
    resources: Resources,
) -> Stage:
    tried = []
    for trial in trials:
        settled = tuned(cell, dict(trial.settings))
        objective = settled.recipe.objective
        config = {"method": settled.method.identity(), "objective": objective.identity()}
        tried.append(Tried(set=dict(trial.settings), config=config))
    select = Select(
        metric=judge.metric,
        higher_is_better=judge.higher_is_better,
        seeds=list(tune.seeds),
        trials=tried,
    )
    return select.stage(
        {
            f"trial-{trial.number}-seed-{seed}": stage
            for trial in trials
            for seed, stage in zip(tune.seeds, trial.scores, strict=True)
        },
        label=cell.group,
        resources=resources,
    )


def _history(
    trials: Sequence[Trial], metric: str, record: Callable[[Stage], Record | None]
) -> Iterator[float | None]:
    """Values of the trials that have ended, up to the first that has not; None for a failed
    trial."""
    for trial in trials:
        ended = [_ended(stage, record) for stage in trial.scores]
        if any(score is None for score in ended):
            return
        if not all(score is not None and score.ok for score in ended):
            yield None
            continue
        values = [score.metrics["metrics"][metric]["value"] for score in ended if score is not None]
        yield sum(values) / len(values)


def _ended(stage: Stage, record: Callable[[Stage], Record | None]) -> Record | None:
    """The stage's record, or the record of a failed stage that it depends on."""
    own_record = record(stage)
    if own_record is not None:
        return own_record
    before = (_ended(source, record) for source in stage.inputs.values())
    return next((r for r in before if r is not None and not r.ok), None)
