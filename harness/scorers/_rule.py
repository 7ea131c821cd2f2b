"""Rules that know which of two answers is better: found, identified, loaded and checked."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from harness.errors import StageFailed
from harness.locate import package_suites

Rule = Callable[[Mapping[str, Any], str, str], float]
"""(row, one answer, another) -> above 0: the first is better, below: the second, 0: a tie."""
GROUP = "harness.rules"


@dataclass(frozen=True)
class Located:
    """Where a rule stands. `digest` is of its module's file, not of what that imports."""

    module: str
    function: str
    digest: str

    def load(self) -> Rule:
        """The function.

        Raises:
            StageFailed: the module has none of this name.
        """
        found = getattr(importlib.import_module(self.module), self.function, None)
        if not callable(found):
            raise StageFailed(
                "rule", f"{self.module} has no function '{self.function}'",
                fix="name one that takes a row and two answers",
            )  # fmt: skip
        return cast(Rule, found)


@cache
def located(name: str) -> Located:
    """The rule of an entry point, or of `module:function`; the module itself is not run.

    Raises:
        ValueError: there is none, with what there is.
    """
    known = {point.name: point.value for point in entry_points(group=GROUP)}
    module, _, function = known.get(name, name).partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        others = f" ({', '.join(sorted(known))})" if known else ""
        raise ValueError(
            f"rule '{name}' is neither `module:function` nor an entry point of {GROUP}{others}"
        )
    for full in _candidates(module):
        file = _file(full)
        if file is not None:
            return Located(full, function, hashlib.sha256(file.read_bytes()).hexdigest())
    raise ValueError(
        f"rule '{name}': there is no module '{module}'; install it, or put its folder on PYTHONPATH"
    )


def _candidates(module: str) -> Iterator[str]:
    yield module
    # The package's suites lie inside it when installed, beside it in a checkout.
    inside = package_suites().parent.name == "harness"
    yield f"{'harness.' if inside else ''}suites.{module}"


def _file(module: str) -> Path | None:
    """The source of a module; its packages are imported to find it."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.has_location else None


def require_sound(rule: Rule, name: str, row: Mapping[str, Any], one: str, other: str) -> int:
    """1, 0 or -1 as the rule prefers the first answer, neither, or the second.

    Raises:
        StageFailed: it gives no number, or prefers an answer for its place.
    """
    first, second = _sign(rule(row, one, other), name, row), _sign(rule(row, other, one), name, row)
    if first != -second:
        raise StageFailed(
            "rule",
            f"{name} prefers by place, not by answer: of row {row['id']} it says {first} for one"
            f" order and {second} for the other",
            fix="mend the rule",
        )
    return first


def _sign(value: Any, name: str, row: Mapping[str, Any]) -> int:
    if not isinstance(value, int | float) or math.isnan(value):
        raise StageFailed(
            "rule", f"{name} gave {value!r} for row {row['id']}, which is no number",
            fix="return a number above 0, 0, or below 0",
        )  # fmt: skip
    return (value > 0) - (value < 0)
