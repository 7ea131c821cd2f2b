"""What there is: members of the axes with their options, suites, stages, a starting suite."""

from __future__ import annotations

import inspect
import json
import textwrap
import time
from pathlib import Path
from typing import cast

import yaml

from harness.commands.keys import options, schema
from harness.core import component
from harness.core.component import Component
from harness.core.errors import HarnessError
from harness.core.files import write_atomic
from harness.core.locate import package_suites
from harness.objectives.base import BASE, Objective
from harness.store.store import Store


def members(axis: str, name: str | None) -> str:
    """An axis's members with the first line of their documentation, or one in full."""
    if name is not None:
        return _page(component.find(axis, name))
    lines = []
    for member in component.names(axis):
        declared = component.find(axis, member)
        summary = (inspect.getdoc(declared) or "").split("\n\n")[0]
        lines.append(f"{member:<16} {textwrap.shorten(summary, 96)}")
        if issubclass(declared, Objective):
            lines += [f"{'':<16}   {line}" for line in facts(declared)]
    return "\n".join([*lines, "", f"one in full: harness list {axis}s NAME"])


def facts(declared: type[Objective]) -> list[str]:
    """What an objective trains on, where it starts, and who wrote of it."""
    path, before = [declared.name], declared.starts_from
    while before != BASE:
        path.insert(0, before)
        before = cast(type[Objective], component.find("objective", before)).starts_from
    recipe = " -> ".join([BASE, *path])
    beside = "".join(f", with a {role} model" for role in declared.beside)
    if (feedback := declared.model_construct().feedback) is not None:
        last = cast(type[Objective], component.find("objective", feedback.then))
        recipe = " -> ".join([BASE, *path[:-1], "sample", "label", *last.beside, last.name])
    found = [f"rows: {', '.join(declared.layouts)}", f"recipe: {recipe}{beside}"]
    return [*found, f"paper: {declared.paper}"] if declared.paper else found


def _page(declared: type[Component]) -> str:
    lines = [declared.name, "", inspect.getdoc(declared) or "", ""]
    if issubclass(declared, Objective):
        lines += [*facts(declared), ""]
    if declared.model_fields:
        lines.append("options:")
    return "\n".join([*lines, *options(declared)])


def suites() -> str:
    """The suites that came with the package."""
    root = package_suites()
    lines = []
    for path in sorted(root.rglob("*.yaml")):
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        about = tree.get("description", "") if isinstance(tree, dict) else ""
        name = path.relative_to(root).with_suffix("").as_posix()
        lines.append(f"{name:<20} {textwrap.shorten(' '.join(about.split()), 90)}")
    return "\n".join([*lines, "", "run one: harness run NAME"])


def stages(store: Path, kind: str | None, status: str | None, text: str) -> str:
    """Stages in a store, newest first."""
    if not store.is_dir():
        raise HarnessError(f"there is no store at {store}", fix="harness run SUITE makes one")
    rows = Store(store).query(kind, status, text)
    lines = [
        f"{'stage':<14} {'state':<7} {'key':<13} {'for':<34} {'took':>9} {'size':>11}  finished"
    ]
    for row in rows:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["finished"] or 0))
        lines.append(
            f"{row['kind']:<14} {row['status']:<7} {row['key'][:12]:<13} {row['label']:<34.34}"
            f" {row['seconds'] or 0:>7.1f} s {row['bytes'] / 2**20:>7.2f} MiB  {when}"
        )
    size = sum(row["bytes"] for row in rows) / 2**20
    return "\n".join([*lines, f"{len(rows)} stages, {size:.1f} MiB"])


def write_starter(path: Path, *, force: bool) -> str:
    """Write the commented suite, and the schema by which an editor checks and completes it.

    Raises:
        HarnessError: the file is there already.
    """
    if path.exists() and not force:
        raise HarnessError(f"{path} is there already", fix="give another name, or --force")
    if not path.parent.is_dir():
        raise HarnessError(f"there is no folder {path.parent}")
    described = path.with_suffix(".schema.json")
    write_atomic(described, json.dumps(schema(), indent=1) + "\n")
    starter = (Path(__file__).parent / "starter.yaml").read_text(encoding="utf-8")
    write_atomic(path, f"# yaml-language-server: $schema=./{described.name}\n{starter}")
    return (
        f"wrote {path}, and {described} for editors; look at its plan: harness plan {path}\n"
        "its keys: harness list keys"
    )
