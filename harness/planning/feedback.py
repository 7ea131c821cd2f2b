"""Rows that a recipe makes on its way: a policy's answers are sampled, and an AI labels them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from harness.core.errors import SuiteError, unknown
from harness.data.preference_rule import find_rule
from harness.executors.base import Executor
from harness.labellers.base import Labeller
from harness.models.files import ModelInfo
from harness.objectives._feedback import Feedback
from harness.objectives.base import Objective
from harness.planning.graph import STAGE_VERSIONS, parts
from harness.planning.sources import Sources
from harness.stages._cost import predict_label
from harness.stages.sample import Sample, Sampling
from harness.store.stage import Stage
from harness.suite.suite import Suite
from harness.variants.recipe import labeller_of
from harness.variants.recipe_names import place_of
from harness.variants.variant import Variant

_HOLD = ("preference", "ranked")
"""Layouts of rows that hold preferences, which a labeller can be checked by."""


def entry_of(variant: Variant, asked: Objective) -> str:
    """The data entry whose prompts are answered."""
    return asked.data or variant.data or ""


def labels_of(
    variant: Variant,
    policy: Stage,
    suite: Suite,
    sources: Sources,
    executor: Executor,
    train: Callable[[Variant], Stage],
) -> tuple[Stage, tuple[Stage, ...]]:
    """The label stage of a variant, with the sample stage before it, and the stages that hold its
    labels against what is known: they are no part of it, so that knowing more labels nothing again.

    Args:
        policy: the training stage whose checkpoint answers.
        train: the training stage of a model that the labeller reads.

    Raises:
        SuiteError: rows, a model or a file that the suite does not have.
    """
    asked = variant.feedback
    labeller = None if asked is None else labeller_of(suite, asked)
    if asked is None or asked.feedback is None or labeller is None:
        raise AssertionError("nothing is labelled")
    entry, how = entry_of(variant, asked), asked.feedback
    if entry not in suite.data:
        message = unknown("data", entry, suite.data, hint="the keys of `data:`")
        raise SuiteError(message, where=place_of(suite, "objective", asked.name, "data"))
    rows = known = sources.rows(entry, "train", f"{variant.id} answers its prompts")
    samples = _samples(variant, policy, how, rows, suite, sources, executor)
    # A worker needs every field; those that change no label are not hashed.
    locators = {"labeller": json.dumps(labeller.model_dump(mode="json"))}
    config: dict[str, Any] = {"device": executor.device(), "labeller": labeller.identity()}
    info: ModelInfo | None = None
    judges: dict[str, Stage] = {}
    for role in labeller.beside:
        judges[role] = train(variant.judges[role])
        name = variant.judges[role].model
        info, own = sources.model(name), sources.model_locators(name)
        locators |= {f"{role}.{key}": place for key, place in own.items()}
    if labeller.reads_model:
        name = _model(
            labeller, variant, suite, place_of(suite, "objective", asked.name, "labeller")
        )
        info = sources.model(name)
        config["model"] = sources.model_config(name)
        locators |= sources.model_locators(name)
    dtype = config.get("model", {}).get("dtype", executor.dtype())

    def stage(kind: str, more: Mapping[str, Any], read: Stage, answers: int, **given: Any) -> Stage:
        config_ = {"version": STAGE_VERSIONS[kind], **config, **more}
        reads, counts = labeller.sequences(answers), sources.counts(read)
        predicted = predict_label(
            info, reads, given.pop("options"), dtype, counts, sources.rates,
            labeller.calls_at_once(),
        )  # fmt: skip
        inputs = {**given.pop("inputs"), **judges}
        return Stage(kind, config_, inputs, locators, suite.resources, predicted=predicted, **given)

    label = stage(
        "label", {"label": dict(how.label)}, rows, how.sample["samples"],
        inputs={"samples": samples}, options=how.sample, label=f"{policy.label} by {labeller.name}",
    )  # fmt: skip
    checks = []
    if suite.data[entry].validation is not None:  # which a labeller of ours was not trained on
        known = sources.rows(entry, "validation")
    taught = (made.inputs["train"] for made in judges.values() if "train" in made.inputs)
    seen = any(parts(read) & parts(known) for read in taught)  # the labeller's training rows
    if how.check and sources.counts(known).get("layout", _HOLD[0]) in _HOLD:
        checks.append(stage(
            "check", {"check": how.check, "tie": how.label["tie"], "seen": seen}, known, 2,
            inputs={"data": known}, options={"prompts": how.check, "max_new_tokens": 0},
            label=f"{known.label} by {labeller.name}",
        ))  # fmt: skip
    if how.truth is not None:
        where = place_of(suite, "objective", asked.name, "truth")
        digest = sources.store.file_digest
        path, found = find_rule(how.truth, sources.file, digest, where)
        checks.append(Stage(
            "truth", {"version": STAGE_VERSIONS["truth"], "truth": found},
            {"labels": label, "samples": samples}, {"truth": path}, suite.resources,
            label=label.label,
        ))  # fmt: skip
    return label, tuple(checks)


def _samples(
    variant: Variant,
    policy: Stage,
    how: Feedback,
    rows: Stage,
    suite: Suite,
    sources: Sources,
    executor: Executor,
) -> Stage:
    sample = Sample(
        device=executor.device(),
        sample=Sampling(**how.sample, seed=variant.seed),
        place=sources.place(variant.model),
    )
    return sample.stage(
        {"data": rows, "checkpoint": policy},
        label=policy.label,
        resources=suite.resources,
        known=sources.known(variant.model, rows, policy.config["model"]["dtype"]),
    )


def _model(labeller: Labeller, variant: Variant, suite: Suite, where: str) -> str:
    """The entry of `models:` that judges; the cell's own where none is named."""
    name = getattr(labeller, "model", None) or variant.model
    if name not in suite.models:
        message = unknown("model", name, suite.models, hint="the keys of `models:`")
        raise SuiteError(message, where=f"{where}.{labeller.name}.model")
    return str(name)
