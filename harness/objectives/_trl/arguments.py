"""The arguments that a trainer takes, read from its configuration's source.

Importing it would bring torch into the half of the harness that only plans.
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
"""Where a class really stands that its package hands on."""


def require_fields(place: str, names: Iterable[str]) -> None:
    """Whether a dataclass has fields of these names.

    Raises:
        ValueError: it has not; naming what is like it.
    """
    known = fields_of(place)
    for name in sorted(set(names) - known):
        near = ", ".join(difflib.get_close_matches(name, known)) or "none"
        raise ValueError(
            f"'{name}' is no argument of {place.partition(':')[2]}; like it are: {near}"
        )


@functools.cache
def fields_of(place: str) -> frozenset[str]:
    """Names of a dataclass's fields, those of its base classes included.

    Args:
        place: `module:Class`, such as `trl.trainer.sft_config:SFTConfig`.
    """
    module, _, name = place.partition(":")
    tree = ast.parse(_source(module).read_text(encoding="utf-8"))
    made = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    own = {
        line.target.id
        for line in made.body
        if isinstance(line, ast.AnnAssign)
        and isinstance(line.target, ast.Name)
        and not line.target.id.startswith("_")
    }
    origins = _imports(tree, module)
    for base in made.bases:
        if isinstance(base, ast.Name) and base.id in origins:
            own |= fields_of(f"{origins[base.id]}:{base.id}")
    return frozenset(own)


def require_optimizer(name: str) -> None:
    """Whether transformers has an optimizer of this name, and the package that it needs is here.

    Raises:
        ValueError: naming what is like it, or what to install.
    """
    if name not in optimizers():
        raise ValueError(unknown("optimizer", name, optimizers()))
    package = next((package for part, package in _PACKAGES.items() if part in name), None)
    if package is not None and find_spec(package) is None:
        raise ValueError(f"'{name}' needs the package {package}, which is not installed")


@functools.cache
def optimizers() -> frozenset[str]:
    """What transformers takes as `optim`: the values of its OptimizerNames."""
    tree = ast.parse(_source("transformers.training_args").read_text(encoding="utf-8"))
    made = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "OptimizerNames")
    values = (line.value for line in made.body if isinstance(line, ast.Assign))
    return frozenset(str(v.value) for v in values if isinstance(v, ast.Constant))


@functools.cache
def trackers() -> frozenset[str]:
    """What transformers takes as `report_to`: the keys of its INTEGRATION_TO_CALLBACK."""
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
"""Part of an optimizer's name -> the package it is in, as transformers.trainer_optimizer looks for
it; the first part that fits tells."""


def _source(module: str) -> Path:
    """The file of a module; finding a package runs nothing of it, as finding its parts would."""
    package, *parts = module.split(".")
    found = find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed", name=package)
    return Path(found.origin).parent.joinpath(*parts).with_suffix(".py")


def _imports(tree: ast.Module, module: str) -> dict[str, str]:
    """Name -> the module that it is imported from."""
    found = {}
    for line in tree.body:
        if isinstance(line, ast.ImportFrom):
            package = module.split(".")[: -line.level] if line.level else []
            origin = ".".join([*package, *([line.module] if line.module else [])])
            for alias in line.names:
                found[alias.name] = _LAZY.get((origin, alias.name), origin)
    return found
