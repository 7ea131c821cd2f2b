"""What a check or a comparison may name as a side: a suite's variant, a stored baseline, a file or
folder of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from harness import importers
from harness.commands.report import stored
from harness.commands.session import open_suite
from harness.comparison.gate import Side
from harness.comparison.imported import by_variant
from harness.comparison.measured import MODEL, TEMPLATE, Examples, Measured, Run
from harness.comparison.scores import Column, Reader, Scores
from harness.core.errors import DataError, HarnessError, SuiteError, unknown
from harness.core.files import digest_json
from harness.importers.files import Unreadable
from harness.planning.graph import learnt
from harness.planning.planner import VariantPath

BASELINES = Path("baselines")
"""The folder of stored baselines."""


def side(name: str, store: Path) -> Side:
    """The side of this name.

    Args:
        name: a file or folder of results; the name of a stored baseline; or SUITE:VARIANT. Of a
            file with several variants, `FILE:VARIANT`.

    Raises:
        Unreadable: the results cannot be read.
        HarnessError: there is no such thing, or it has several variants and none is named.
    """
    path, variant = _path(name)
    if path is not None:
        return Side(name, _chosen(importers.read(path), variant, str(path)))
    file = stored_file(name)
    if file.is_file():
        return Side(name, _chosen(importers.read(file), "", str(file)))
    if ":" not in name:
        raise HarnessError(f"'{name}' is no file, no folder and no stored baseline", fix=_CHOICES)
    return Side(name, suite_runs(name, store))


_CHOICES = (
    "give SUITE:VARIANT (such as pocket/demo:lora-sft), a file or folder of results (`harness list"
    " importers`), or the name of a stored baseline (`harness baseline show`)"
)


def stored_file(name: str) -> Path:
    """The file of a stored baseline.

    Raises:
        HarnessError: the name is no plain name, and would lead to another folder.
    """
    if "/" in name or "\\" in name or name.startswith("."):
        return BASELINES / "-"
    return BASELINES / f"{name}.json"


def is_file(name: str) -> bool:
    """Whether a name means a file, a folder or a stored baseline, and not a suite's variant."""
    return _path(name)[0] is not None or stored_file(name).is_file() or ":" not in name


def _path(name: str) -> tuple[Path | None, str]:
    """(file or folder, variant) that a name means; no path if there is none."""
    if Path(name).exists():
        return Path(name), ""
    head, colon, variant = name.rpartition(":")
    if colon and head and Path(head).exists() and Path(head).suffix not in (".yaml", ".yml"):
        return Path(head), variant
    return None, ""


def _chosen(runs: Sequence[Run], variant: str, where: str) -> Mapping[int, Run]:
    try:
        groups = by_variant(runs)
    except DataError as error:
        raise Unreadable(error.message, where=where, fix=error.fix) from None
    if variant and variant not in groups:
        raise HarnessError(unknown("variant", variant, groups, where=where))
    if not variant and len(groups) > 1:
        names = ", ".join(list(groups)[:20])
        raise HarnessError(
            f"{where} has {len(groups)} variants: {names}", fix=f"name one: '{where}:VARIANT'"
        )
    seeds = groups[variant or next(iter(groups))]
    for run in seeds.values():
        if run.error or not run.metrics:
            raise Unreadable(f"the run failed: {run.error or 'it has no metrics'}", where=where)
    return seeds


def suite_runs(reference: str, store: Path) -> dict[int, Run]:
    """The runs of a suite's variant, by seed, with the scores of all examples.

    Raises:
        HarnessError: there is no such suite or variant, some of its stages have not run, or it
            failed.
    """
    name, _, variant = reference.rpartition(":")
    opened = open_suite(name, (), store, None, None, ended=True)
    paths = [p for p in opened.plan.paths if variant in (p.variant.id, p.variant.group)]
    if not paths:
        groups = [path.variant.group for path in opened.plan.paths]
        raise SuiteError(unknown("variant", variant, groups, where=name))
    records = stored(opened)
    failed = [s for path in paths for s in path.stages()
              if s.key not in records or not records[s.key].ok]  # fmt: skip
    if failed:
        error = records[failed[0].key].error if failed[0].key in records else None
        raise Unreadable(
            f"{failed[0].kind} {failed[0].label} failed: {(error or {}).get('message', '')}",
            where=reference,
        )  # fmt: skip
    read = Reader(records, opened.store, learnt(opened.plan))
    source = {"tool": "harness", "file": f"{name}:{variant}", "suite": opened.plan.suite.name}
    return {path.variant.seed: _run(path, read(path), source) for path in paths}


def _run(path: VariantPath, scores: Mapping[Column, Scores], source: Mapping[str, str]) -> Run:
    tables: dict[int, Examples] = {}
    metrics = tuple(_measured(column, scored, tables) for column, scored in scores.items())
    key = path.train.key if path.train is not None else ""
    return Run(path.variant.group, metrics, path.variant.seed, {**source, "training": key})


def _measured(column: Column, scores: Scores, tables: dict[int, Examples]) -> Measured:
    """A metric of a suite, which keeps its scores, and its conditions for stored baselines."""
    keys = scores.keys
    if id(keys) not in tables:
        tables[id(keys)] = Examples(
            pa.array(keys.ids, pa.string()),
            None if keys.together.single else pa.array(keys.clusters, pa.string()),
        )
    conditions = {"scorer": digest_json(scores.version)[:16], "rows": scores.rows[:16]}
    for name, value in ((MODEL, scores.model), (TEMPLATE, scores.template),
                        ("reward model", scores.judge)):  # fmt: skip
        if value:
            conditions[name] = value[:16]
    metric = Measured(
        column[0], column[1], scores.sample.point(), scores.higher_is_better,
        scores.sample.aggregate, dict(scores.sample.columns), tables[id(keys)],
        n=scores.sample.n, conditions=conditions, bounds=scores.bounds, unit=scores.unit,
        original=scores,
    )  # fmt: skip
    return metric.sorted()
