"""Variants beside the matrix's own cells: checkpoints trained elsewhere, and merged adapters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from harness.core.errors import SuiteError, unknown
from harness.suite.suite import Suite
from harness.variants.called import called
from harness.variants.variant import Cell, Elsewhere, Merged, Untrained, Variant

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]*")


def checkpoints_of(suite: Suite, evaluations: Sequence[str]) -> Iterator[Elsewhere]:
    """A variant for each checkpoint trained elsewhere that the suite names.

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
        models = [name for name, model in suite.models.items() if model.endpoint is None]
        if spec.model is None and len(models) != 1:
            raise SuiteError(
                "which model was it trained from?",
                where=f"{where}.model",
                fix=f"name one of: {', '.join(models) or 'a model whose files are here'}",
            )
        model = spec.model or models[0]
        if model not in models:
            message = unknown("model", model, models, hint="the keys of `models:` with files here")
            raise SuiteError(message, where=f"{where}.model")
        yield Elsewhere(
            id=name,
            group=name,
            model=model,
            generate=suite.generate,
            evaluations=tuple(evaluations),
            # Its files tell the method.
            labels={"model": model, "objective": "trained elsewhere"},
        )


def merged_siblings(patterns: Sequence[str], variants: Sequence[Cell | Elsewhere]) -> list[Merged]:
    """A second variant for each one that a pattern means, to be scored with its adapter merged.

    Raises:
        SuiteError: a pattern that means no variant.
    """
    labels, meant = {v.group: v.labels for v in variants}, set[str]()
    for index, pattern in enumerate(patterns):
        if any(matches(variant, pattern) for variant in variants):
            continue
        groups = called(pattern, labels)
        if not groups:
            message = unknown("variant", pattern, (v.group for v in variants))
            raise SuiteError(message, where=f"evaluate_merged[{index}]")
        meant.update(groups)
    return [
        Merged(
            id=f"{variant.group}-merged{variant.id.removeprefix(variant.group)}",
            group=f"{variant.group}-merged",
            model=variant.model,
            generate=variant.generate,
            evaluations=variant.evaluations,
            labels={**variant.labels, "merged": "true"},
            seed=variant.seed,
            of=variant,
        )
        for variant in variants
        if variant.group in meant or any(matches(variant, pattern) for pattern in patterns)
    ]


def matches(variant: Variant, pattern: str) -> bool:
    """Whether a pattern such as `lora*` means this variant, with or without its seed."""
    return fnmatchcase(variant.id, pattern) or fnmatchcase(variant.group, pattern)


def require_own_names(
    uses: Sequence[Untrained],
    cells: Sequence[Cell],
    checkpoints: Sequence[Elsewhere],
    merged: Sequence[Merged],
) -> None:
    """Variants of different origins must not have one name.

    Raises:
        SuiteError: two of them would be one variant.
    """
    kinds: dict[str, Sequence[Variant]] = {
        "base": uses, "checkpoints": checkpoints, "": [*cells, *merged],
    }  # fmt: skip
    for place in ("base", "checkpoints"):
        others = {v.group for other, named in kinds.items() if other != place for v in named}
        both = {variant.group for variant in kinds[place]} & others
        if both:
            raise SuiteError(
                f"another variant is called '{min(both)}' too",
                where=f"{place}.{min(both)}",
                fix="give this one another name",
            )
