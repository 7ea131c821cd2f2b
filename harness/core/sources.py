"""Lists the source files on which a module depends, by their import statements, and their digest.

The modules are not imported, since planning asks about code that would load torch.
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
    """Digest of the names and contents of the files on which these modules depend (see
    `source_files`)."""
    whole = hashlib.sha256()
    for name, path in sorted(source_files(*modules).items()):
        whole.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:_DIGITS]


def source_files(*modules: str) -> dict[str, Path]:
    """Name -> file of these modules and of all modules that they import, directly or indirectly,
    from this package and from the packages and distributions of the modules themselves. Other
    libraries are left out, since records hold their versions.

    Imports inside functions count; imports only for type checkers do not. Imports by a computed
    name are not detected.
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
    """The packages of the distribution that installed a package, such as a plugin of several
    packages."""
    if package == OWN:
        return frozenset({OWN})
    installed = packages_distributions()
    names = set(installed.get(package, ()))
    return frozenset({package, *(other for other, of in installed.items() if names & set(of))})


@cache
def _public() -> dict[str, str]:
    """`harness.NAME` -> the module that defines it, for the public names of this package."""
    tree = ast.parse(Path(__file__).parents[1].joinpath("__init__.py").read_bytes())
    return {
        f"{OWN}.{alias.name}": node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }


@cache
def _file(module: str) -> Path | None:
    """The file of a module; None if there is none, for example if the name is a function in a
    module."""
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
    """The modules that a module imports, with the packages of all of them and its own package."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    # The imports of a compiled module cannot be read.
    tree = ast.parse(path.read_bytes() if path.suffix == ".py" else b"")
    named = [package, *_named(tree, package)]
    return tuple(dict.fromkeys(whole for name in named for whole in _with_packages(name)))


def _named(tree: ast.Module, package: str) -> Iterator[str]:
    """The names in import statements: modules, and names in modules that may be modules too."""
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
    """Digest of all files of this package."""
    whole = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            name = path.relative_to(package).as_posix()
            whole.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:_DIGITS]
