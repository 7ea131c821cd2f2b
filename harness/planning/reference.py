"""The stage that computes a reference's log-probabilities once, for all that starts there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.methods.base import Method
from harness.planning.graph import STAGE_VERSIONS
from harness.planning.sources import Sources
from harness.stages._cost import predict_reference
from harness.store.stage import Stage
from harness.suite.suite import Suite
from harness.variants.steps import Trained

REFERENCE = "reference"
"""Kind of the stage, and its role among a training stage's inputs."""


def reference_of(
    method: Method,
    step: Trained,
    training: Mapping[str, Any],
    rows: Stage,
    start: Stage | None,
    locators: Mapping[str, str],
    suite: Suite,
    sources: Sources,
    model: str,
) -> Stage:
    """The reference stage of a training stage.

    Its config has what the figures depend on. A learning rate, a loss or a number of epochs is not
    among it, nor is a seed, but where a fresh adapter changes the output before it is trained.

    Args:
        training: the training stage's config.
        rows: what it trains on. start: the stage whose checkpoint it goes on from.
        model: entry of `models:`, which `locators` find.
    """
    objective, fields = step.objective, step.reference or {}
    config: dict[str, Any] = {
        "version": STAGE_VERSIONS[REFERENCE],
        **{name: training[name] for name in ("model", "device", "method")},
        "objective": {"name": objective.name, "version": objective.VERSION, **fields},
    }
    inputs = {"train": rows}
    if start is not None:
        inputs["start"] = start
    elif "starts_at_base" in method.exceptions():
        config["seed"] = training["seed"]
    limit = int(fields.get("max_length", 1024))
    predicted = predict_reference(
        sources.models[model], limit, training["model"]["dtype"], sources.counts(rows),
        sources.rates,
    )  # fmt: skip
    return Stage(
        REFERENCE,
        config,
        inputs,
        locators,
        resources=suite.resources,
        label=f"{model if start is None else start.label} on {rows.label}",
        predicted=predicted,
    )
