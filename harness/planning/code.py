"""What of a suite executes, for whoever plans one that a stranger wrote."""

from __future__ import annotations

from collections.abc import Iterator

from harness.core import component
from harness.core.component import Component
from harness.planning.graph import Plan
from harness.planning.recipe import labellings, trainings
from harness.suite.suite import Suite
from harness.variants.variant import Variant


def executes(planned: Plan) -> list[str]:
    """Code and addresses that a suite brings along; plugins that are installed here, and that it
    uses; each once. Nothing of a suite that is not listed runs code of its author's."""
    found = [*_models(planned.suite)]
    for made in _components(planned):
        package = component.brought_by(type(made))
        if package:
            found.append(f"{made.axis} {made.name}: the installed package {package}")
        found += [f"{made.axis} {made.name}: {told}" for told in made.runs()]
    resources = planned.suite.resources
    found += [f"resources.report_to: {name} is told figures and names" for name in
              resources.report_to if name != "tensorboard"]  # fmt: skip
    found += [f"resources.env: {name}={value}" for name, value in resources.env.items()]
    return list(dict.fromkeys(found))


def _models(suite: Suite) -> Iterator[str]:
    for name, spec in suite.models.items():
        if spec.trust_remote_code:
            yield f"models.{name}: Python that came with {spec.path or name} (trust_remote_code)"
        if "/" in spec.attn_implementation:
            yield f"models.{name}: the kernel {spec.attn_implementation} of the hub"


def _components(planned: Plan) -> Iterator[Component]:
    yield planned.executor
    for index, spec in enumerate(planned.suite.scorers):
        yield component.build("scorer", spec, f"scorers[{index}]")
    for path in planned.paths:
        yield from _of_variant((path.draft or path).variant)
    for judge in planned.judges:
        yield from _of_variant(judge)


def _of_variant(variant: Variant) -> Iterator[Component]:
    for training in trainings(variant):
        yield training.method
        yield training.objective
    for labels in labellings(variant):
        yield labels.asked_by
        yield labels.labeller
