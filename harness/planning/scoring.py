"""Score stages in a plan: what each scorer reads of a variant, and beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.core.errors import SuiteError, unknown
from harness.data.preference_rule import find_rule
from harness.executors.base import Executor
from harness.planning.graph import STAGE_VERSIONS, Scored, VariantPath
from harness.planning.recipe import START, Recipes, refuse_pairs
from harness.planning.sources import Sources
from harness.scorers.base import REWARD, ROWS, RULE, Scorer
from harness.store.stage import Stage
from harness.suite.suite import Suite
from harness.variants.reward import scoring_reward
from harness.variants.variant import Variant

Generate = Callable[[Variant, str, Stage | None, str], Stage]
"""(variant, data entry, its checkpoint, split) -> the stage of its answers."""
LeftOut = Callable[[str, str], list[int]]
"""(data entry, split) -> numbers of the rows that no variant's model is scored on."""
OnModel = Callable[[str, Variant, Stage | None, Mapping[str, Stage]], Stage]
"""(kind, variant, its checkpoint, other inputs) -> a stage that loads the model."""


@dataclass
class Scoring:
    """Makes the score stages of variants; equal ones are one stage by their key.

    Attributes:
        judges: reward models that score answers, by their training stage.
    """

    suite: Suite
    sources: Sources
    recipes: Recipes
    executor: Executor
    generate: Generate
    on_model: OnModel
    left_out: LeftOut
    judges: dict[str, Variant] = field(default_factory=dict)

    def require_rules(self, scorers: Sequence[Scorer]) -> None:
        """Whether every rule that a scorer names is there, asked or not.

        Raises:
            SuiteError: there is no such file or function.
        """
        for index, scorer in enumerate(scorers):
            if (named := scorer.named_rule()) is not None:
                place = f"scorers[{index}].{scorer.name}.rule"
                find_rule(named, self.sources.file, self.sources.store.file_digest, place)

    def of(self, scorer: Scorer, where: str, path: VariantPath) -> list[Scored]:
        """A scorer's stages for a variant on its test rows; none where it cannot be asked.

        Args:
            path: the variant's path so far: its training, its answers, its start.

        Raises:
            SuiteError: rows that the suite does not have, or does not generate answers to.
        """
        entries = self._entries(scorer, where, path)
        made = [(self.stage(scorer, where, path, entry, "test"), entry) for entry in entries]
        label = scorer.label
        return [
            Scored(stage, scorer.name, entry, label, scorer.shows(), scorer.forgetting)
            for stage, entry in made
            if stage is not None
        ]

    def stage(
        self, scorer: Scorer, where: str, path: VariantPath, entry: str, split: str
    ) -> Stage | None:
        """One stage; None where what the scorer reads beside the variant is not there."""
        beside = scorer.beside()
        if START in beside and path.start is None:
            return None  # from the base, or trained elsewhere: there is no start to measure from
        if scorer.reads == "model":
            return self._of_model(scorer, path, entry, split)
        return self._of_answers(scorer, where, path, entry, split)

    def _entries(self, scorer: Scorer, where: str, path: VariantPath) -> tuple[str, ...]:
        named = scorer.data
        if named is None:
            return path.variant.evaluations
        place = f"{where}.{scorer.name}.data"
        if named not in self.suite.data or self.suite.data[named].test is None:
            known = ", ".join(n for n, d in self.suite.data.items() if d.test is not None)
            raise SuiteError(
                f"data entry '{named}' has no test rows", where=place, fix=f"known: {known}"
            )
        if scorer.reads == "predictions" and named not in path.variant.evaluations:
            message = unknown("evaluation", named, path.variant.evaluations)
            raise SuiteError(message, where=place, fix=f"add '{named}' to `evaluate:`")
        return (named,)

    def _of_model(self, scorer: Scorer, path: VariantPath, entry: str, split: str) -> Stage:
        inputs = {"data": self.sources.rows(entry, split)}
        if START in scorer.beside() and path.start is not None and path.start.train is not None:
            inputs[START] = path.start.train
        stage = self.on_model("score", path.variant, path.train, inputs)
        name = scorer.label or f"{scorer.name} {entry}"
        config = {**stage.config, "scorer": scorer.identity()}
        if left_out := self.left_out(entry, split):
            config["left_out"] = left_out
        return replace(stage, config=config, label=f"{stage.label} {name}")

    def _of_answers(
        self, scorer: Scorer, where: str, path: VariantPath, entry: str, split: str
    ) -> Stage | None:
        predictions = self.generate(path.variant, entry, path.train, split)
        inputs, locators = {"predictions": predictions}, dict[str, str]()
        config: dict[str, Any] = {"version": STAGE_VERSIONS["score"], "scorer": scorer.identity()}
        beside = scorer.beside()
        named, place = scorer.named_rule(), f"{where}.{scorer.name}.rule"
        if named is not None:
            digest = self.sources.store.file_digest
            locators[RULE], found = find_rule(named, self.sources.file, digest, place)
            config["scorer"] = {**config["scorer"], RULE: found}
        if ROWS in beside:
            inputs[ROWS] = predictions.inputs["data"]
        if START in beside:
            start = path.start
            if start is None:
                return None  # what starts from the base has no answers of a start
            inputs[START] = self.generate(start.variant, entry, start.train, split)
        if REWARD in beside:
            judge = scoring_reward(self.suite, path.variant, f"{where}.{scorer.name}")
            if judge is None:
                return None
            inputs[REWARD] = self._judged_by(judge)
            own = self.sources.model_locators(judge.model)
            locators |= {f"{REWARD}.{name}": place for name, place in own.items()}
            config["device"] = self.executor.device()
        return Stage(
            "score",
            config,
            inputs,
            locators,
            resources=self.suite.resources,
            label=f"{path.variant.id} {scorer.name}",
        )

    def _judged_by(self, judge: Variant) -> Stage:
        refuse_pairs(judge)
        self.sources.model(judge.model)
        stage = self.recipes.train(judge)
        self.judges.setdefault(stage.key, judge)
        return stage


def start_of(variant: Variant) -> Variant | None:
    """What a variant's last training stage goes on from, as a variant of its own: scored as it is,
    never merged. None where that is the base."""
    names = [before.objective.name for before in variant.before]
    if not variant.trained or variant.objective is None or variant.objective.begins not in names:
        return None
    index = names.index(variant.objective.begins)
    last = variant.before[index]
    seed = f"#{variant.seed}" if variant.id.endswith(f"#{variant.seed}") else ""
    earlier = variant.before[:index]
    read = {role for stage in (*earlier, last) for role in stage.objective.beside}
    return replace(
        variant,
        id=last.group + seed,
        group=last.group,
        objective=last.objective,
        before=earlier,
        beside={role: other for role, other in variant.beside.items() if role in read},
        feedback=None,
        judges={},
        merged_from="",
        labels={**variant.labels, "objective": last.objective.name},
    )
