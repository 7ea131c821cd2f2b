"""Reads a suite's YAML as plain values, without the surprises of YAML.

Keys are strings, and values are of JSON's types. Dates, `1:30` and versions such as 1.2.3 are text,
`1e-3` is a number, and tags for other types are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from harness.core.errors import SuiteError

DEPTH, VALUES = 64, 200_000
"""The most levels and values of a suite; a value that aliases repeat is counted each time. A suite
with more has a mistake, or is an attack on the memory."""
_TAG = "tag:yaml.org,2002:"
_SCALARS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null"))
_MERGE = f"{_TAG}merge"
_TRUTHS = "YAML reads on, off, yes, no, true and false as booleans"


class _Loader(yaml.SafeLoader):
    """PyYAML's loader without the types of scalars that YAML 1.2 dropped, and with numbers such as
    1e-3, which YAML 1.1 reads as text."""


_OWN = ("int", "float", "timestamp", "value")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in known if tag.removeprefix(_TAG) not in _OWN]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    f"{_TAG}int",
    re.compile(r"^[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o[0-7]+|[0-9][0-9_]*)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(
        r"^[-+]?(\d[\d_]*\.[\d_]*([eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+|\.\d+([eE][-+]?\d+)?"
        r"|\.(inf|Inf|INF))$|^\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def read_yaml(text: str) -> Any:
    """The values in a text of YAML.

    Raises:
        SuiteError: the text is not YAML, or holds something that a suite must not hold; the message
            names the line.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _NodeReader(loader).value(node)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SuiteError(
            f"line {line}: a suite cannot hold the character {chr(int(error.character))!a}",
            fix="leave it out; a suite is saved as UTF-8 text",
        ) from None
    except yaml.MarkedYAMLError as error:
        raise SuiteError(f"not YAML: {_told(error)}") from None
    except yaml.YAMLError as error:
        raise SuiteError(f"not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        message = f"not YAML for a suite: values are nested over {DEPTH} levels deep"
        raise SuiteError(message) from None


def read_file(path: Path) -> tuple[Any, str]:
    """The values in a YAML file, and its text.

    Raises:
        SuiteError: as `read_yaml`, or the file cannot be read; the message names it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        return read_yaml(text), text
    except UnicodeDecodeError as error:
        raise SuiteError(
            f"not UTF-8 text (byte {error.start})", where=str(path), fix="save the file as UTF-8"
        ) from None
    except OSError as error:
        raise SuiteError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except SuiteError as error:
        raise SuiteError(error.message, where=str(path), fix=error.fix) from None


def _told(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    parts = [str(part) for part in (error.context, error.problem) if part]
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + ", ".join(parts)


class _NodeReader:
    """Converts YAML nodes into values, and counts them."""

    def __init__(self, loader: _Loader) -> None:
        self.loader, self.left, self.above = loader, VALUES, list[yaml.Node]()

    def value(self, node: yaml.Node) -> Any:
        """The value of a node.

        Raises:
            SuiteError: a suite must not hold it; the message names the line.
        """
        self.left -= 1
        if self.left < 0:
            raise _refused(node, f"the suite has more than {VALUES:,} values")
        if len(self.above) >= DEPTH:
            raise _refused(node, f"values are nested over {DEPTH} levels deep")
        if any(node is outer for outer in self.above):
            raise _refused(node, "an alias is inside the value that it repeats")
        self.above.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                self._require_tag(node, "map", "a mapping")
                return self._mapping(node)
            if isinstance(node, yaml.SequenceNode):
                self._require_tag(node, "seq", "a list")
                return [self.value(item) for item in node.value]
            return self._scalar(node)
        finally:
            self.above.pop()

    def _require_tag(self, node: yaml.Node, kind: str, name: str) -> None:
        if node.tag != _TAG + kind:
            tag = node.tag.replace(_TAG, "!!")
            raise _refused(node, f"{name} cannot be {tag}", "remove the tag")

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        """The keys of a mapping. They override those of a merge key (`<<: *other`)."""
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                for other in self._merged(value_node):
                    merged = {**other, **merged}  # the first of several mappings wins
                continue
            key = self._key(key_node)
            if key in values:
                raise _refused(key_node, f"key {key!r} occurs twice")
            values[key] = self.value(value_node)
        return {**merged, **values}

    def _merged(self, node: yaml.Node) -> Iterator[dict[str, Any]]:
        merged = self.value(node)
        for other in merged if isinstance(merged, list) else [merged]:
            if not isinstance(other, dict):
                raise _refused(node, "`<<` takes the keys of a mapping, and this is not a mapping",
                               "write `<<: *name` of a mapping with `&name`")  # fmt: skip
            yield other

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise _refused(node, f"a key must be a name, not {_kind(node)}")
        key = self._scalar(node)
        if isinstance(key, str):
            return key
        fix = f"quote it: '{node.value}'"
        if isinstance(key, bool):
            raise _refused(node, f"key {node.value} is not a name: {_TRUTHS}", fix)
        if re.fullmatch(r"\d*(\.\d*)?([eE][-+]?\d+)?", node.value):
            fix += "; of a number such as 1,5 write 1.5, as a comma parts entries"
        shown = node.value or "nothing"
        raise _refused(node, f"a key must be a name, not {shown[:60]}", fix)

    def _scalar(self, node: yaml.Node) -> Any:
        """The value of a scalar: a string, a number, a boolean or None."""
        text = str(node.value)
        if node.tag not in _SCALARS:
            tag = node.tag.replace(_TAG, "!!")
            raise _refused(node, f"the tag {tag[:60]} makes a value that a suite cannot have",
                           "remove it, or quote the text")  # fmt: skip
        try:
            if node.tag == f"{_TAG}int":
                return self._whole(node, text)
            value = self.loader.construct_object(node)
        except (ValueError, KeyError, OverflowError):
            kind = node.tag.removeprefix(_TAG)
            raise _refused(node, f"'{text[:60]}' is no {kind}", "remove the tag") from None
        if isinstance(value, str) and (bad := re.search("[\0\ud800-\udfff]", value)):
            raise _refused(node, f"a text holds the character {bad[0]!a}", "leave it out")
        return value

    def _whole(self, node: yaml.Node, text: str) -> int:
        digits = text.replace("_", "").lstrip("+-")
        if re.fullmatch(r"0\d+", digits):
            raise _refused(
                node,
                f"{text[:60]} is a number to base 8 in YAML 1.1 and to base 10 in YAML 1.2",
                f"write {digits.lstrip('0')[:60] or '0'}, or quote it if it is a text",
            )
        number = int(text.replace("_", ""), 0) if len(digits) < 40 else 2**64
        if not -(2**63) <= number < 2**63:
            raise _refused(node, f"{text[:60]} is too large a number", "quote it if it is a text")
        return number


def _kind(node: yaml.Node) -> str:
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"


def _refused(node: yaml.Node, message: str, fix: str = "") -> SuiteError:
    return SuiteError(f"line {node.start_mark.line + 1}: {message}", fix=fix)
