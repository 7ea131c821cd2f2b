"""What of a suite executes, for whoever plans one that a stranger wrote, and the keys it needs."""

from __future__ import annotations

import os
from collections.abc import Iterator

from harness.core import from_yaml, registry
from harness.core.component import Component
from harness.planning.graph import Plan
from harness.planning.recipe import steps_of, trainings
from harness.scorers._asks import NamedLabeller
from harness.scorers.base import Subject
from harness.suite.suite import Suite
from harness.variants.steps import Labelled, Sampled
from harness.variants.variant import Variant


def executes(planned: Plan) -> list[str]:
    """Code and addresses that a suite brings along; plugins that are installed here, and that it
    uses; each once. Nothing of a suite that is not listed runs code of its author's."""
    lines = [*_models(planned.suite)]
    members = list(_components(planned))
    kinds = dict.fromkeys(registry.find("stage", s.kind) for s in planned.stages())
    for declared in [*(type(member) for member in members), *kinds]:
        package = registry.brought_by(declared)
        if package:
            lines.append(f"{declared.axis} {declared.name}: the installed package {package}")
    lines += [f"{each.axis} {each.name}: {words}" for each in members for words in each.runs()]
    resources = planned.suite.resources
    lines += [f"resources.report_to: {name} is told figures and names" for name in
              resources.report_to if name != "tensorboard"]  # fmt: skip
    lines += [f"resources.env: {name}={value}" for name, value in resources.env.items()]
    return list(dict.fromkeys(lines))


def unset_keys(planned: Plan) -> list[str]:
    """A sentence for each environment variable that should hold a key, and is not set here."""
    named = {name for member in _components(planned) for name in member.key_variables()}
    served = (spec.endpoint for spec in planned.suite.models.values())
    named |= {e.api_key_env for e in served if e is not None and e.api_key_env is not None}
    return [
        f"the environment variable {name} is not set here: what is still to be asked with its key"
        " will fail"
        for name in sorted(named)
        if not os.environ.get(name, "").strip()
    ]


def _models(suite: Suite) -> Iterator[str]:
    for name, spec in suite.models.items():
        if spec.endpoint is not None:
            told = spec.endpoint.told()
            yield f"models.{name}: requests to {told}: prompts are sent there"
        if spec.trust_remote_code:
            yield f"models.{name}: Python that came with {spec.path or name} (trust_remote_code)"
        if "/" in spec.attn_implementation:
            yield f"models.{name}: the kernel {spec.attn_implementation} of the hub"


def _components(planned: Plan) -> Iterator[Component]:
    yield planned.executor
    for index, scorer in enumerate(planned.scorers):
        yield scorer
        for asked in scorer.asks(Subject()).values():
            if isinstance(asked, NamedLabeller):
                yield from_yaml.build("labeller", asked.spec, f"scorers[{index}].{scorer.name}")
    for path in planned.paths:
        yield from _of_variant((path.draft or path).variant)
    for judge in planned.judges:
        yield from _of_variant(judge)


def _of_variant(variant: Variant) -> Iterator[Component]:
    for training in trainings(variant):
        yield training.method
        yield training.objective
    for step in steps_of(variant):
        if isinstance(step, Sampled):
            yield step.asked_by
        if isinstance(step, Labelled):
            yield step.labeller
