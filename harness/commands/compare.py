"""Two variants against each other, of one suite or of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness import comparison as comparing
from harness import report as reporting
from harness.commands.session import Opened, open_suite, stored
from harness.core.errors import HarnessError, SuiteError, unknown
from harness.core.text import line
from harness.planning.planner import VariantPath


def compare_two(a: str, b: str, store: Path) -> tuple[str, bool]:
    """The paired comparison of two variants as text, B the baseline; and whether one has failed."""
    first, second = _one(a, store), _one(b, store)
    base = _renamed(second[1], b if a != b else f"{b} (again)")
    paths = (*base, *_renamed(first[1], a))
    opened = first[0]
    merged = {**stored(second[0]), **stored(opened)}
    both = replace(
        opened.plan,
        paths=paths,
        baseline=base[0].variant.group,
        baselines={},
        contamination=(),
        data={**second[0].plan.data, **opened.plan.data},
        checks={**second[0].plan.checks, **opened.plan.checks},
    )
    comparison = comparing.compare(both, merged, opened.store)
    head = f"{line(a)} against the baseline {line(b)}"
    return f"{head}\n\n{reporting.terminal_table(comparison)}", bool(comparison.failed)


def _one(reference: str, store: Path) -> tuple[Opened, list[VariantPath]]:
    suite, colon, name = reference.rpartition(":")
    if not colon:
        raise HarnessError(
            f"'{reference}' is not SUITE:VARIANT", fix="such as pocket/demo:lora-sft"
        )
    opened = open_suite(suite, (), store, None, None, ended=True)
    paths = [p for p in opened.plan.paths if name in (p.variant.id, p.variant.group)]
    if not paths:
        raise SuiteError(unknown("variant", name, (p.variant.group for p in opened.plan.paths)))
    used = {stage.key for path in paths for stage in path.stages()}
    checks = {key: made for key, made in opened.plan.checks.items() if key in used}
    opened.plan = replace(opened.plan, paths=tuple(paths), contamination=(), checks=checks)
    return opened, paths


def _renamed(paths: Sequence[VariantPath], name: str) -> list[VariantPath]:
    return [replace(p, variant=replace(p.variant, group=name)) for p in paths]
