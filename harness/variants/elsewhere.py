"""Variants beside the matrix's own cells: checkpoints trained elsewhere, and merged adapters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from harness.core.errors import SuiteError, unknown
from harness.suite.suite import Suite

V = TypeVar("V", bound=Any)
"""A variant (of harness.variants.variant, which imports this module)."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]*")


def checkpoint_cells(suite: Suite, evaluations: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Fields of a variant for each checkpoint trained elsewhere that the suite names.

    Raises:
        SuiteError: a name that cannot be a variant's, or a model that the suite does not have.
    """
    for name, spec in suite.checkpoints.items():
        where = f"checkpoints.{name}"
        if not _NAME.fullmatch(name):
            raise SuiteError(
                f"'{name}' is no name for a variant",
                where=where,
                fix="use letters, digits, `.`, `_`, `=` and `-`",
            )
        if spec.model is None and len(suite.models) > 1:
            raise SuiteError(
                "which model was it trained from?",
                where=f"{where}.model",
                fix=f"name one of: {', '.join(suite.models)}",
            )
        model = spec.model or next(iter(suite.models))
        if model not in suite.models:
            message = unknown("model", model, suite.models, hint="the keys of `models:`")
            raise SuiteError(message, where=f"{where}.model")
        yield {
            "id": name,
            "group": name,
            "model": model,
            "data": None,
            "method": None,  # told by its files
            "seed": 0,
            "generate": suite.generate,
            "evaluations": tuple(evaluations),
            "labels": {"model": model, "objective": "trained elsewhere"},
            "checkpoint": name,
        }


def merged_siblings(patterns: Sequence[str], variants: Sequence[V]) -> list[V]:
    """A second variant for each one that a pattern means, to be scored with its adapter merged.

    Raises:
        SuiteError: a pattern that means no variant.
    """
    for index, pattern in enumerate(patterns):
        if not any(matches(variant, pattern) for variant in variants):
            message = unknown("variant", pattern, (v.group for v in variants))
            raise SuiteError(message, where=f"evaluate_merged[{index}]")
    return [
        replace(
            variant,
            id=f"{variant.group}-merged{variant.id.removeprefix(variant.group)}",
            group=f"{variant.group}-merged",
            labels={**variant.labels, "merged": "true"},
            merged_from=variant.group,
        )
        for variant in variants
        if any(matches(variant, pattern) for pattern in patterns)
    ]


def is_sibling(merged: Any, variant: Any) -> bool:
    """Whether `merged` is `variant` with its adapter merged."""
    return (merged.merged_from, merged.seed) == (variant.group, variant.seed)


def matches(variant: Any, pattern: str) -> bool:
    """Whether a pattern such as `lora*` means this variant, with or without its seed."""
    return fnmatchcase(variant.id, pattern) or fnmatchcase(variant.group, pattern)


def require_own_names(
    uses: Sequence[Any], cells: Sequence[Any], given: Sequence[Any], merged: Sequence[Any]
) -> None:
    """Variants of different origins must not have one name.

    Raises:
        SuiteError: two of them would be one variant.
    """
    for place, named in (("base", uses), ("checkpoints", given)):
        others = {
            v.group for kind in (uses, cells, given, merged) if kind is not named for v in kind
        }
        both = {variant.group for variant in named} & others
        if both:
            raise SuiteError(
                f"another variant is called '{min(both)}' too",
                where=f"{place}.{min(both)}",
                fix="give this one another name",
            )
