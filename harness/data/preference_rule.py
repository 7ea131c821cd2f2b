"""Rules that say which of two answers is better. They are functions in Python files that a suite
names. Planning locates and hashes them; the stages that use them load and check them."""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import importlib.util
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from harness.core.errors import StageFailed, SuiteError, unknown
from harness.core.files import digest_file, digest_json
from harness.core.locate import locate
from harness.core.outside import Digest, as_planned

NAMED = r"^.+\.py:[A-Za-z_]\w*$"
"""Matches a rule's name in YAML: `FILE.py:FUNCTION`. The file is beside the suite, in the working
folder or among the package's suites. Its Python code is run."""
Rule = Callable[[Mapping[str, Any], str, str], int | None]
"""(row, first answer, second answer) -> 1 if the first is better, -1 if the second is, 0 for a tie,
None if it is not known. The function in the file may return any number, of which the sign
counts."""


def find_rule(
    named: str, suite_file: Path, digest: Callable[[Path], str], where: str
) -> tuple[str, dict[str, str]]:
    """The path of a rule's file, and the rule's identity (see `digest_rule`).

    Args:
        named: the rule's name in YAML (see NAMED).
        suite_file: the suite's file.
        digest: computes the sha256 of a file.
        where: the place in the suite, for messages.

    Raises:
        SuiteError: there is no such file, it cannot be imported, or it has no such function.
    """
    file, _, function = named.rpartition(":")
    path = locate(file, suite_file, where)
    if path is None or not path.is_file():
        raise SuiteError(
            f"there is no file '{file}'",
            where=where,
            fix="name one beside the suite, in the working folder or of the package's suites",
        )
    if "." in path.stem:
        raise SuiteError(
            f"'{path.name}' cannot be imported: in Python, a dot separates the names of modules",
            where=where,
            fix=f"rename it, such as {path.stem.replace('.', '_')}.py",
        )
    try:
        defined = _defined(_parsed(path))
        sha256 = digest_rule(path, digest)
    except SyntaxError as error:
        message = f"{error.filename}, line {error.lineno}, is not Python: {error.msg}"
        raise SuiteError(message, where=where) from None
    if "*" not in defined and function not in defined:
        message = unknown("function", function, defined, hint=f"what {path.name} defines")
        raise SuiteError(message, where=where)
    return str(path), {"sha256": sha256, "function": function}


def digest_rule(path: Path, digest: Digest = digest_file) -> str:
    """sha256 over a rule's file and the Python files in and below its folder that it imports,
    directly or indirectly. If it imports none of them, the sha256 of the file's bytes.

    Data files and installed packages are not included.

    Raises:
        SyntaxError: one of the files is not Python.
    """
    folder, rule_digest = path.parent, digest(path)
    others = imported_beside(path)[1:]
    beside = {other.relative_to(folder).as_posix(): digest(other) for other in others}
    return digest_json({"rule": rule_digest, "beside": beside}) if beside else rule_digest


def imported_beside(path: Path) -> list[Path]:
    """A Python file, and those in and below its folder that it imports, directly or indirectly.

    Raises:
        SyntaxError: one of the files is not Python.
    """
    files, waiting = {path: None}, [path]
    while waiting:
        for other in _imported(waiting.pop(), path.parent):
            if other not in files:
                files[other] = None
                waiting.append(other)
    return list(files)


def _parsed(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about style; the import shows them
        try:
            return ast.parse(path.read_bytes(), str(path))
        except ValueError as error:  # bytes that no source file has
            raise SyntaxError(str(error), (str(path), 1, None, None)) from error


def _imported(path: Path, folder: Path) -> Iterator[Path]:
    """The files below `folder` that the import statements of `path` may run. A name that an
    installed module has too is included, since only the import itself decides between them."""
    here = path.parent.relative_to(folder).parts
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(folder, tuple(alias.name.split(".")))
        elif isinstance(node, ast.ImportFrom) and node.level <= len(here) + 1:
            start = here[: len(here) + 1 - node.level] if node.level else ()
            module = (*start, *(node.module or "").split(".")) if node.module else start
            for alias in node.names:  # a name may be a module itself
                yield from _files(folder, (*module, alias.name))


def _files(folder: Path, module: tuple[str, ...]) -> Iterator[Path]:
    """The files of a module and of its parent packages, if they exist in the folder."""
    for depth in range(1, len(module) + 1):
        place = folder.joinpath(*module[:depth])
        yield from (p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file())


def _defined(tree: ast.Module) -> set[str]:
    """The names that a module defines; with `*` if it imports all names of another module."""
    names: set[str] = set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        waiting += ast.iter_child_nodes(node)
    return names


def load_rule(path: Path, identity: Mapping[str, str]) -> Rule:
    """Load a rule that was planned. Its file may import files beside it relatively
    (`from .world import ...`).

    The rule raises StageFailed if the function does not return a number or None, or if its result
    depends on the order of the answers.

    Raises:
        StageFailed: as `load_function` does.
    """
    return sound(load_function(path, identity), f"{identity['function']} of {path}")


def load_function(path: Path, identity: Mapping[str, str]) -> Callable[..., Any]:
    """Load a function that was planned as a rule is: of any arguments.

    Raises:
        StageFailed: the file changed since it was planned, cannot be imported, or has no such
            function.
    """
    name, sha256 = identity["function"], identity["sha256"]
    with as_planned(path, sha256, lambda digest: digest_rule(path, digest)):
        module = _imported_rule(path, sha256)
    function = getattr(module, name, None)
    if not callable(function):
        raise StageFailed("rule", f"{path} has no function '{name}'", fix="name another")
    return cast(Callable[..., Any], function)


def _imported_rule(path: Path, sha256: str) -> ModuleType:
    package = f"_harness_rule_{digest_json([str(path), sha256])[:16]}"
    if package not in sys.modules:  # in a package of its own, so that its names clash with no other
        spec = importlib.machinery.ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [str(path.parent)]
        sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module(f"{package}.{path.stem}")
    except Exception as error:
        raise StageFailed(
            "rule", f"{path} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def sound(function: Callable[[Mapping[str, Any], str, str], Any], name: str) -> Rule:
    """Wrap a function as a rule that calls it with both orders of the answers, and checks the
    results.

    Args:
        name: the function's name, for messages.
    """

    def rule(row: Mapping[str, Any], one: str, other: str) -> int | None:
        first = _sign(function(row, one, other), name, row)
        second = _sign(function(row, other, one), name, row)
        if first != (None if second is None else -second):
            raise StageFailed(
                "rule",
                f"{name} depends on the order of the answers: for row {row['id']} it gives {first}"
                f" in one order and {second} in the other",
                fix="mend the rule",
            )
        return first

    return rule


def _sign(value: Any, name: str, row: Mapping[str, Any]) -> int | None:
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or math.isnan(value):
        raise StageFailed(
            "rule", f"{name} gave {value!r} for row {row['id']}, which is not a number",
            fix="return a number above 0, 0, a number below 0, or None if it does not know",
        )  # fmt: skip
    return int(value > 0) - int(value < 0)
