"""Which source files a piece of work rests on, read from their import statements, and their digest.

Nothing is imported for it: the control half asks of code that would load torch.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

OWN = "harness"
_DIGITS = 16


@cache
def digest_of(*modules: str) -> str:
    """Digest of the files that these modules rest on (see `source_files`), by name and content."""
    whole = hashlib.sha256()
    for name, path in sorted(source_files(*modules).items()):
        whole.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:_DIGITS]


def source_files(*modules: str) -> dict[str, Path]:
    """Name -> file of the modules, of what they import, and so on: of this package, and of the
    packages and distributions that the modules themselves stand in. Other libraries are left out:
    their versions are recorded.

    Imports inside functions count, those for type checkers alone do not. What a module imports by a
    name that it computes cannot be seen.
    """
    roots = {OWN}.union(*(_installed_with(name.split(".")[0]) for name in modules))
    files: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in files or name == OWN or name.split(".")[0] not in roots:
            continue
        path = _file(name)
        if path is not None:
            files[name] = path
            waiting += _imported(name, path)
        elif name in (public := _public()):
            waiting.append(public[name])
    return files


@cache
def _installed_with(package: str) -> frozenset[str]:
    """The packages that the same distribution installed, such as a plugin of several modules."""
    if package == OWN:
        return frozenset({OWN})
    installed = packages_distributions()
    names = set(installed.get(package, ()))
    return frozenset({package, *(other for other, of in installed.items() if names & set(of))})


@cache
def _public() -> dict[str, str]:
    """`harness.NAME` -> the module that defines it, for the names that this package passes on."""
    tree = ast.parse(Path(__file__).parents[1].joinpath("__init__.py").read_bytes())
    return {
        f"{OWN}.{alias.name}": node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }


@cache
def _file(module: str) -> Path | None:
    """The file of a module; None where there is none, as of a name that a module defines."""
    first, *rest = module.split(".")
    spec = importlib.util.find_spec(first)
    if spec is None or spec.origin is None:
        return None
    place = Path(spec.origin)
    for part in rest:
        if place.name != "__init__.py":
            return None
        place = place.parent / part
        candidates = (place / "__init__.py", place.with_name(f"{part}.py"))
        place = next((path for path in candidates if path.is_file()), Path())
    return place if place.is_file() else None


@cache
def _imported(module: str, path: Path) -> tuple[str, ...]:
    """The modules that one imports, and the packages that it and they stand in."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    # What a compiled module imports cannot be seen.
    tree = ast.parse(path.read_bytes() if path.suffix == ".py" else b"")
    named = [package, *_named(tree, package)]
    return tuple(dict.fromkeys(whole for name in named for whole in _with_packages(name)))


def _named(tree: ast.Module, package: str) -> Iterator[str]:
    """What import statements name: modules, and names in them that may be modules too."""
    waiting: list[ast.AST] = list(tree.body)
    imports = [alias for node in ast.walk(tree) if isinstance(node, ast.Import)
               for alias in node.names]  # fmt: skip
    ours = {alias.asname or OWN for alias in imports if alias.name == OWN}
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            start = parents[: len(parents) - node.level + 1] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        else:
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) in ours:
                yield f"{OWN}.{node.attr}"  # a public name, of `import harness`
            waiting += ast.iter_child_nodes(node)


def _with_packages(name: str) -> Iterable[str]:
    parts = name.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


def package_digest(package: Path = Path(__file__).parents[1]) -> str:
    """Digest of every file of this package, whatever its kind."""
    whole = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            name = path.relative_to(package).as_posix()
            whole.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:_DIGITS]
