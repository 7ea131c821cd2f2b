"""The sandbox that prompts are filled in: Jinja without anything that reaches out or never ends.

Jinja's own sandbox keeps a template from what is not its own. Here it is also kept from taking all
time and memory: the turns of its loops and its calls are counted, and its texts are measured.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MOST_STEPS = 100_000
"""Turns of loops, and calls, that filling one prompt may take."""
LONGEST = 4_000_000
"""Longest prompt, and longest text within one, in characters."""
_WIDEST = 10_000
"""Largest number that a filter takes as a width or a count."""
_LARGEST_POWER = 64
_LARGEST_BITS = 100_000
"""Bits of the largest whole number."""
_STEPS = "steps taken"
"""The count of a template's steps, by a name that none can set."""
_WIDENING = ("center", "indent", "batch", "slice", "round", "tojson", "wordwrap")
_REMOVED_FILTERS = ("format", "random")
REMOVED_GLOBALS = ("lipsum", "cycler", "joiner", "namespace")
"""Names that Jinja knows elsewhere, and prompts do not have."""
_REMOVED_METHODS = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map", "translate"}
)
FAULTS = (
    jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError,
    RecursionError, MemoryError,
)  # fmt: skip
"""What filling a faulty template may raise."""


class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles prompts, and refuses what takes too much."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, filters: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__(
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_said
        )
        for name in _WIDENING:
            self.filters[name] = _narrow(self.filters[name])
        for name in _REMOVED_FILTERS:
            del self.filters[name]
        for name in REMOVED_GLOBALS:
            del self.globals[name]
        self.filters.update(join=_join, replace=_replace, sum=_summed(self.filters["sum"]))
        self.filters.update(filters, counted=_counted, joined=_join)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Bounded().visit(super()._parse(source, name, filename))
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        widens = isinstance(obj, str) and attr in _REMOVED_METHODS
        return not widens and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Formats may be wide: they are no safe attributes."""

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        _step(context)
        text = getattr(obj, "__self__", None)
        if isinstance(text, str) and obj.__name__ == "join":
            return _joined(text, *args)
        if isinstance(text, str) and obj.__name__ == "replace":
            return _replace(text, *args, **kwargs)
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(side) for side in (left, right) if isinstance(side, str | list | tuple)]
        if operator == "%" and sizes:
            raise TypeError("% does not format here")
        if operator == "**" and not (abs(left) < 2**32 and abs(right) <= _LARGEST_POWER):
            raise OverflowError("a power is too large")
        bits = [side.bit_length() for side in (left, right) if isinstance(side, int)]
        if operator == "*" and not sizes and sum(bits) > _LARGEST_BITS:
            raise OverflowError("a number is too large")
        if operator == "*" and sizes:
            times = next((side for side in (left, right) if isinstance(side, int)), 0)
            sizes = [sizes[0] * times]
        _bounded(sum(sizes))
        return super().call_binop(context, operator, left, right)

    def fill(self, template: jinja2.Template, fields: Mapping[str, Any]) -> str:
        """The text of a template.

        Raises:
            one of FAULTS: it cannot be filled, or takes too much.
        """
        parts, size = [], 0
        for part in template.generate({**fields, _STEPS: [0]}):
            parts.append(part)
            size += len(part)
            _bounded(size)
        return "".join(parts)


class _Bounded(NodeTransformer):
    """Lets loops be counted, and texts that are joined be measured."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        if node.recursive:  # the turns that it gives itself would not be counted
            raise jinja2.TemplateSyntaxError("a loop in a prompt cannot be recursive", node.lineno)
        self.generic_visit(node)
        node.iter = _filter(node.iter, "counted")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes), "joined")


def _said(value: Any) -> Any:
    """A value that is written into the prompt. What has no text of its own would be written with
    its address in memory, another one each time."""
    if not isinstance(value, jinja2.Undefined) and (callable(value) or isinstance(value, Iterator)):
        raise TypeError(f"{type(value).__name__} is no text; is a call or a filter missing?")
    return value


def _filter(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None)  # type: ignore[arg-type]


@jinja2.pass_context
def _counted(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        _step(context)
        yield value


@jinja2.pass_environment
def _join(
    environment: jinja2.Environment,
    values: Iterable[Any],
    d: str = "",
    attribute: str | int | None = None,
) -> str:
    if attribute is not None:
        values = map(make_attrgetter(environment, attribute), values)
    return _joined(str(d), values)


def _joined(between: str, values: Iterable[Any]) -> str:
    texts = [str(value) for value in values]
    _bounded(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


def _replace(text: Any, old: str, new: str, count: int | None = None) -> str:
    whole, old, new = str(text), str(old), str(new)
    most = -1 if count is None else count
    times = whole.count(old) if most < 0 else min(most, whole.count(old))
    _bounded(len(whole) + times * len(new))
    return whole.replace(old, new, most)


def _summed(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def summed(
        environment: jinja2.Environment, values: Any, attribute: Any = None, start: Any = 0
    ) -> Any:
        if not isinstance(start, int | float):
            raise TypeError("sum adds numbers")
        return function(environment, values, attribute, start)

    return summed


def _step(context: Context) -> None:
    steps = context[_STEPS]
    steps[0] += 1
    if steps[0] > MOST_STEPS:
        raise OverflowError(f"it takes more than {MOST_STEPS:,} turns of loops and calls")


def _bounded(size: int) -> None:
    if size > LONGEST:
        raise OverflowError(f"a text of more than {LONGEST:,} characters")


def _narrow(function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, for numbers and texts beside its value that do not make it too wide."""
    first = 2 if hasattr(function, "jinja_pass_arg") else 1

    @functools.wraps(function)
    def narrow(*args: Any, **kwargs: Any) -> Any:
        value, given = args[first - 1], (*args[first:], *kwargs.values())
        size = len(value) if isinstance(value, Sized) else 1
        lines = value.count("\n") + 1 if isinstance(value, str) else size
        widest = max((abs(one) for one in given if isinstance(one, int)), default=0)
        if widest > _WIDEST:
            raise OverflowError(f"a filter takes no number above {_WIDEST:,} here")
        _bounded(lines * widest)
        _bounded(size * max((len(one) for one in given if isinstance(one, str)), default=0))
        return function(*args, **kwargs)

    return narrow
