"""`harness compare`, and the same from Python: two variants, of suites or of files of results."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness import comparison as comparing
from harness import report as reporting
from harness.commands.report import stored
from harness.commands.session import store_at
from harness.commands.sides import is_file, opened_variant, side
from harness.comparison.gate import on_the_same_task
from harness.comparison.imported import compare_runs
from harness.comparison.result import Comparison
from harness.core.text import line
from harness.planning.planner import VariantPath
from harness.report.check.terminal import rows_table


def compare(variant: str, baseline: str, *, store: str | Path | None = None) -> Comparison:
    """Compare two variants on the same examples: `harness compare` from Python. Nothing is run.

        comparison = harness.compare("suite.yaml:lora-sft", "suite.yaml:full-sft")
        print(comparison.row("suite.yaml:lora-sft", "rougeL").difference)

    Args:
        variant, baseline: each as `SUITE:VARIANT`, of one suite or of two, or a file or folder of
            results, or a stored baseline. The comparison uses these names; a variant that is
            compared with itself is `SUITE:VARIANT (again)` as the baseline.
        store: the folder of the cached stages; default: HARNESS_STORE, else `results/store`.

    Raises:
        HarnessError: there is no such suite or variant, or some of its stages have not run.
    """
    folder = store_at(store)
    if any(map(is_file, (variant, baseline))):
        return _of_files(variant, baseline, folder)
    first, second = opened_variant(variant, folder), opened_variant(baseline, folder)
    base = _renamed(second[1], baseline if variant != baseline else f"{baseline} (again)")
    paths = (*base, *_renamed(first[1], variant))
    opened = first[0]
    merged = {**stored(second[0]), **stored(opened)}
    both = replace(
        opened.plan,
        paths=paths,
        baseline=base[0].variant.group,
        baselines={},
        contamination=(),
        claims=(),
        data={**second[0].plan.data, **opened.plan.data},
        checks={**second[0].plan.checks, **opened.plan.checks},
    )
    return comparing.compare(both, merged, opened.store)


def _of_files(variant: str, baseline: str, store: Path) -> Comparison:
    """The comparison of two sides of which at least one was read from a file."""
    base = baseline if variant != baseline else f"{baseline} (again)"
    ours = side(variant, store)
    runs = {base: on_the_same_task(side(baseline, store), ours).runs, variant: ours.runs}
    command = shlex.join(["harness", "compare", variant, baseline])
    return compare_runs(runs, base, suite="comparison", command=command)


def describe_comparison(variant: str, baseline: str, comparison: Comparison) -> str:
    """The comparison of two variants as text for the terminal."""
    head = f"{line(variant)} against the baseline {line(baseline)}"
    if any(map(is_file, (variant, baseline))):
        return f"{head}\n\n{rows_table(comparison, variant)}"
    return f"{head}\n\n{reporting.terminal_table(comparison)}"


def _renamed(paths: Sequence[VariantPath], name: str) -> list[VariantPath]:
    return [replace(p, variant=replace(p.variant, group=name)) for p in paths]
