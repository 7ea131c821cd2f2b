"""Reads scores from the stage folders; variants with equal examples share one list of them."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness.comparison.intervals import Ends
from harness.comparison.judges import UNKNOWN, Trust, trust_in
from harness.comparison.result import ALL
from harness.comparison.statistics import Array, Clusters, Sample
from harness.core.aggregate import AGGREGATES
from harness.core.errors import HarnessError
from harness.core.files import digest_json
from harness.data.contests import TIE
from harness.planning.planner import Scored, VariantPath
from harness.stages.score import (
    PREDICTIONS,
    judging_stages,
    planned_scorer,
    reward_models,
    rows_of_stage,
)
from harness.store.score_table import KEYS, ScoreTable
from harness.store.stage import Record, Stage
from harness.store.store import Store

Column = tuple[str, str]
"""(metric, evaluation)"""


class Keys:
    """The examples of an evaluation: their ids, clusters and groups, in order.

    All variants that were scored on the same examples share one object. If the very same tuple is
    given as ids and as clusters, each example is its own cluster.
    """

    def __init__(
        self, ids: tuple[str, ...], clusters: tuple[str, ...], groups: tuple[str, ...]
    ) -> None:
        self.ids, self.clusters, self.groups = ids, clusters, groups
        self._groups: dict[str, NDArray[np.intp]] = {}
        self._parts: dict[bytes, Keys] = {}

    @cached_property
    def together(self) -> Clusters:
        """Which examples belong together."""
        return Clusters(self.clusters, different=self.clusters is self.ids)

    @cached_property
    def names(self) -> frozenset[str]:
        """The groups that occur."""
        return frozenset(self.groups)

    def of(self, group: str) -> NDArray[np.intp]:
        """The indexes of the examples of one group."""
        if group not in self._groups:
            positions = np.flatnonzero(np.asarray(self.groups, dtype=object) == group)
            self._groups[group] = positions
        return self._groups[group]

    def at(self, index: NDArray[np.intp]) -> Keys:
        """The examples at these indexes; equal indexes give the same object."""
        if len(index) == len(self.ids):
            return self
        place = index.tobytes()
        if place not in self._parts:
            lists = (self.ids, self.clusters, self.groups)
            self._parts[place] = Keys(*(tuple(values[i] for i in index) for values in lists))
        return self._parts[place]


@dataclass(frozen=True)
class Scores:
    """One metric of one checkpoint on one evaluation, example by example.

    Attributes:
        version: the scorer's identity; scores of different versions are not compared.
        rows: the key of the data stage whose rows were scored.
        judge: the key of the reward model that scored them; empty if none did.
        forgetting: the metric shows what the variant has forgotten.
        measured: the key of the stage that measured them; variants of one checkpoint may share it.
        trained: the checkpoint was trained, so that another seed would have given another one.
        model, template: digests of the untrained model and of the chat template that wrote the
            prompts; the same model with two templates reads different prompts. Empty for rows
            that are not chats.
        bounds: the least and the greatest value that the metric can have.
        even: the value that means no difference from the baseline, for a metric that compares with
            the baseline itself; None for others.
        of_start: the metric compares the variant with its own start.
        chance: the value that guessing reaches; None where it is not known.
        judged: a judge gave the values.
        drawn: of a mean, the variance of each example's value that drawing its answers anew would
            cause, shape (n,); None where one answer was drawn.
        trust: how far that judge can be trusted.
    """

    keys: Keys
    sample: Sample
    higher_is_better: bool
    unit: str
    version: str
    rows: str = ""
    judge: str = ""
    forgetting: bool = False
    measured: str = ""
    trained: bool = True
    model: str = ""
    template: str = ""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    even: float | None = None
    of_start: bool = False
    chance: float | None = None
    judged: bool = False
    drawn: Array | None = None
    trust: Trust = UNKNOWN

    @property
    def doubt(self) -> str:
        """Why a judge's scores decide nothing; empty if they may."""
        if not self.judged:
            return ""
        if not self.trust.credentials:
            return "its judge is uncalibrated (harness judge calibrate)"
        if not self.trust.shown:
            return f"its judge is not shown to be better than chance ({self.trust.credentials})"
        rate = self.trust.rate
        if self.even is not None and rate is not None and rate.open:
            return f"with the judge's error the win rate may be one half: {rate.both}"
        return ""

    def slice(self, group: str) -> Scores:
        """The examples of one group; all of them for ALL."""
        return self if group == ALL else self._at(self.keys.of(group))

    def counted(self) -> Scores:
        """The examples that the metric counts; all of them if it counts none."""
        index = self.sample.about(np.arange(self.sample.n))
        return self if len(index) in (0, self.sample.n) else self._at(index)

    def _at(self, index: NDArray[np.intp]) -> Scores:
        drawn = None if self.drawn is None else self.drawn[index]
        return replace(self, keys=self.keys.at(index), sample=self.sample.at(index), drawn=drawn)


class Reader:
    """Reads the scores of variants; equal lists of examples are kept once."""

    def __init__(
        self,
        records: Mapping[str, Record],
        store: Store,
        learnt: frozenset[str] = frozenset(),
        baselines: Mapping[str, Collection[str]] = {},
    ) -> None:
        """Reads by these records from a store.

        Args:
            learnt: the data entries that variants are trained on.
            baselines: variant -> the keys of its baseline's training stages.
        """
        self._records, self._store, self._learnt = records, store, learnt
        self._baselines = baselines
        self._known: list[tuple[pa.Table, Keys]] = []
        self._digests: dict[bytes, Keys] = {}
        self._bounds: dict[str, dict[str, Ends | None]] = {}

    def __call__(self, path: VariantPath) -> dict[Column, Scores]:
        """Every metric of a variant, by (metric, evaluation)."""
        scores: dict[Column, Scores] = {}
        for scored in path.scores:
            record = self._records[scored.stage.key]
            table = ScoreTable(scored.stage.path(self._store.root))
            keys = self._keys(table)
            # An encoder of a hub without a revision may have changed between two stages.
            encoder = record.provenance.get("scorer", {}).get("encoder_digest")
            by = _judging_models(scored.stage)
            identity = [record.config.get("scorer"), encoder, *([by] if by else [])]
            version = json.dumps(identity, sort_keys=True)
            declared: dict[str, Any] = record.metrics["metrics"]
            judges = reward_models(scored.stage)
            model, template = self._written(scored.stage)
            trust = UNKNOWN
            if any(metric.get("judged", False) for metric in declared.values()):
                trust = trust_in(scored.stage, self._store.root)
            columns_read = [c for m in declared.values() for c in m["columns"].values()]
            columns_read += [m["drawn"] for m in declared.values() if "drawn" in m]
            read = table.read(columns_read)
            named = columns_of(scored, record)
            for (name, metric), column in zip(declared.items(), named, strict=True):
                columns = {
                    statistic: _floats(read, column)
                    for statistic, column in metric["columns"].items()
                }
                if column in scores:
                    raise HarnessError(
                        f"two scorers have a metric '{column[0]}' on '{column[1]}': one is of a"
                        " benchmark's task, one of a data entry of that name",
                        fix="give one of the scorers a `label:`; no score is computed again",
                    )
                scores[column] = Scores(
                    keys, Sample(metric["aggregate"], columns), metric["higher_is_better"],
                    metric["unit"], version, rows_key(scored.stage),
                    " ".join(judge.key for judge in judges), self._forgetting(scored),
                    scored.stage.key, path.train is not None, model, template,
                    _bounds(metric, self._class_bounds(scored.stage).get(name)),
                    even=TIE if self._over_baseline(scored, path) else metric.get("even"),
                    of_start=scored.shows in ("preference", "from_start"),
                    chance=_chance(record, name), judged=metric.get("judged", False),
                    drawn=_floats(read, metric["drawn"]) if "drawn" in metric else None,
                    trust=trust,
                )  # fmt: skip
        return scores

    def _class_bounds(self, stage: Stage) -> Mapping[str, Ends | None]:
        """The bounds that the scorer's class declares: a record that is older than them lacks
        them."""
        known = json.dumps(config := stage.config.get("scorer"), sort_keys=True)
        if known not in self._bounds:
            metrics = planned_scorer(stage).declared() if config else {}
            self._bounds[known] = {name: metric.bounds for name, metric in metrics.items()}
        return self._bounds[known]

    def _over_baseline(self, scored: Scored, path: VariantPath) -> bool:
        """Whether a preference over the variant's start is one over its baseline."""
        start = None if path.start is None else path.start.train
        if scored.shows != "preference" or start is None:
            return False
        return start.key in self._baselines.get(path.variant.group, ())

    def _written(self, stage: Stage) -> tuple[str, str]:
        """Digests of a score stage's model and chat template; empty if no template was used. A
        scorer that brings its own examples tells the template alone: whatever the model is, what
        another one wrote is another question."""
        about = self._records[stage.key].provenance.get("scorer", {})
        if "chat_template_sha256" in about:
            return "", str(about["chat_template_sha256"])
        config = (stage.inputs.get(PREDICTIONS) or stage).config
        record = self._records.get(rows_key(stage))
        chats = record is not None and record.metrics.get("conversational")
        asked = config.get("generate", {}).get("apply_chat_template", True)
        if "model" not in config or not (asked and chats):
            return "", ""
        model = dict(config["model"])
        templating = [model.pop(name, None) for name in ("chat_template", "chat_template_kwargs")]
        return digest_json(model), digest_json(templating)

    def _forgetting(self, scored: Scored) -> bool:
        if scored.forgetting is not None:
            return scored.forgetting
        if scored.shows != "language":
            return scored.shows == "from_base"
        rows = self._records.get(rows_key(scored.stage))
        text = rows is not None and rows.metrics.get("layout") == "text"
        return text and scored.evaluation not in self._learnt

    def _keys(self, table: ScoreTable) -> Keys:
        digest = table.digest
        if digest is None:
            return self._by_content(table.read(KEYS))
        if digest not in self._digests:
            self._digests[digest] = self._by_content(table.read(KEYS))
        return self._digests[digest]

    def _by_content(self, table: pa.Table) -> Keys:
        for known, keys in self._known:
            if known.equals(table):
                return keys
        new_keys = Keys(*(tuple(table.column(name).to_pylist()) for name in KEYS))
        self._known.append((table, new_keys))
        return new_keys


def _floats(table: pa.Table, column: str) -> Array:
    return np.asarray(table.column(column).to_numpy().astype(np.float64, copy=False))


def _judging_models(stage: Stage) -> dict[str, Any]:
    """The untrained models of the judges of a score stage, by role: the scores of two models are
    not compared."""
    stage = judging_stages(stage)[0]  # all of them ask the same judges
    if not stage.unhashed.get("labellers"):
        return {}
    names = set(stage.unhashed["labellers"])
    others: dict[str, Any] = stage.config.get("others", {})
    return {role: which for role, which in others.items() if role.partition(".")[0] in names}


def _chance(record: Record, metric: str) -> float | None:
    """Of benchmarks with choices, whose accuracies count the likeliest one."""
    told: float | None = record.provenance.get("scorer", {}).get("chance")
    return told if metric.startswith("acc") else None


def _bounds(declared: Mapping[str, Any], of_class: Ends | None) -> Ends:
    """The bounds that the record has, else those of the scorer's class, else the aggregate's."""
    told = declared.get("bounds") or of_class
    least, most = told or AGGREGATES[declared["aggregate"]].bounds
    return -math.inf if least is None else least, math.inf if most is None else most


def columns_of(scored: Scored, record: Record) -> list[Column]:
    """(metric, evaluation) of each metric of a score stage, in their order."""
    declared = record.metrics["metrics"]
    return [(_title(name, scored.label, len(declared)), scored.evaluation) for name in declared]


def rows_key(stage: Stage) -> str:
    """The key of the data stage whose rows were scored: rows with equal ids may still differ. Empty
    where the scorer brings its examples itself: their ids tell of their prompts."""
    rows = rows_of_stage(stage)
    return "" if rows is None else rows.key


def _title(metric: str, label: str | None, metrics: int) -> str:
    if label is None:
        return metric
    return label if metrics == 1 else f"{label} {metric}"
