"""Answers in a plan: the stage of each variant's answers, and the rows that all of them answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.executors.base import Executor
from harness.planning.checkpoints import Checkpoints
from harness.planning.lengths import Fitting
from harness.planning.sources import Sources
from harness.scorers.base import Scorer, Subject
from harness.stages.generate import Generate
from harness.store.stage import Stage
from harness.suite.suite import Suite
from harness.variants.variant import Merged, Variant


@dataclass
class Answering:
    """Makes the generate stages of variants; equal ones are one stage by their key.

    Attributes:
        variants: all variants of the suite. They decide which rows are asked.
        baselines: group -> the group that the suite compares it with.
    """

    suite: Suite
    sources: Sources
    checkpoints: Checkpoints
    executor: Executor
    fitting: Fitting
    scorers: Sequence[Scorer]
    variants: Sequence[Variant] = ()
    baselines: Mapping[str, str] = field(default_factory=dict)
    _answering: dict[tuple[str, str], list[Variant]] = field(default_factory=dict)

    def stage(
        self, variant: Variant, entry: str, train: Stage | None, split: str = "test"
    ) -> Stage:
        """The stage of a variant's answers to the rows of a split.

        Args:
            train: the stage of its checkpoint; None for an untrained use.
        """
        inputs = {"data": self.sources.rows(entry, split)}
        if variant.generate.num_fewshot:
            inputs["shots"] = self.sources.rows(entry, "train")
        if train is not None:
            inputs["checkpoint"] = train
        unfit = self.fitting.decide(self._asked(entry, split), entry, split)
        answers = Generate(
            device=self.executor.device(),
            model=None if train is not None else self.sources.model_config(variant.model),
            merged=isinstance(variant, Merged),
            place=self.checkpoints.place(variant),
            generate=variant.generate,
            left_out=unfit.left_out,
            truncate_left=unfit.cut.get(variant.model),
        )
        return answers.stage(
            inputs,
            resources=self.suite.resources,
            label=f"{variant.id} on {entry}",
            known=self.sources.known(variant.model, inputs["data"]),
        )

    def _asked(self, entry: str, split: str) -> list[Variant]:
        """The variants that answer a split's rows: one list for all of them."""
        if (entry, split) not in self._answering:
            self._answering[entry, split] = [
                variant
                for variant in self.variants
                if (entry in variant.evaluations if split == "test" else self._tried(variant))
            ]
        return self._answering[entry, split]

    def _tried(self, variant: Variant) -> bool:
        """Whether it answers validation rows: it is trained, or trials are compared with it."""
        if variant.cell is not None:
            return True
        compared = any(s.reads(Subject().baseline().answers()) for s in self.scorers)
        return compared and variant.group in self.baselines.values()

    def unscored(self, entry: str, split: str) -> list[int]:
        """The numbers of the rows that no variant's model is scored on."""
        asked = self.variants if split == "test" else [v for v in self.variants if v.cell]
        return self.fitting.unwritten(asked, entry, split).left_out
