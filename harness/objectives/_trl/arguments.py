"""The arguments that a trainer accepts, read from the source of its configuration class.

Importing the class would load torch, which planning must not do.
"""

from __future__ import annotations

import ast
import difflib
import functools
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from harness.core.errors import unknown

_LAZY = {("transformers", "TrainingArguments"): "transformers.training_args"}
"""Class that a package re-exports -> the module that defines it."""


def require_fields(place: str, names: Iterable[str]) -> None:
    """Check that a dataclass has fields of these names.

    Raises:
        ValueError: it lacks one; the message lists similar names.
    """
    known = fields_of(place)
    for name in sorted(set(names) - known):
        near = ", ".join(difflib.get_close_matches(name, known)) or "none"
        raise ValueError(
            f"'{name}' is no argument of {place.partition(':')[2]}; similar names: {near}"
        )


@functools.cache
def fields_of(place: str) -> frozenset[str]:
    """Names of a dataclass's fields, including those of its base classes.

    Args:
        place: `module:Class`, such as `trl.trainer.sft_config:SFTConfig`.
    """
    module, _, name = place.partition(":")
    tree = ast.parse(_source(module).read_text(encoding="utf-8"))
    declared = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    fields = {
        line.target.id
        for line in declared.body
        if isinstance(line, ast.AnnAssign)
        and isinstance(line.target, ast.Name)
        and not line.target.id.startswith("_")
    }
    origins = _imports(tree, module)
    for base in declared.bases:
        if isinstance(base, ast.Name) and base.id in origins:
            fields |= fields_of(f"{origins[base.id]}:{base.id}")
    return frozenset(fields)


def require_optimizer(name: str) -> None:
    """Check that transformers has an optimizer of this name, and that its package is installed.

    Raises:
        ValueError: it does not; the message lists similar names, or the package to install.
    """
    if name not in optimizers():
        raise ValueError(unknown("optimizer", name, optimizers()))
    package = next((package for part, package in _PACKAGES.items() if part in name), None)
    if package is not None and find_spec(package) is None:
        raise ValueError(f"'{name}' needs the package {package}, which is not installed")


@functools.cache
def optimizers() -> frozenset[str]:
    """The values that transformers accepts for `optim`: those of its OptimizerNames."""
    tree = ast.parse(_source("transformers.training_args").read_text(encoding="utf-8"))
    enum = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "OptimizerNames")
    values = (line.value for line in enum.body if isinstance(line, ast.Assign))
    return frozenset(str(v.value) for v in values if isinstance(v, ast.Constant))


@functools.cache
def trackers() -> frozenset[str]:
    """The values that transformers accepts for `report_to`: the keys of INTEGRATION_TO_CALLBACK."""
    source = _source("transformers.integrations.integration_utils")
    for line in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(line, ast.Assign) and isinstance(line.value, ast.Dict):
            names = [target.id for target in line.targets if isinstance(target, ast.Name)]
            if names == ["INTEGRATION_TO_CALLBACK"]:
                keys = (key for key in line.value.keys if isinstance(key, ast.Constant))
                return frozenset(str(key.value) for key in keys)
    return frozenset()


_PACKAGES = {
    "galore": "galore_torch",
    "apollo": "apollo_torch",
    "lomo": "lomo_optim",
    "grokadamw": "grokadamw",
    "schedule_free": "schedulefree",
    "stable_adamw": "optimi",
    "anyprecision": "torchdistx",
    "torch_4bit": "torchao",
    "torch_8bit": "torchao",
    "torch_xla": "torch_xla",
    "torch_npu": "torch_npu",
    "bnb": "bitsandbytes",
    "_8bit": "bitsandbytes",
    "_32bit": "bitsandbytes",
    "ademamix": "bitsandbytes",
}
"""Part of an optimizer's name -> the package that it needs, as in transformers.trainer_optimizer;
the first part that matches counts."""


def _source(module: str) -> Path:
    """The file of a module. Only the package is looked up, since looking up a submodule would run
    the package."""
    package, *parts = module.split(".")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed", name=package)
    return Path(spec.origin).parent.joinpath(*parts).with_suffix(".py")


def _imports(tree: ast.Module, module: str) -> dict[str, str]:
    """Imported name -> the module that it is imported from."""
    origins = {}
    for line in tree.body:
        if isinstance(line, ast.ImportFrom):
            package = module.split(".")[: -line.level] if line.level else []
            origin = ".".join([*package, *([line.module] if line.module else [])])
            for alias in line.names:
                origins[alias.name] = _LAZY.get((origin, alias.name), origin)
    return origins
