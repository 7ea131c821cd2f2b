"""Makes a graph of stages from variants; equal stages are one. Refuses suites that cannot run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from harness.core import from_yaml
from harness.core.errors import ModelError, SuiteError
from harness.executors.base import Executor
from harness.planning.answering import Answering
from harness.planning.checkpoints import Checkpoints
from harness.planning.claims import PlannedClaim, about_these, planned_claims
from harness.planning.columns import columns_of, require_distinct
from harness.planning.contamination import contamination_stages
from harness.planning.draft import NotAsked
from harness.planning.graph import (
    Plan,
    Scored,
    Tuning,
    VariantPath,
    named_starts,
)
from harness.planning.lengths import Fitting
from harness.planning.mistakes import with_others
from harness.planning.models import remarks, require_language_model, require_trainable
from harness.planning.only import everyone
from harness.planning.partial import partial_judges
from harness.planning.policies import start_of
from harness.planning.precision import coarse_trainings
from harness.planning.preparing import Preparing, places_of
from harness.planning.recipe import Recipes, refuse_pairs, trainings
from harness.planning.scored_models import ScoredModels
from harness.planning.scoring import Scoring
from harness.planning.sources import Sources
from harness.planning.tuning import judge_of, plan_tuning, tuned, untuned_starts, winner
from harness.scorers.base import Scorer, Subject
from harness.store.stage import Record, Stage
from harness.store.store import Store
from harness.suite.suite import Loaded
from harness.suite.tune import Tune
from harness.variants.expand import baselines_of, expand, refuse_samples, shared_baseline
from harness.variants.settings import holds
from harness.variants.variant import Cell, Merged, Variant

__all__ = ["Plan", "Scored", "VariantPath", "plan"]


def plan(
    loaded: Loaded,
    store: Store,
    only: str | None = None,
    limit: int | None = None,
    known: Mapping[str, Record] | None = None,
) -> Plan:
    """The graph of a suite. What depends on trials is planned once these have ended.

    Args:
        only: pattern of variants to keep (the baseline stays).
        limit: keep so many rows of every split; another identity, so nothing is mixed up.
        known: records by key of a run under way or to be reported. What an earlier run lost ends no
            trial but by standing here: it is tried again, as a run that goes on would have.

    Raises:
        SuiteError, ModelError: before anything is spent, naming place and fix.
    """
    with loaded.boundary():
        try:
            return _Planner(loaded, store, limit, known or {}).plan(only)
        except (SuiteError, ModelError) as error:
            raise with_others(error, loaded) from None


class _Planner:
    def __init__(
        self, loaded: Loaded, store: Store, limit: int | None, known: Mapping[str, Record]
    ) -> None:
        self.suite, self.file, self.text = loaded.suite, loaded.path, loaded.text
        self.store, self.known = store, known
        self.executor = cast(Executor, from_yaml.build("executor", self.suite.executor, "executor"))
        self.sources = Sources(self.suite, self.file, store, self.executor, limit)
        self.checkpoints = Checkpoints(self.sources)
        self.fitting = Fitting(self.sources, self.checkpoints)
        self.recipes = Recipes(self.suite, self.sources, self.executor, self.fitting.tokens)
        self.preparing = Preparing(self.sources, self.checkpoints)
        self.unheard: tuple[str, ...] = ()
        self.tunings: dict[str, Tuning] = {}
        self.chosen: Sequence[Variant] = ()
        """The variants that are run."""
        self._awaited = False
        """Whether a score waits for the settings of the baseline."""
        self.scorers = [self._scorer(i, spec, limit) for i, spec in enumerate(self.suite.scorers)]
        self.answering = Answering(
            self.suite, self.sources, self.checkpoints, self.executor, self.fitting, self.scorers
        )
        self.scored_models = ScoredModels(
            self.suite, self.sources, self.checkpoints, self.recipes, self.executor, self._baseline
        )
        self.scoring = Scoring(
            self.suite, self.sources, self.preparing, self.scored_models,
            self.answering.stage, self.answering.unscored, self._baseline, self._rivals,
        )  # fmt: skip

    def _scorer(self, index: int, spec: Any, limit: int | None) -> Scorer:
        scorer = cast(Scorer, from_yaml.build("scorer", spec, f"scorers[{index}]"))
        where = f"scorers[{index}].{scorer.name}"
        scorer = scorer.resolved(where, places_of(scorer, self.sources, where), self.file)
        return scorer if limit is None else scorer.limited(limit)

    def plan(self, only: str | None) -> Plan:
        variants = [self.checkpoints.described(v) for v in expand(self.suite, only)]
        self.answering.variants = self.chosen = variants
        if only is not None:
            everybody, self.unheard = everyone(self.suite, variants, self._readable)
            self.answering.variants = everybody
        for variant in variants:
            refuse_pairs(variant)
            self.checkpoints.refuse_merge(variant)
            refuse_samples(variant, self.scorers)
            models = () if variant.cell is None else variant.cell.models.values()
            for used in (variant, *models):
                require_language_model(self.sources.model(used.model), used.model, self.file)
            require_trainable(variant, self.sources)
        require_distinct(self.scorers, variants)
        self.scoring.require_named(self.scorers)
        self.answering.baselines = baselines = baselines_of(self.suite, variants)
        paths = named_starts([self._tuned_path(variant) for variant in variants])
        self.preparing.require_data()
        idle = self._idle_scorers(paths)
        claims, undecided = self._claims(paths)
        return Plan(
            suite=self.suite,
            file=self.file,
            text=self.text,
            baseline=shared_baseline(self.suite, baselines),
            baselines=baselines,
            executor=self.executor,
            paths=paths,
            contamination=tuple(contamination_stages(paths, self.sources, self.suite.resources)),
            data=dict(self.sources.data),
            models=dict(self.sources.models),
            warnings=(
                *self.unheard,
                *self.checkpoints.warnings(),
                *self.sources.warnings(),
                *idle,
                *self.scoring.notes(),
                *partial_judges(paths, self.sources.models),
                *self._coarse(variants),
                *remarks(variants, self.sources),
                *self._untuned(variants),
                *undecided,
            ),
            judges=tuple(self.scored_models.judges.values()),
            checks=self._checks(paths),
            untrained=tuple(self.fitting.trained(variants)),
            lengths=tuple(self.fitting.stages.values()),
            prepared=tuple(self.preparing.stages.values()),
            unfit=dict(self.fitting.unfit),
            beyond=tuple(self.fitting.beyond()),
            claims=claims,
            scorers=tuple(self.scorers),
        )

    def _claims(
        self, paths: Sequence[VariantPath]
    ) -> tuple[tuple[PlannedClaim, ...], tuple[str, ...]]:
        """The claims about the variants that are run, and warnings about what they leave out."""
        known = (*self.answering.variants, *(path.variant for path in paths))
        everyone = {variant.group: variant.labels for variant in known}
        baselines = {
            **baselines_of(self.suite, self.answering.variants),
            **self.answering.baselines,
        }
        reported = self.scoring.reported if self.suite.claims else _unknown
        columns = columns_of(paths, self.scorers, self._record, reported)
        asked = planned_claims(self.suite.claims, everyone, columns, baselines)
        kept, undecided = about_these(asked.claims, columns, everyone)
        return kept, (*asked.notes, *undecided)

    def _idle_scorers(self, paths: Sequence[VariantPath]) -> tuple[str, ...]:
        """Warnings about scorers that can score no variant.

        Raises:
            SuiteError: no scorer is left, and the report would have nothing to show.
        """
        scores = [s for path in paths for s in (path.draft or path).scores]
        idle = [
            f"scorers[{index}].{scorer.name}"
            for index, scorer in enumerate(self.scorers)
            if not any(s.scorer == scorer.name and s.label == scorer.label for s in scores)
        ]
        lacks = "none has what it asks for, such as a start or a reward model"
        if self._awaited:
            return ()  # what was not planned yet may be asked later
        if not scores:
            place = min(idle, default="scorers")
            why = self.scoring.lacking(place) or lacks
            fix = "add a scorer of answers, or an objective that goes on from another"
            raise SuiteError(f"scores no variant: {why}", where=place, fix=fix)
        return tuple(f"{place} scores no variant: {lacks}" for place in idle)

    def _readable(self, variant: Variant) -> Variant:
        described = self.checkpoints.described(variant)
        self.sources.model(described.model)
        return described

    def _coarse(self, variants: Sequence[Variant]) -> tuple[str, ...]:
        return coarse_trainings(
            (v.group, v.cell.method, str(self.sources.model_config(v.model)["dtype"]))
            for v in variants
            if v.cell is not None and not v.cell.method.at_service
        )

    def _untuned(self, variants: Sequence[Variant]) -> tuple[str, ...]:
        tune = self.suite.tune
        if tune is None:
            return ()
        steps = [
            (variant.cell, training.step)
            for variant in variants
            if variant.cell is not None and holds(tune.match, variant.cell.labels)
            for training in trainings(variant)
            if training.step is not variant.cell.recipe
        ]
        return untuned_starts(tune, steps)

    def _tuned_path(self, variant: Variant) -> VariantPath:
        """The variant's path with the tuned settings; a draft until they are known."""
        settled, tuning = self._settled(variant)
        if settled is None:
            return VariantPath(variant, None, {}, (), tuning, self._path(variant))
        return replace(self._path(settled), tuning=tuning)

    def _settled(self, variant: Variant) -> tuple[Variant | None, Tuning | None]:
        """The variant with the tuned settings, None until they are known; and its tuning, None if
        the suite does not tune it."""
        cell = variant.cell
        tune = self.suite.tune
        if cell is None or tune is None or not holds(tune.match, cell.labels):
            return variant, None
        if cell.group not in self.tunings:
            self.tunings[cell.group] = self._tuning(tune, cell)
        tuning = self.tunings[cell.group]
        settings = winner(tuning, self._record)
        if settings is None:
            return None, tuning
        settled = tuned(cell, settings)
        if isinstance(variant, Merged):
            return replace(variant, of=settled), tuning
        return settled, tuning

    def _baseline(self, path: VariantPath) -> VariantPath:
        """The path of what the suite compares a variant with, as far as its answers: of the same
        seed where it has that, else its first. A start that is no variant has the baseline of those
        of its model.

        Raises:
            NotAsked: the variant is the baseline, or the baseline cannot be asked.
        """
        variant, groups = path.variant, self.answering.baselines
        group = groups.get(variant.group) or next(
            groups[v.group] for v in self.answering.variants if v.model == variant.model
        )
        baseline = _of_seed(self.answering.variants, group, variant.seed)
        same = NotAsked(f"it compares with the baseline, which is {group} itself", noted=True)
        if group == variant.group:
            raise same
        settled, _ = self._settled(baseline)
        if settled is None:
            self._awaited = True
            raise NotAsked(f"the settings of {group}, the baseline, are not chosen yet")
        train = self._trained(settled)
        kinds = {isinstance(settled, Merged), isinstance(variant, Merged)}
        if train is not None and train == path.train and len(kinds) == 1:
            raise same
        return VariantPath(settled, train, {}, ())

    def _rivals(self, path: VariantPath) -> list[VariantPath]:
        """The paths of all other variants that are run, as far as their answers: each of the same
        seed where it has that, else its first.

        Raises:
            NotAsked: it is no variant itself, but the start of one, or the settings of another are
                not chosen yet.
        """
        mine, rivals = path.variant, list[VariantPath]()
        groups = list(dict.fromkeys(variant.group for variant in self.chosen))
        if mine.group not in groups:
            raise NotAsked("it compares variants, and this is the start of some alone")
        for group in groups:
            if group == mine.group:
                continue
            settled, _ = self._settled(_of_seed(self.chosen, group, mine.seed))
            if settled is None:
                self._awaited = True
                raise NotAsked(f"the settings of {group} are not chosen yet")
            rivals.append(VariantPath(settled, self._trained(settled), {}, ()))
        return rivals

    def _tuning(self, tune: Tune, cell: Cell) -> Tuning:
        judge = judge_of(tune, self.scorers, self.suite.data)
        entry = judge.data or cell.data
        rows = self.sources.rows(entry, "validation", "trials are judged on it")
        for tested in {*cell.evaluations, entry}:
            test = self.suite.data[tested].test
            if test is not None and self.sources.rows(tested, "test").key == rows.key:
                raise SuiteError(
                    f"the validation rows are the test rows of data.{tested}",
                    where=f"{self.file}: data.{entry}.validation",
                    fix="tune on rows that nothing is reported on",
                )

        def score(trial: Cell) -> Stage:
            refuse_pairs(trial)
            require_trainable(trial, self.sources)
            train, scorer = self.recipes.train(trial), self.scorers[judge.scorer]
            path = VariantPath(trial, train, {}, (), start=self._start(trial, scored=False))
            where = f"scorers[{judge.scorer}]"
            try:
                return self.scoring.stage(scorer, where, path, entry, "validation")
            except NotAsked as lack:
                raise SuiteError(
                    f"{scorer.name} cannot score {trial.group}: {lack}",
                    where=f"{self.file}: tune.metric",
                    fix="tune by another metric, or leave the cell out (`exclude:`)",
                ) from None

        return plan_tuning(tune, judge, cell, entry, score, self._record, self.suite.resources)

    def _record(self, stage: Stage) -> Record | None:
        record = self.known.get(stage.key) or self.store.record(stage)
        return None if record and record.lost and stage.key not in self.known else record

    def _path(self, variant: Variant) -> VariantPath:
        train = self._trained(variant)
        generate, scores = {}, []
        asked = {s.data for s in self.scorers if s.reads(Subject().answers())}
        for entry in variant.evaluations:
            if asked & {None, entry}:
                generate[entry] = self.answering.stage(variant, entry, train)
        path = VariantPath(variant, train, generate, (), start=self._start(variant))
        for index, scorer in enumerate(self.scorers):
            scores += self.scoring.of(scorer, f"scorers[{index}]", path)
        return replace(path, scores=tuple(scores))

    def _trained(self, variant: Variant) -> Stage | None:
        """The stage of the variant's checkpoint; None for an untrained use."""
        if variant.cell is not None:
            return self.recipes.train(variant.cell)
        return None if variant.elsewhere is None else self.checkpoints.stage(variant.elsewhere)

    def _start(self, variant: Variant, *, scored: bool = True) -> VariantPath | None:
        """The path of the checkpoint that an aligned variant starts from; it is compared with
        it."""
        start = start_of(variant)
        if start is None:
            return None
        return self._path(start) if scored else VariantPath(start, self._trained(start), {}, ())

    def _checks(self, paths: tuple[VariantPath, ...]) -> dict[str, tuple[Stage, ...]]:
        """The checks of all labels that the paths depend on, except labels that only trials use."""
        used = {stage.key for path in paths for stage in path.stages()}
        return {key: checks for key, checks in self.recipes.labels.checks.items() if key in used}


def _unknown(scorer: Scorer, evaluation: str) -> Sequence[str]:
    """No metrics: nobody asks for their names."""
    return ()


def _of_seed(variants: Sequence[Variant], group: str, seed: int) -> Variant:
    """A variant of a group: of this seed where there is one, else the first."""
    seeds = {v.seed: v for v in reversed(variants) if v.group == group}
    return seeds.get(seed) or list(seeds.values())[-1]
