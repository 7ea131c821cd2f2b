"""The parts of a plan: the paths of variants through stages, the trials, and the whole graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.data.lengths import Beyond, Overlong, Refused, Unfit
from harness.executors.base import Executor
from harness.models.files import ModelInfo
from harness.planning.claims import PlannedClaim
from harness.scorers.base import Scorer
from harness.store.stage import Stage
from harness.suite.suite import Suite
from harness.variants.variant import Cell, Merged, Variant


@dataclass(frozen=True)
class Scored:
    """A score stage of a variant: which scorer, on which data entry, under which name.

    Attributes:
        shows: what the scorer says of an aligned variant, as it declares.
        forgetting: whether it tells of what is forgotten, where the suite says so.
    """

    stage: Stage
    scorer: str
    evaluation: str
    label: str | None
    shows: str = ""
    forgetting: bool | None = None


@dataclass(frozen=True)
class Trial:
    """One configuration tried for a cell.

    Attributes:
        settings: `component.field` -> value.
        scores: score stages on validation rows, one for each tuning seed.
    """

    number: int
    settings: Mapping[str, Any]
    scores: tuple[Stage, ...]


@dataclass(frozen=True)
class Tuning:
    """The trials of a cell, which its seeds share, and the stage that chooses among them.

    Attributes:
        evaluation: data entry whose validation rows judge.
        trials: those known by now; a search that learns asks for more once these have ended.
        select: None until all trials are known.
        logarithmic: fields whose range is spread over the logarithm.
    """

    group: str
    metric: str
    evaluation: str
    higher_is_better: bool
    total: int
    trials: tuple[Trial, ...]
    select: Stage | None
    logarithmic: tuple[str, ...] = ()

    def targets(self) -> Iterator[Stage]:
        """The stages that must end before more can be planned."""
        if self.select is not None:
            yield self.select
        else:
            yield from (score for trial in self.trials for score in trial.scores)


@dataclass(frozen=True)
class VariantPath:
    """A variant's path through the stages.

    Attributes:
        train: its training stage; for a checkpoint trained elsewhere, the stage that checks it.
        tuning: where its hyper-parameters come from; None when the suite gives them.
        draft: while they are not chosen yet: the path as it would be without tuning, for what can
            be checked of it (its rows, its pairs). The path itself has no stages then.
        start: the path of the checkpoint that its last training stage goes on from, scored as it is
            itself; None where that is the base. Its stages are not this variant's own.
    """

    variant: Variant
    train: Stage | None
    generate: Mapping[str, Stage]
    scores: tuple[Scored, ...]
    tuning: Tuning | None = None
    draft: VariantPath | None = None
    start: VariantPath | None = None

    def results(self) -> Iterator[Stage]:
        """The stages that a report reads."""
        yield from self.generate.values()
        yield from (scored.stage for scored in self.scores)
        if self.train is not None:
            yield self.train

    def stages(self) -> list[Stage]:
        """All stages that its results depend on, each once, including shared ones."""
        return list(_closure(self.results()))

    def work(self) -> list[Stage]:
        """Its stages, and those of the trials that chose its hyper-parameters."""
        trials = self.tuning.trials if self.tuning is not None else ()
        scores = (score for trial in trials for score in trial.scores)
        return list(_closure([*self.results(), *scores]))


@dataclass(frozen=True)
class Plan:
    """What a suite asks for."""

    suite: Suite
    file: Path
    text: str
    baseline: str
    executor: Executor
    paths: tuple[VariantPath, ...]
    data: Mapping[tuple[str, str], Stage]
    contamination: tuple[Stage, ...]
    models: Mapping[str, ModelInfo] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    """Possible mistakes that cannot be checked."""
    judges: tuple[Cell, ...] = ()
    """Reward models that score answers, each with its recipe."""
    lengths: tuple[Stage, ...] = ()
    """Stages that measure rows. They run with the data stages, and the plan is checked by them."""
    prepared: tuple[Stage, ...] = ()
    """Stages of what scorers prepare. They need no model and run with the data stages."""
    unfit: Mapping[tuple[str, str], Unfit] = field(default_factory=dict)
    """(data entry, split) -> rows that some variant cannot answer; known once they are measured."""
    beyond: tuple[Beyond, ...] = ()
    """Models whose tokenizers give some rows tokens that their embeddings do not have."""
    untrained: tuple[Overlong | Refused, ...] = ()
    """Rows that cannot be trained on as they are; known once they are measured."""
    checks: Mapping[str, tuple[Stage, ...]] = field(default_factory=dict)
    """Key of a label stage -> the stages that compare its labels with known preferences."""
    baselines: Mapping[str, str] = field(default_factory=dict)
    """Group -> the group that it is compared with, if not all are compared with `baseline`."""

    claims: tuple[PlannedClaim, ...] = ()
    """What the suite claims, of the variants that are run."""
    scorers: tuple[Scorer, ...] = ()
    """Those of the suite, in its order, as they were resolved."""

    def groundwork(self) -> list[Stage]:
        """The stages that run before all others: data, the lengths of rows, and what scorers
        prepare."""
        return list(_closure([*self.data.values(), *self.lengths, *self.prepared]))

    def stages(self) -> list[Stage]:
        """Every stage once, inputs before what needs them, in the variants' order."""
        return list(_closure(self.targets()))

    def targets(self) -> Iterator[Stage]:
        """The stages that a run must bring to an end."""
        for tuning in self.tunings():
            yield from tuning.targets()
        yield from self.results()

    def results(self) -> Iterator[Stage]:
        """The stages whose records the comparison reads, except those that choose among trials."""
        yield from self.data.values()
        yield from self.contamination
        for path in self.paths:
            yield from path.results()
            if path.start is not None:
                yield from path.start.results()
        for checks in self.checks.values():
            yield from checks

    @property
    def starts(self) -> tuple[VariantPath, ...]:
        """The starts of aligned variants that are no variants of the suite themselves."""
        trained = {key for key, _ in _trained(self.paths)}
        return tuple(path for key, path in _starts(self.paths).items() if key not in trained)

    def tunings(self) -> list[Tuning]:
        """Each cell's tuning once."""
        by_group = {p.tuning.group: p.tuning for p in self.paths if p.tuning is not None}
        return list(by_group.values())

    @property
    def open(self) -> list[VariantPath]:
        """Paths that are planned once their trials have ended."""
        return [path for path in self.paths if path.draft is not None]

    def trial_keys(self) -> frozenset[str]:
        """Keys of stages that only serve trials. If one fails, that is a result of the tuning."""
        trials = [s for t in self.tunings() for trial in t.trials for s in trial.scores]
        shared = {stage.key for stage in _closure(self.results())}
        return frozenset(stage.key for stage in _closure(trials)) - shared


def named_starts(paths: Sequence[VariantPath]) -> tuple[VariantPath, ...]:
    """The paths, with starts renamed where two different ones have the same name.

    Two starts are the same if they have the same training stage. An override for one objective can
    change the stages before it, so that its start differs from a variant of the same name. It is
    then called `full-sft (start of full-dpo)`.
    """
    trained = {key for key, _ in _trained(paths)}
    bearers: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for key, path in (*_starts(paths).items(), *_trained(paths)):
        bearers[path.variant.group][path.variant.id].add(key)
    shared = {name for name, ids in bearers.items() if any(len(keys) > 1 for keys in ids.values())}
    first: dict[str, str] = {}

    def named(path: VariantPath) -> VariantPath:
        start = path.start
        if start is None or start.train is None or start.variant.group not in shared:
            return path
        if start.train.key in trained:
            return path
        whose = first.setdefault(start.train.key, path.variant.group)
        group = start.variant.group
        seed = start.variant.id.removeprefix(group)
        name = f"{group} (start of {whose})"
        variant = replace(start.variant, group=name, id=name + seed)
        return replace(path, start=replace(start, variant=variant))

    return tuple(named(path) for path in paths)


def _trained(paths: Iterable[VariantPath]) -> Iterator[tuple[str, VariantPath]]:
    """The variants that a suite trains, each by the key of its training."""
    for path in paths:
        if path.train is not None and not isinstance(path.variant, Merged):
            yield path.train.key, path


def _starts(paths: Iterable[VariantPath]) -> dict[str, VariantPath]:
    starts = [path.start for path in paths if path.start is not None]
    return {path.train.key: path for path in starts if path.train is not None}


def upstream(targets: Iterable[Stage]) -> list[Stage]:
    """These stages and all that they need, each once, inputs before what needs them."""
    return list(_closure(targets))


def trained_by(stage: Stage) -> Iterator[Stage]:
    """All upstream training stages in topological order, this one last."""
    yield from (upstream for upstream in _closure([stage]) if upstream.kind == "train")


def behind(stage: Stage) -> list[Stage]:
    """All upstream stages in topological order, except data stages: trainings, samples, labels. The
    stage itself is the last."""
    return [upstream for upstream in _closure([stage]) if upstream.kind != "data"]


def trained_rows(stage: Stage) -> dict[Stage, None]:
    """The data stages that a training stage and the stages before it read, except validation rows.
    For sampled answers, these are the data stages of their prompts."""
    return dict.fromkeys(
        rows
        for upstream in behind(stage)
        for role, rows in upstream.inputs.items()
        if rows.kind == "data" and role != "validation"
    )


def parts(rows: Stage) -> frozenset[Stage]:
    """A data stage and those that it mixes. For rows that a stage of another kind made, these are
    the parts of the rows that it read itself; labels of sampled answers have none."""
    read = [rows] if rows.kind == "data" else rows.inputs.values()
    return frozenset(_closure(source for source in read if source.kind == "data"))


def learnt(planned: Plan) -> frozenset[str]:
    """The data entries that variants are trained on in any step of their recipes, including the
    parts of a mixture. Rows that an objective reads beside its training rows do not count, such as
    general text against forgetting."""
    return frozenset().union(*(learnt_by(planned, path) for path in planned.paths))


def learnt_by(planned: Plan, path: VariantPath) -> frozenset[str]:
    """The data entries that one variant is trained on, as in `learnt`."""
    train = (path.draft or path).train
    rows = {
        part
        for upstream in (behind(train) if train is not None else ())
        if "train" in upstream.inputs
        for part in parts(upstream.inputs["train"])
    }
    return frozenset(entry for (entry, _), stage in planned.data.items() if stage in rows)


def _closure(targets: Iterable[Stage]) -> dict[Stage, None]:
    ordered: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        if stage.key in ordered:
            return
        for source in stage.inputs.values():
            add(source)
        ordered[stage.key] = stage

    for stage in targets:
        add(stage)
    return dict.fromkeys(ordered.values())
