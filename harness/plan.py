"""From variants to a deduplicated graph of stages, and what refuses to be planned."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from harness import component
from harness.errors import SuiteError, unknown
from harness.executors.base import Executor
from harness.locate import locate
from harness.matrix import Variant, baseline_of, expand
from harness.model_files import ModelInfo, ModelSpec, resolve_model
from harness.pairs import refusal_of
from harness.predict import predict_generate, predict_train
from harness.scorers.base import Scorer
from harness.stage import Stage
from harness.store import Store
from harness.suite import Loaded, Split, Suite

STAGE_VERSIONS = {"data": 2, "contamination": 1, "train": 1, "generate": 1, "score": 1}
CONTAMINATION_N = 8


@dataclass(frozen=True)
class Scored:
    """A score stage of a variant: which scorer, on which data entry, under which name."""

    stage: Stage
    scorer: str
    evaluation: str
    label: str | None


@dataclass(frozen=True)
class VariantPath:
    """A variant's path through the stages."""

    variant: Variant
    train: Stage | None
    generate: Mapping[str, Stage]
    scores: tuple[Scored, ...]


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

    def stages(self) -> list[Stage]:
        """Every stage once, inputs before what needs them, in the variants' order."""
        ordered: dict[str, Stage] = {}

        def add(stage: Stage) -> None:
            for source in stage.inputs.values():
                add(source)
            ordered.setdefault(stage.key, stage)

        for stage in self.targets():
            add(stage)
        return list(ordered.values())

    def targets(self) -> Iterator[Stage]:
        """The stages whose records the comparison reads."""
        yield from self.data.values()
        yield from self.contamination
        for path in self.paths:
            yield from path.generate.values()
            yield from (scored.stage for scored in path.scores)
            if path.train is not None:
                yield path.train


def plan(loaded: Loaded, store: Store, only: str | None = None, limit: int | None = None) -> Plan:
    """The graph of a suite.

    Args:
        only: pattern of variants to keep (the baseline stays).
        limit: keep so many rows of every split; another identity, so nothing is mixed up.

    Raises:
        SuiteError, ModelError: before anything is spent, naming place and fix.
    """
    return _Planner(loaded, store, limit).plan(only)


class _Planner:
    def __init__(self, loaded: Loaded, store: Store, limit: int | None) -> None:
        self.suite, self.file, self.text = loaded.suite, loaded.path, loaded.text
        self.store, self.limit = store, limit
        self.executor = cast(Executor, component.build("executor", self.suite.executor, "executor"))
        self.scorers = [
            cast(Scorer, component.build("scorer", spec, f"scorers[{i}]"))
            for i, spec in enumerate(self.suite.scorers)
        ]
        self.models: dict[str, ModelInfo] = {}
        self.templates: dict[str, str | None] = {}
        self.data: dict[tuple[str, str], Stage] = {}

    def plan(self, only: str | None) -> Plan:
        refusal = self.executor.refuse(self.suite.resources)
        if refusal:
            raise SuiteError(refusal, where=f"{self.file}: resources")
        variants = expand(self.suite, only)
        for variant in variants:
            _refuse_pair(variant)
            self._model(variant.model)
        self._require_distinct_metrics()
        paths = tuple(self._path(variant) for variant in variants)
        return Plan(
            suite=self.suite,
            file=self.file,
            text=self.text,
            baseline=baseline_of(self.suite, variants),
            executor=self.executor,
            paths=paths,
            contamination=tuple(self._contamination(paths)),
            data=dict(self.data),
            models=dict(self.models),
        )

    def _path(self, variant: Variant) -> VariantPath:
        train = self._train(variant) if variant.trained else None
        generate, scores = {}, []
        for entry in variant.evaluations:
            if any(scorer.reads == "predictions" for scorer in self.scorers):
                generate[entry] = self._generate(variant, entry, train)
        for index, scorer in enumerate(self.scorers):
            scores += self._scores(variant, scorer, f"scorers[{index}]", train, generate)
        return VariantPath(variant, train, generate, tuple(scores))

    def _model(self, name: str) -> ModelInfo:
        if name not in self.models:
            spec, where = self.suite.models[name], f"{self.file}: models.{name}"
            folder = locate(spec.path, self.file, where)
            self.models[name] = resolve_model(spec, folder, self.store.file_digest, where)
            self.templates[name] = self._template(spec, where)
        return self.models[name]

    def _template(self, spec: ModelSpec, where: str) -> str | None:
        if spec.chat_template is None:
            return None
        path = locate(spec.chat_template, self.file, f"{where}.chat_template")
        if path is None:
            raise SuiteError(f"no file {spec.chat_template}", where=f"{where}.chat_template")
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            message = f"{path.name} is not UTF-8 text (byte {error.start})"
            raise SuiteError(message, where=f"{where}.chat_template") from None

    def _model_config(self, name: str) -> dict[str, Any]:
        spec, template = self.suite.models[name], self.templates[name]
        return {
            **self.models[name].identity,
            "dtype": spec.dtype or self.executor.dtype(),
            "attn_implementation": spec.attn_implementation,
            "chat_template": template and hashlib.sha256(template.encode()).hexdigest(),
        }

    def _model_locators(self, name: str) -> dict[str, str]:
        info, spec = self.models[name], self.suite.models[name]
        found = {"model": info.source, "revision": info.revision or ""}
        if spec.trust_remote_code:
            found["trust_remote_code"] = "true"
        if self.templates[name]:
            found["chat_template"] = str(self.templates[name])
        return found

    def _data(self, entry: str, split: str) -> Stage:
        if (entry, split) not in self.data:
            spec: Split | None = getattr(self.suite.data[entry], split)
            where = f"{self.file}: data.{entry}.{split}"
            if spec is None:
                raise SuiteError("this split is needed and not given", where=where)
            if spec.mixture:
                self.data[entry, split] = self._mixture(entry, split, spec, where)
                return self.data[entry, split]
            path = locate(spec.path, self.file, where)
            if path is not None and path.is_dir():
                raise SuiteError(f"'{spec.path}' is a folder, not a file of rows", where=where)
            fields = spec.model_dump(exclude={"path", "mixture", "mixture_seed", "mixture_stop"})
            if self.limit is not None:
                fields["limit"] = min(self.limit, fields["limit"] or self.limit)
            content = (
                {"sha256": self.store.file_digest(path)} if path is not None else {"hub": spec.path}
            )
            self.data[entry, split] = Stage(
                "data",
                {"version": STAGE_VERSIONS["data"], **content, **fields},
                locators={"data": str(path or spec.path), "where": where},
                resources=self.suite.resources,
                label=f"{entry}/{split}",
            )
        return self.data[entry, split]

    def _mixture(self, entry: str, split: str, spec: Split, where: str) -> Stage:
        """A data stage over other entries' data stages; each keeps its own filters and limit."""
        for name in spec.mixture:
            if name not in self.suite.data:
                message = unknown("data", name, self.suite.data, hint="the keys of `data:`")
                raise SuiteError(message, where=f"{where}.mixture")
            part: Split | None = getattr(self.suite.data[name], split)
            if part is not None and part.mixture:
                raise SuiteError(
                    f"'{name}' is a mixture itself", where=f"{where}.mixture", fix="name its parts"
                )
        limits = [n for n in (self.limit, spec.limit) if n is not None]
        return Stage(
            "data",
            {
                "version": STAGE_VERSIONS["data"],
                "mixture": spec.mixture,
                "seed": spec.mixture_seed,
                "stop": spec.mixture_stop,
                "limit": min(limits, default=None),
            },
            inputs={name: self._data(name, split) for name in spec.mixture},
            locators={"where": where},
            resources=self.suite.resources,
            label=f"{entry}/{split}",
        )

    def _train(self, variant: Variant) -> Stage:
        if not (variant.method and variant.objective and variant.data):
            raise AssertionError("an untrained use has no training stage")
        rows = self._data(variant.data, "train")
        more = {}
        for role, entry in variant.objective.more_data().items():
            if entry not in self.suite.data:
                message = unknown("data", entry, self.suite.data, hint="the keys of `data:`")
                raise SuiteError(message, where=f"variant {variant.id}: {role}")
            more[role] = self._data(entry, "train")
        stage = Stage(
            "train",
            {
                "version": STAGE_VERSIONS["train"],
                "model": self._model_config(variant.model),
                "device": self.executor.device(),
                "method": variant.method.identity(),
                "objective": variant.objective.identity(),
                "seed": variant.seed,
                "data_seed": variant.seed,
            },
            inputs={"train": rows, **more},
            locators=self._model_locators(variant.model),
            resources=self.suite.resources,
            label=variant.id,
        )
        predicted = predict_train(
            self.models[variant.model], variant.method, variant.objective,
            self._metrics(rows), self.store, str(self._model_config(variant.model)["dtype"]),
        )  # fmt: skip
        return replace(stage, predicted=predicted)

    def _metrics(self, stage: Stage) -> Mapping[str, Any]:
        """A data stage's counts, empty until it has run."""
        record = self.store.record(stage)
        return record.metrics if record is not None and record.ok else {}

    def _generate(self, variant: Variant, entry: str, train: Stage | None) -> Stage:
        inputs = {"data": self._data(entry, "test")}
        if variant.generate.num_fewshot:
            inputs["shots"] = self._data(entry, "train")
        stage = self._on_model("generate", variant, train, inputs)
        config = {**stage.config, "generate": variant.generate.model_dump()}
        rows = self._metrics(inputs["data"]).get("rows")
        predicted = predict_generate(
            self.models[variant.model], variant.generate.max_new_tokens, rows, self.store
        )
        return replace(stage, config=config, predicted=predicted)

    def _on_model(
        self, kind: str, variant: Variant, train: Stage | None, inputs: Mapping[str, Stage]
    ) -> Stage:
        """A stage that loads a checkpoint, or the untrained model."""
        config: dict[str, Any] = {"version": STAGE_VERSIONS[kind], "device": self.executor.device()}
        inputs = dict(inputs)
        if train is not None:
            inputs["checkpoint"] = train
        else:
            config["model"] = self._model_config(variant.model)
        return Stage(
            kind,
            config,
            inputs=inputs,
            locators=self._model_locators(variant.model),
            resources=self.suite.resources,
            label=variant.id if train is not None or kind == "generate" else variant.model,
        )

    def _scores(
        self,
        variant: Variant,
        scorer: Scorer,
        where: str,
        train: Stage | None,
        generate: Mapping[str, Stage],
    ) -> list[Scored]:
        label = getattr(scorer, "label", None)
        named = getattr(scorer, "data", None)
        found = []
        if scorer.reads == "predictions":
            for entry, predictions in generate.items():
                stage = Stage(
                    "score",
                    {"version": STAGE_VERSIONS["score"], "scorer": scorer.identity()},
                    inputs={"predictions": predictions},
                    resources=self.suite.resources,
                    label=f"{variant.id} {scorer.name}",
                )
                found.append(Scored(stage, scorer.name, entry, label))
            return found
        for entry in [named] if named else variant.evaluations:
            if entry not in self.suite.data or self.suite.data[entry].test is None:
                known = ", ".join(n for n, d in self.suite.data.items() if d.test is not None)
                raise SuiteError(
                    f"data entry '{entry}' has no test rows",
                    where=f"{where}.{scorer.name}.data",
                    fix=f"known: {known}",
                )
            stage = self._on_model("score", variant, train, {"data": self._data(entry, "test")})
            config = {**stage.config, "scorer": scorer.identity()}
            name = f"{stage.label} {label or f'{scorer.name} {entry}'}"
            found.append(
                Scored(replace(stage, config=config, label=name), scorer.name, entry, label)
            )
        return found

    def _contamination(self, paths: tuple[VariantPath, ...]) -> Iterator[Stage]:
        """For every training set and every test set it is judged on."""
        seen = set()
        for path in paths:
            if path.train is None:
                continue
            trained_on = [s for s in path.train.inputs.values() if s.kind == "data"]
            for rows, entry in itertools.product(trained_on, path.variant.evaluations):
                test = self._data(entry, "test")
                if (rows.key, test.key) not in seen:
                    seen.add((rows.key, test.key))
                    yield Stage(
                        "contamination",
                        {"version": STAGE_VERSIONS["contamination"], "n": CONTAMINATION_N},
                        inputs={"train": rows, "test": test},
                        label=f"{rows.label} in {test.label}",
                    )

    def _require_distinct_metrics(self) -> None:
        """Two scorers that would write into one column are told apart by a label."""
        seen: dict[tuple[str, Any], int] = {}
        for index, scorer in enumerate(self.scorers):
            name = (getattr(scorer, "label", None) or scorer.name, getattr(scorer, "data", None))
            if name in seen:
                raise SuiteError(
                    f"'{name[0]}' is measured twice (scorers[{seen[name]}] too)",
                    where=f"scorers[{index}]",
                    fix="give one of them a `label:`",
                )
            seen[name] = index
        titles: dict[tuple[str, Any], int] = {}
        for index, scorer in enumerate(self.scorers):
            for title in _titles(scorer):
                other = titles.setdefault((title, getattr(scorer, "data", None)), index)
                if other != index:
                    raise SuiteError(
                        f"'{title}' is a metric of scorers[{other}] too",
                        where=f"scorers[{index}].{scorer.name}",
                        fix="give one of them a `label:`",
                    )


def _titles(scorer: Scorer) -> list[str]:
    """The names of a scorer's metrics in tables, as the comparison gives them."""
    metrics, label = list(scorer.declared()), getattr(scorer, "label", None)
    if label is None:
        return metrics
    return [label] if len(metrics) == 1 else [f"{label} {metric}" for metric in metrics]


def _refuse_pair(variant: Variant) -> None:
    """A method that lacks what the objective's options ask of it is refused, with the reason."""
    if variant.method is None or variant.objective is None:
        return
    refusal = refusal_of(variant.method, variant.objective)
    if refusal is not None:
        raise SuiteError(
            f"method '{variant.method.name}' cannot be trained with '{variant.objective.name}'"
            f" as set: {refusal}",
            where=f"variant {variant.id}",
            fix="change the option with `overrides:`, or leave the cell out with `exclude:`",
        )
