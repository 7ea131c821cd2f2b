"""`harness list` and `harness init`: list what there is, and write a suite to start from."""

from __future__ import annotations

import inspect
import json
import textwrap
import time
from pathlib import Path

import yaml

from harness.commands.keys import options, schema
from harness.core import registry
from harness.core.component import Component
from harness.core.errors import HarnessError
from harness.core.files import write_atomic
from harness.core.locate import packaged_suites
from harness.core.text import number_of
from harness.objectives.base import Objective
from harness.scorers._lm_eval_checks import unknown_task
from harness.scorers._lm_eval_index import Index
from harness.scorers._lm_eval_registry import library
from harness.store.store import Store
from harness.variants.names import Names, stages_of


def members(axis: str, name: str | None) -> str:
    """The members of an axis with a summary of each, or the full documentation of one.

    Args:
        axis: such as `method`.
        name: the member to document in full.
    """
    if name is not None:
        return _page(registry.find(axis, name))
    lines = []
    for member in registry.names(axis):
        declared = registry.find(axis, member)
        summary = (inspect.getdoc(declared) or "").split("\n\n")[0]
        lines.append(f"{member:<16} {textwrap.shorten(summary, 96)}")
        if issubclass(declared, Objective):
            lines += [f"{'':<16}   {line}" for line in facts(declared)]
    return "\n".join([*lines, "", f"one in full: harness list {axis}s NAME"])


def facts(declared: type[Objective]) -> list[str]:
    """Lines on an objective: the rows it trains on, its recipe, and its paper."""
    recipe = " -> ".join(stages_of(declared))
    beside = "".join(f", with a {name} model" for name in Names(declared).beside)
    lines = [f"rows: {', '.join(declared.layouts)}", f"recipe: {recipe}{beside}"]
    return [*lines, f"paper: {declared.paper}"] if declared.paper else lines


def _page(declared: type[Component]) -> str:
    lines = [declared.name, "", inspect.getdoc(declared) or "", ""]
    if issubclass(declared, Objective):
        lines += [*facts(declared), ""]
    if declared.model_fields:
        lines.append("options:")
    return "\n".join([*lines, *options(declared)])


def suites() -> str:
    """The suites of the package, with their descriptions."""
    lines = []
    for name, path in packaged_suites().items():
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        about = tree.get("description", "") if isinstance(tree, dict) else ""
        lines.append(f"{name:<20} {textwrap.shorten(' '.join(about.split()), 90)}")
    return "\n".join([*lines, "", "run one: harness run NAME"])


def tasks(part: str | None) -> str:
    """The benchmark tasks that `lm_eval` scores, from lm-evaluation-harness's own files.

    Args:
        part: a part of their names; None: only where they lie is listed.
    """
    names = Index().names()
    if part is None:
        folders = sorted(path.name for path in library().iterdir() if path.is_dir())
        families = textwrap.fill("  ".join(n for n in folders if n[0] not in "._"), 100)
        return (
            f"{families}\n\n{number_of(len(names), 'task')}, groups and tags: harness list"
            " tasks PART"
        )
    shown = {name: kind for name, kind in sorted(names.items()) if part.lower() in name.lower()}
    if not shown:
        raise HarnessError(unknown_task(part, names))
    lines = [f"{kind:<6} {name}" for name, kind in shown.items()]
    note = "a group is scored as one, with lm-eval's mean over its tasks; a tag is a list of tasks"
    return "\n".join([*lines, "", f"{len(lines):,} of {len(names):,}; {note}"])


def stages(store: Path, kind: str | None, status: str | None, text: str) -> str:
    """The stages in a store, the newest first.

    Args:
        kind: only stages of this kind.
        status: only stages with this status.
        text: only stages with this text in their label or configuration.
    """
    if not store.is_dir():
        raise HarnessError(f"there is no store at {store}", fix="harness run SUITE makes one")
    rows = Store(store).query(kind, status, text)
    width = max([len("for"), *(len(row["label"]) for row in rows)])
    heads = f"{'for':<{width}} {'took':>9} {'size':>11}  finished"
    lines = [f"{'stage':<14} {'state':<7} {'key':<13} {heads}"]
    for row in rows:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["finished"] or 0))
        lines.append(
            f"{row['kind']:<14} {row['status']:<7} {row['key'][:12]:<13} {row['label']:<{width}}"
            f" {row['seconds'] or 0:>7.1f} s {row['bytes'] / 2**20:>7.2f} MiB  {when}"
        )
    size = sum(row["bytes"] for row in rows) / 2**20
    return "\n".join([*lines, f"{number_of(len(rows), 'stage')}, {size:.1f} MiB"])


def write_starter(path: Path, *, force: bool) -> str:
    """Write a commented suite, and the JSON Schema that lets an editor check and complete it.

    Raises:
        HarnessError: the file exists already, or its folder does not.
    """
    if path.exists() and not force:
        raise HarnessError(f"{path} is there already", fix="give another name, or --force")
    if not path.parent.is_dir():
        raise HarnessError(f"there is no folder {path.parent}", fix="make it, or name another")
    described = path.with_suffix(".schema.json")
    write_atomic(described, json.dumps(schema(), indent=1) + "\n")
    starter = (Path(__file__).parent / "starter.yaml").read_text(encoding="utf-8")
    write_atomic(path, f"# yaml-language-server: $schema=./{described.name}\n{starter}")
    return (
        f"wrote {path}, and {described} for editors; look at its plan: harness plan {path}\n"
        "its keys: harness list keys"
    )
