"""What lm-eval calls its fields, metrics, aggregations, filters and samplers: read from its source.

A plan must not import lm-eval, which takes seconds. Its registries are decorators and class bodies,
so that they can be read as text, and are always those of the installed version.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path


@cache
def library() -> Path:
    """The folder of lm-eval's own tasks. The package is not imported.

    Raises:
        ImportError: it is not installed.
    """
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise ImportError("lm_eval is not installed")
    return Path(spec.origin).parent / "tasks"


@dataclass(frozen=True)
class Registry:
    """The names that a task's file can use.

    Attributes:
        fields, fewshot_fields: of a task, and of its `fewshot_config`.
        group_fields, group_metric_fields: of a group, and of an entry of its
            `aggregate_metric_list`.
        output_types: what a task can ask for.
        metrics: name -> the output types that it is made for.
        aggregations, samplers: names.
        filters: name -> its options; None: it takes any.
    """

    fields: frozenset[str]
    fewshot_fields: frozenset[str]
    group_fields: frozenset[str]
    group_metric_fields: frozenset[str]
    output_types: frozenset[str]
    metrics: Mapping[str, frozenset[str]]
    aggregations: frozenset[str]
    samplers: frozenset[str]
    filters: Mapping[str, frozenset[str] | None]

    def with_own(self, folder: Path) -> Registry:
        """This registry, with what the Python files of a folder add to it."""
        trees = [_tree(file) for file in sorted(folder.glob("*.py"))]
        return replace(
            self,
            metrics={**self.metrics, **{n: v for tree in trees for n, v in _metrics(tree)}},
            aggregations=self.aggregations | {n for tree in trees for n in _aggregations(tree)},
            filters={**self.filters, **{n: v for tree in trees for n, v in _filters(tree)}},
        )


@cache
def registry() -> Registry:
    """The registries of the installed lm-eval.

    Raises:
        ImportError: it is not installed.
    """
    root = library().parent
    metrics = _tree(root / "api/metrics.py")
    task, group = _tree(root / "config/task.py"), _tree(root / "config/group.py")
    return Registry(
        fields=_fields(task, "TaskConfig"),
        fewshot_fields=_fields(task, "FewshotConfig"),
        group_fields=_fields(group, "GroupConfig"),
        group_metric_fields=_fields(group, "AggMetricConfig"),
        output_types=_texts(_assigned(_tree(root / "api/task.py"), "ALL_OUTPUT_TYPES")),
        metrics=dict(_metrics(metrics)),
        aggregations=frozenset(_aggregations(metrics)),
        samplers=_texts(_assigned(_tree(root / "api/samplers.py"), "SAMPLER_REGISTRY")),
        filters={
            name: options
            for module in _imported(_tree(root / "filters/__init__.py"))
            for name, options in _filters(_tree(root / f"filters/{module}.py"))
        },
    )


def _tree(file: Path) -> ast.Module:
    """A Python file; an empty one where it cannot be read, which running it will tell."""
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ast.Module([], [])


def _imported(tree: ast.Module) -> list[str]:
    """The modules that a package imports of itself."""
    return [
        alias.name
        for statement in tree.body
        if isinstance(statement, ast.ImportFrom) and statement.level and not statement.module
        for alias in statement.names
    ]


def _metrics(tree: ast.Module) -> Iterator[tuple[str, frozenset[str]]]:
    for name, output_types, _ in _registered(tree, "register_metric", "metric"):
        yield name, _texts(output_types)


def _aggregations(tree: ast.Module) -> Iterator[str]:
    for name, *_ in _registered(tree, "register_aggregation", "name"):
        yield name


def _filters(tree: ast.Module) -> Iterator[tuple[str, frozenset[str] | None]]:
    for name, _, node in _registered(tree, "register_filter", "name"):
        yield name, _options(node)


def defines(file: Path, name: str) -> bool:
    """Whether a Python file defines or imports a name, as far as can be read."""
    tree = _tree(file)
    imports = [each for each in ast.walk(tree) if isinstance(each, ast.Import | ast.ImportFrom)]
    names = {alias.asname or alias.name for each in imports for alias in each.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return not tree.body or name in names or "*" in names


def _fields(tree: ast.Module, name: str) -> frozenset[str]:
    """The fields of a dataclass."""
    (body,) = (n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    return frozenset(
        statement.target.id
        for statement in body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    )


def _assigned(tree: ast.Module, name: str) -> ast.AST:
    """The value of a variable of a module; of a mapping, its keys."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(each, ast.Name) and each.id == name for each in targets):
                value = statement.value
                keys = value.keys if isinstance(value, ast.Dict) else []
                return ast.List([key for key in keys if key]) if keys else value
    raise LookupError(f"lm_eval has no {name} any more")


def _registered(
    tree: ast.Module, decorator: str, argument: str
) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """Names that a decorator registers, with its `output_type` and what it decorates.

    Args:
        argument: the decorator's first argument, which may be named.
    """
    for node in tree.body:
        for call in getattr(node, "decorator_list", ()):
            if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != decorator:
                continue
            named = {keyword.arg: keyword.value for keyword in call.keywords}
            for name in _texts(named.get(argument, ast.List(call.args))):
                yield name, named.get("output_type", ast.List([])), node


def _texts(node: ast.AST) -> frozenset[str]:
    """The texts in an expression."""
    return frozenset(
        each.value
        for each in ast.walk(node)
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    )


def _options(node: ast.AST) -> frozenset[str] | None:
    """The arguments of a class; None: any, as far as can be read."""
    body = node.body if isinstance(node, ast.ClassDef) else []
    for statement in body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            if statement.args.kwarg is not None:
                return None
            arguments = [*statement.args.args[1:], *statement.args.kwonlyargs]
            return frozenset(each.arg for each in arguments)
    return None
