"""All mutants of a module: cosmic-ray's operators, two of our own, and rules of what is no mutant.

A rule leaves out a change that no test could or should notice:
- what lies in a type annotation, in the text of a `raise` or of an `assert`;
- switches that only check or guard: `strict=` of zip, `frozen=`, `slots=`, `exist_ok=`,
  `missing_ok=`;
- the bare `*` of a parameter list, and `if TYPE_CHECKING:`;
- a decorator that only remembers (`cache`, `lru_cache`), or that only says something to a type
  checker (`override`, `overload`, `abstractmethod`, `runtime_checkable`);
- what does not compile.

cosmic-ray leaves texts, docstrings, imports and names alone by itself.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import get_operator

Position = tuple[int, int]
Span = tuple[Position, Position]

# Of the replacements by every other operator, those that turn a meaning round or move a border.
_OPERATORS = """
ReplaceBinaryOperator_: Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_Mul Pow_Mul BitOr_BitAnd
    BitAnd_BitOr
ReplaceComparisonOperator_: Eq_NotEq NotEq_Eq Lt_LtE Lt_GtE LtE_Lt LtE_Gt Gt_GtE Gt_LtE GtE_Gt
    GtE_Lt Is_IsNot IsNot_Is
ReplaceUnaryOperator_: Delete_Not Delete_USub Delete_Invert
: AddNot ReplaceTrueWithFalse ReplaceFalseWithTrue ReplaceAndWithOr ReplaceOrWithAnd
    ReplaceBreakWithContinue ReplaceContinueWithBreak ExceptionReplacer NumberReplacer
    RemoveDecorator ZeroIterationForLoop
"""
_GUARDS = {"strict", "frozen", "slots", "exist_ok", "missing_ok"}
_SILENT = {"cache", "lru_cache", "override", "overload", "abstractmethod", "runtime_checkable"}


class RemoveStatement(Operator):
    """A call for its effect, or an addition to a variable, is left out."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        if node.type == "simple_stmt" and _for_effect(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        prefix = node.children[0].get_first_leaf().prefix
        node.children[0] = parso.parse(f"{prefix}pass").children[0]
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("f(x)\n", "pass\n"), Example("x += 1\n", "pass\n"))


class RemoveEntry(Operator):
    """An entry of a dict is left out."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        if node.type == "dictorsetmaker" and node.children[1].type == "operator":
            # All at once: who asks may change the node in between.
            yield from [
                (node.children[start].start_pos, node.children[end - 1].end_pos)
                for start, end in _entries(node)
            ]

    def mutate(self, node: Any, index: int) -> Any:
        start, end = list(_entries(node))[index]
        comma = slice(start, end + 1) if end < len(node.children) else slice(start - 1, end)
        del node.children[comma]
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("x = {1: 2, 3: 4}", "x = { 3: 4}"),)


def _for_effect(statement: Any) -> bool:
    if statement.type == "expr_stmt":
        return str(statement.children[1].get_code()).strip().endswith("=") and (
            statement.children[1].type == "operator" and statement.children[1].value != "="
        )
    last = statement.children[-1] if statement.type in ("atom_expr", "power") else None
    return last is not None and last.type == "trailer" and last.children[0] == "("


def _entries(node: Any) -> Iterator[tuple[int, int]]:
    """Where each entry of a dict begins and ends among the children."""
    if "comp_for" in {child.type for child in node.children} or ":" not in node.children:
        return
    start = 0
    for i, child in enumerate([*node.children, ","]):
        if child == ",":
            if i > start and len(node.children) > 4:
                yield start, i
            start = i + 1


@cache
def _operators() -> dict[str, Operator]:
    names = []
    for word in _OPERATORS.split():
        if word.endswith(":"):
            kind = word[:-1]
        else:
            names.append(kind + word)
    core = {name: get_operator(f"core/{name}")() for name in names}
    return {**core, "RemoveStatement": RemoveStatement(), "RemoveEntry": RemoveEntry()}


@dataclass(frozen=True)
class Mutant:
    """One change of a module.

    Attributes:
        module: its path. operator: what changes. occurrence: at its how manyeth place.
        line: from 1. was: that line's text. nth: among the same changes of equal lines.
    """

    module: str
    operator: str
    occurrence: int
    line: int
    was: str
    nth: int

    @property
    def name(self) -> str:
        """The same for as long as its line is, wherever that stands."""
        return f"{self.module}|{self.operator}|{self.was}|{self.nth}"

    def rank(self, seed: int) -> str:
        """Its place in a random order."""
        return hashlib.sha256(f"{seed}|{self.name}".encode()).hexdigest()

    def code(self, source: str) -> str | None:
        """The module's text with the change; None where it does not compile, or says the same."""
        try:
            changed = mutate_code(source, _operators()[self.operator], self.occurrence)
        except AttributeError:  # cosmic-ray's ExceptionReplacer knows no `except module.Error`
            return None
        if changed is None or changed == source:
            return None
        try:
            same = ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source))
        except SyntaxError:
            return None
        return None if same else changed


def mutants_of(module: str, source: str) -> list[Mutant]:
    """Every mutant that no rule leaves out, in the order of operators and lines."""
    lines, tree, left_out = source.splitlines(), get_ast(source), list(_left_out(source))
    found: list[Mutant] = []
    seen: dict[tuple[str, str], int] = {}
    for name, operator in _operators().items():
        spans = (span for node in ast_nodes(tree) for span in operator.mutation_positions(node))
        for occurrence, (start, _) in enumerate(spans):
            if any(first <= start < last for first, last in left_out):
                continue
            was = lines[start[0] - 1].strip()
            if lines[start[0] - 1][start[1] :].startswith("*,"):
                continue
            if was == "if TYPE_CHECKING:":
                continue
            if name == "RemoveDecorator" and _SILENT & set(was.strip("@").split("(")[0].split(".")):
                continue
            nth = seen[name, was] = seen.get((name, was), -1) + 1
            found.append(Mutant(module, name, occurrence, start[0], was, nth))
    return found


def _left_out(source: str) -> Iterator[Span]:
    """Places that a rule leaves out."""
    for node in ast.walk(ast.parse(source)):
        yield from (_span(part) for part in _silent_parts(node) if part is not None)


def _silent_parts(node: ast.AST) -> Iterable[ast.expr | None]:
    if isinstance(node, ast.arg | ast.AnnAssign):
        return [node.annotation]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.returns]
    if isinstance(node, ast.Raise):
        return [node.exc]
    if isinstance(node, ast.Assert):
        return [node.test, node.msg]
    if isinstance(node, ast.Call):
        return [word.value for word in node.keywords if word.arg in _GUARDS]
    return []


def _span(node: ast.expr) -> Span:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
