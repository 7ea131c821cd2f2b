"""Which method goes with which objective, and why not: generated, never written by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from harness.core import registry
from harness.methods.base import Method
from harness.objectives.base import BASE, Objective
from harness.variants.names import Names


@dataclass(frozen=True)
class Pair:
    """A method and an objective with their default options; `refusal` is None where they work."""

    method: str
    objective: str
    refusal: str | None


def refusal_of(method: Method, objective: Objective, start: str | None) -> str | None:
    """Why these two, with the options they have, cannot be trained together; None if they can.

    Args:
        start: the objective whose checkpoint the training goes on from; None: the model as it is.
    """
    if method.elsewhere and (reason := objective.refuse_elsewhere()) is not None:
        return f"{method.name} has a service compute the steps, and {reason}"
    refused = method.refuse_objective(objective.name, start)
    if refused is not None:
        return refused
    needs = dict(objective.needs())
    if start is not None and objective.head == "score":
        needs["new_head"] = f"{objective.name} puts a score head on the checkpoint of {start}"
    if start is not None:
        needs["resume"] = f"{objective.name} goes on from the checkpoint of {start}"
    return lacking(method, needs)


def lacking(method: Method, needs: Mapping[str, str]) -> str | None:
    """The first trait that a method lacks of those asked for, with both reasons."""
    for trait, reason in needs.items():
        refused = method.refusal(trait)
        if refused is not None:
            return f"{reason}, and {refused}"
    return None


def pairs() -> Iterator[Pair]:
    """Every member of both axes, those from entry points too."""
    for objective in registry.names("objective"):
        names = Names(cast(type[Objective], registry.find("objective", objective)))
        start = None if names.start_name == BASE else names.start_name
        # What trains its last stage is what a method must carry. model_construct: a field that a
        # suite must give says nothing of the pair.
        aim = cast(Objective, registry.find("objective", names.stages[-1]).model_construct())
        for method in registry.names("method"):
            way = cast(Method, registry.find("method", method)())
            yield Pair(method, objective, refusal_of(way, aim, start))


def table() -> str:
    """The pairs as Markdown: `works`, or a number that the reasons below explain."""
    known = list(pairs())
    objectives = list(dict.fromkeys(pair.objective for pair in known))
    reasons = list(dict.fromkeys(pair.refusal for pair in known if pair.refusal))
    lines = [f"| method | {' | '.join(objectives)} |", "|---" * (len(objectives) + 1) + "|"]
    for method in dict.fromkeys(pair.method for pair in known):
        cells = [
            f"refused ({reasons.index(pair.refusal) + 1})" if pair.refusal else "works"
            for pair in known
            if pair.method == method
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    notes = [f"{number}. {reason}." for number, reason in enumerate(reasons, 1)]
    return "\n".join([*lines, "", *notes])
