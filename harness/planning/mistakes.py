"""All mistakes of a suite that do not depend on one another, so that they are told at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from harness.core import registry
from harness.core.errors import HarnessError, ModelError, SuiteError, joined
from harness.core.homes import unknown_key
from harness.core.locate import locate
from harness.suite.members import faults_of_members
from harness.suite.suite import Loaded, Suite
from harness.variants.expand import name_faults


def with_others(error: SuiteError | ModelError, loaded: Loaded) -> SuiteError | ModelError:
    """The error for which a suite is refused, with what else is wrong in it."""
    first = _unplaced(str(error), loaded)
    others = [_unplaced(message, loaded) for message in _mistakes(loaded)]
    heads = {first.partition("\n")[0]}
    messages = [first]
    for message in others:
        head = message.partition("\n")[0]
        messages += [] if head in heads else [message]
        heads.add(head)
    return error if len(messages) == 1 else type(error)(joined(messages))


def _unplaced(message: str, loaded: Loaded) -> str:
    return message.removeprefix(f"{loaded.path}: ")


def _mistakes(loaded: Loaded) -> Iterator[str]:
    suite = loaded.suite
    tree = {"scorers": suite.scorers, "matrix": suite.matrix, "executor": suite.executor}
    yield from faults_of_members(tree)
    # One that leaves nothing to go on with hides those behind it.
    with contextlib.suppress(HarnessError):
        yield from map(str, name_faults(suite))
    yield from _wrong_settings(suite)
    yield from _lost_files(loaded)


def _wrong_settings(suite: Suite) -> Iterator[str]:
    """Options that no method or objective has, in overrides and as axes."""
    settings: list[tuple[str, Iterable[str]]] = [("matrix", suite.matrix)]
    settings += [(f"overrides[{n}].set", rule.set) for n, rule in enumerate(suite.overrides)]
    for where, keys in settings:
        for key in keys:
            name, _, path = key.partition(".")
            axis = next((a for a in ("method", "objective") if name in registry.names(a)), "")
            option = path.partition(".")[0]
            with contextlib.suppress(HarnessError):
                declared = registry.find(axis, name) if axis and option else None
                if declared is not None and option not in declared.model_fields:
                    yield unknown_key(option, declared, f"{where}.{name}")


def _lost_files(loaded: Loaded) -> Iterator[str]:
    """Files and folders of the models and rows that are not there."""
    suite = loaded.suite
    named = [(f"models.{name}", spec.path) for name, spec in suite.models.items()]
    for name, entry in suite.data.items():
        for part in ("train", "validation", "test"):
            split = getattr(entry, part)
            named += [(f"data.{name}.{part}", split.path)] if split is not None else []
    for place, path in named:
        try:
            if path:
                locate(path, loaded.path, place)
        except SuiteError as error:
            yield str(error)
