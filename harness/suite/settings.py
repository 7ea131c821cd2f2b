"""Applies changes to a suite from the command line: `--set KEY=VALUE`."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from harness.core.errors import SuiteError, shortened
from harness.core.homes import unknown_among
from harness.suite.text import read_yaml

_PATHS = {"models": 2, "checkpoints": 2, "data": 3}
"""Section -> depth of the entries that may be just a path, a short form of `{path: ...}`."""


def apply_setting(
    tree: dict[str, Any], setting: str, keys: Collection[str], axes: Collection[str]
) -> str:
    """Apply one setting to the tree of a suite.

    Args:
        tree: the suite, which is changed.
        setting: `KEY=VALUE`. The key is a path in the YAML, or `component.field` for all cells.
        keys: the keys of a suite.
        axes: the axes of its matrix, without hyper-parameters.

    Returns:
        The place in the suite where the value is now, or the outermost mapping that was created for
        it.

    Raises:
        SuiteError: it is not `KEY=VALUE`, or the suite has no such place.
    """
    key, equals, raw = setting.partition("=")
    where = f"--set {shortened(setting)}"
    if not equals or not key:
        raise SuiteError("it is not key=value", where=where, fix="such as --set seeds=[0,1,2]")
    try:
        value = read_yaml(raw)
    except SuiteError as error:
        message = re.sub(r"line 1(, column \d+)?: ", "", error.message)
        raise SuiteError(message, where=where, fix=error.fix) from None
    if key.partition("[")[0].partition(".")[0] in keys:  # as places are written in messages
        key = re.sub(r"\[(\d+)\]", r".\1", key)
    head, _, rest = key.partition(".")
    if head not in keys:
        if not rest:
            raise SuiteError(unknown_among(key, keys, where, "harness list keys"))
        return _override(tree, {key: value}, where)
    parts = key.split(".")
    if (
        head == "matrix" and rest and rest.partition(".")[0] not in axes
    ):  # the name of a hyper-parameter contains a dot
        parts = [head, rest]
    try:
        return _put(tree, parts, value)
    except (TypeError, ValueError, IndexError, AttributeError):
        raise SuiteError(
            f"there is no place '{key}' in the suite",
            where=where,
            fix=f"give the whole section: --set '{head}="
            + ("[...]'" if isinstance(tree.get(head), list) else "{...}'"),
        ) from None


def _override(tree: dict[str, Any], fields: dict[str, Any], where: str) -> str:
    known = tree.get("overrides") or []
    if not isinstance(known, list):
        raise SuiteError("`overrides:` is no list to add to", where=where)
    tree["overrides"] = [*known, {"match": {}, "set": fields}]
    return f"overrides[{len(known)}].set"


def _put(tree: dict[str, Any], parts: list[str], value: Any) -> str:
    node: Any = tree
    place = created = ""
    for depth, part in enumerate(parts[:-1], 1):
        key = _key(node, part)
        place += f"[{part}]" if isinstance(node, list) else f".{part}"
        if isinstance(node, dict) and part not in node:
            node[part] = {}
            created = created or place
        if isinstance(node[key], str) and _PATHS.get(parts[0]) == depth:
            node[key] = {"path": node[key]}
        node = node[key]
    if not isinstance(node, dict | list):
        raise TypeError
    last = parts[-1]
    place += f"[{last}]" if isinstance(node, list) else f".{last}"
    node[_key(node, last)] = value
    return (created or place).removeprefix(".")


def _key(node: Any, part: str) -> Any:
    return int(part) if isinstance(node, list) else part
