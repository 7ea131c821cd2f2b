"""What a check or a comparison may name as a side: a suite's variant, a stored baseline, a file or
folder of results."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from harness import importers
from harness.commands.report import NotStored, stored
from harness.commands.run import run_stages
from harness.commands.session import Opened, open_suite
from harness.comparison.gate import CANDIDATE, Side
from harness.comparison.imported import by_variant
from harness.comparison.measured import Examples, Measured, Run, RunCosts, conditions_of
from harness.comparison.run_costs import run_costs
from harness.comparison.scores import Column, Reader, Scores
from harness.core.errors import DataError, HarnessError, shortened
from harness.core.locate import BASELINE_NAME, BASELINES
from harness.core.text import number_of
from harness.importers.files import Unreadable
from harness.models.hub import hub_snapshot
from harness.planning.graph import learnt
from harness.planning.planner import VariantPath
from harness.store.stage import Record
from harness.variants.called import the_one_called


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
    file = _stored(name)
    if file is not None:
        return Side(name, _chosen(importers.read(file), "", str(file)))
    if ":" not in name:
        raise HarnessError(
            f"'{shortened(name)}' is no file, no folder and no stored baseline", fix=_CHOICES
        )
    return Side(name, suite_runs(name, store))


_CHOICES = (
    "give SUITE:VARIANT (such as pocket/demo:lora-sft), a file or folder of results (`harness list"
    " importers`), or the name of a stored baseline (`harness baseline show`)"
)


def stored_file(name: str) -> Path | None:
    """The file of the stored baseline of this name; None if it can be no baseline's name, such as
    one that leads to another folder."""
    return BASELINES / f"{name}.json" if BASELINE_NAME.fullmatch(name) else None


def _stored(name: str) -> Path | None:
    file = stored_file(name)
    return file if file is not None and file.is_file() else None


def is_file(name: str) -> bool:
    """Whether a name means a file, a folder or a stored baseline, and not a suite's variant."""
    return _path(name)[0] is not None or _stored(name) is not None or ":" not in name


def _path(name: str) -> tuple[Path | None, str]:
    """(file or folder, variant) that a name means; no path if there is none."""
    if _exists(name):
        return Path(name), ""
    head, colon, variant = name.rpartition(":")
    if colon and head and _exists(head) and Path(head).suffix not in (".yaml", ".yml"):
        return Path(head), variant
    return None, ""


def _exists(name: str) -> bool:
    try:
        return bool(name) and Path(name).exists()
    except (OSError, ValueError):  # too long for a name, or behind a folder that may not be read
        return False


def _chosen(runs: Sequence[Run], variant: str, where: str) -> Mapping[int, Run]:
    try:
        groups = by_variant(runs)
    except DataError as error:
        raise Unreadable(error.message, where=where, fix=error.fix) from None
    if not groups:
        raise Unreadable("holds no metric", where=where)
    if variant:
        variant = the_one_called(variant, {group: {} for group in groups}, where)
    if not variant and len(groups) > 1:
        names = ", ".join(list(groups)[:20])
        raise HarnessError(
            f"{where} has {number_of(len(groups), 'variant')}: {names}",
            fix=f"name one: '{where}:VARIANT'",
        )
    seeds = groups[variant or next(iter(groups))]
    for run in seeds.values():
        if run.error or not run.metrics:
            raise Unreadable(f"the run failed: {run.error or 'it has no metrics'}", where=where)
    return seeds


def opened_variant(
    reference: str, store: Path, settings: Sequence[str] = ()
) -> tuple[Opened, list[VariantPath]]:
    """A suite whose plan has one variant alone, and the paths of that variant.

    Args:
        reference: SUITE:VARIANT.
        settings: changes to the suite.

    Raises:
        HarnessError: there is no such suite or variant.
    """
    suite, colon, name = reference.rpartition(":")
    if not colon:
        raise HarnessError(
            f"'{reference}' is not SUITE:VARIANT", fix="such as pocket/demo:lora-sft"
        )
    opened = open_suite(suite, settings, store, None, None, ended=True)
    paths = [path for path in opened.plan.paths if path.variant.id == name]
    if not paths:
        labels = {path.variant.group: path.variant.labels for path in opened.plan.paths}
        group = the_one_called(name, labels, reference)
        paths = [path for path in opened.plan.paths if path.variant.group == group]
    used = {stage.key for path in paths for stage in path.stages()}
    checks = {key: stages for key, stages in opened.plan.checks.items() if key in used}
    data = {name: stage for name, stage in opened.plan.data.items() if stage.key in used}
    opened.only = paths[0].variant.group
    opened.plan = replace(
        opened.plan, paths=tuple(paths), contamination=(), checks=checks, data=data
    )
    return opened, paths


def suite_runs(reference: str, store: Path, settings: Sequence[str] = ()) -> dict[int, Run]:
    """The runs of a suite's variant, by seed, with the scores of all examples.

    Raises:
        HarnessError: there is no such suite or variant, some of its stages have not run, or it
            failed.
    """
    opened, paths = opened_variant(reference, store, settings)
    try:
        records = stored(opened)
    except NotStored as lack:
        raise HarnessError(
            f"{reference} is not in the store {opened.store.root}: {lack.message}",
            fix=f"run it here: {lack.fix}\n  or, in fresh clones that have no store, name a stored"
            f" baseline in its place, made once where it has run: {store_baseline(reference)}, with"
            f" {BASELINES}/NAME.json committed",
        ) from None
    failed = [s for path in paths for s in path.stages()
              if s.key not in records or not records[s.key].ok]  # fmt: skip
    if failed:
        error = records[failed[0].key].error if failed[0].key in records else None
        raise Unreadable(
            f"{failed[0].kind} {failed[0].label} failed: {(error or {}).get('message', '')}",
            where=reference,
        )  # fmt: skip
    read = Reader(records, opened.store, learnt(opened.plan))
    source = {"tool": "harness", "file": reference, "suite": opened.plan.suite.name}
    return {
        path.variant.seed: replace(_run(path, read(path), source), costs=_costs(path, records))
        for path in paths
    }


def store_baseline(reference: str) -> str:
    """The command that stores a suite's variant as a baseline."""
    return shlex.join(["harness", "baseline", "set", "NAME", reference])


def _costs(path: VariantPath, records: Mapping[str, Record]) -> RunCosts:
    trained = None if path.train is None else records[path.train.key]
    return run_costs(trained, [records[stage.key] for stage in path.generate.values()], records)


def scored(model: str, suite: str, store: Path) -> Side:
    """A checkpoint that was trained elsewhere, scored now as the suite scores its variants.

    Args:
        model: a folder with an adapter, as PEFT saves it, or with a whole model; or the name of
            such a repository on the hub, with `@REVISION` if not its main branch is meant.

    Raises:
        HarnessError: the suite or the folder has a mistake, or the hub has no such model.
        Unreadable: a stage failed.
    """
    folder = Path(model) if _exists(model) else hub_snapshot(model, "--model")
    settings = (f"checkpoints.{CANDIDATE}.path={json.dumps(str(folder.resolve()))}",)
    opened = open_suite(suite, settings, store, CANDIDATE, None)
    run_stages(opened)
    return Side(model, suite_runs(f"{suite}:{CANDIDATE}", store, settings))


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
    metric = Measured(
        column[0], column[1], scores.sample.point(), scores.higher_is_better,
        scores.sample.aggregate, dict(scores.sample.columns), tables[id(keys)],
        n=scores.sample.n, conditions=conditions_of(scores), bounds=scores.bounds, unit=scores.unit,
        original=scores,
    )  # fmt: skip
    return metric.sorted()
