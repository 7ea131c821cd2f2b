"""Mistakes in a suite, drawn by a seed: what a person may write, and what nobody would."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import yaml

from harness.core.registry import find, names
from harness.models.spec import ModelSpec
from harness.store.stage import Resources
from harness.suite.data import DataSpec, Split
from harness.suite.suite import Generate, Suite
from harness.suite.tune import Tune
from tests.suite_values import BYTES, FOREIGN, NAMES, PATHS, TEXTS, UNITS, VALUES

Place = tuple[str | int, ...]
"""Keys and indexes from a suite's root to a node."""
MARK = "HERE-STANDS-WHAT-YAML-READS-{}-"
"""Stands in a tree for text that no dumper would write."""
AXES = {"scorers": "scorer", "method": "method", "objective": "objective"}


@dataclass
class Mistaken:
    """A suite while mistakes are made in it.

    Attributes:
        others: the trees of all suites.
        raw: the bytes that each mark stands for.
        arguments: of the command line, after the suite's.
        name: of the suite's file.
    """

    tree: dict[str, Any]
    others: Mapping[str, dict[str, Any]]
    rng: Random
    said: list[str] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    name: str = "suite.yaml"

    def place(self) -> Place:
        return self.rng.choice(list(nodes(self.tree)) or [()])

    def mark(self, raw: bytes) -> str:
        """A text that stands for these bytes."""
        self.raw.append(raw)
        return MARK.format(len(self.raw) - 1)

    def text(self) -> bytes:
        """The suite as it is written."""
        text = encoded(yaml.safe_dump(self.tree, sort_keys=False, allow_unicode=True))
        for number, raw in enumerate(self.raw):
            text = text.replace(MARK.format(number).encode(), raw)
        return text


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def nodes(tree: Any, place: Place = ()) -> Iterator[Place]:
    """The place of every node below the root."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from nodes(value, (*place, key))


def node_at(tree: Any, place: Place) -> Any:
    for key in place:
        tree = tree[key]
    return tree


def options_at(place: Place) -> list[str]:
    """Names of all the options that may stand at a place, given or not."""
    match place:
        case ():
            return [name for name in Suite.model_fields if name != "executor"]
        case ("models", _):
            return list(ModelSpec.model_fields)
        case ("data", _):
            return [*DataSpec.model_fields, *Split.model_fields]
        case ("data", _, _):
            return list(Split.model_fields)
        case ("base", _) | ("generate",):
            return list(Generate.model_fields)
        case ("tune",):
            return list(Tune.model_fields)
        case ("resources",):
            return list(Resources.model_fields)
        case (*_, (str(axis)), int(), str(name)) if axis in AXES and name in names(AXES[axis]):
            return list(find(AXES[axis], name).model_fields)
    return []


# --- mistakes at a node: each changes the tree, and says what it did ------------------------------


def drop(it: Mistaken, above: Any, key: Any) -> str:
    del above[key]
    return "dropped"


def rename(it: Mistaken, above: Any, key: Any) -> str:
    new = _renamed(str(key if isinstance(above, dict) else above[key]), it.rng)
    if isinstance(above, dict):
        above[new] = above.pop(key)
    else:
        above[key] = new
    return f"renamed to {new[:40]!r}"


def _renamed(name: str, rng: Random) -> str:
    """A slip of the finger: a letter lost, doubled or swapped, another case, another script."""
    at = rng.randrange(max(1, len(name)))
    return rng.choice(
        [name[:at] + name[at + 1 :], name[:at] + name[at : at + 1] + name[at:], name.upper(),
         name[:at] + name[at + 1 : at + 2] + name[at : at + 1] + name[at + 2 :], f" {name}", "",
         name.replace("_", "-"), name.replace("e", "\u0435"), f"{name}s", f"{name}:", f'"{name}"']
    )  # fmt: skip


def retype(it: Mistaken, above: Any, key: Any) -> str:
    above[key] = it.rng.choice(VALUES)
    return f"retyped {str(above[key])[:40]!r}"


def beside(it: Mistaken, above: Any, key: Any) -> str:
    value, new = above[key], it.rng.choice(VALUES)
    if isinstance(value, dict):
        names = ["x", "path", "args", "data", "label", "seed", "map", "start"]
        value[it.rng.choice(names)] = new
    elif isinstance(value, list):
        value.append(new)
    else:
        above[key] = new
    return f"beside {str(new)[:40]!r}"


def double(it: Mistaken, above: Any, key: Any) -> str:
    value = above[key]
    if isinstance(above, list):
        above[key : key + 1] = [value, value]
    else:
        above[key] = [value, value]
    return "doubled"


def nest(it: Mistaken, above: Any, key: Any) -> str:
    for _ in range(it.rng.choice([1, 2, 50])):
        above[key] = {str(key): above[key]}
    return "nested"


def wrap(it: Mistaken, above: Any, key: Any) -> str:
    for _ in range(it.rng.choice([1, 2, 50])):
        above[key] = [above[key]]
    return "wrapped"


def yaml_text(it: Mistaken, above: Any, key: Any) -> str:
    raw = it.rng.choice(TEXTS)
    above[key] = it.mark(encoded(raw))
    return f"written {raw[:40]!r}"


def yaml_key(it: Mistaken, above: Any, key: Any) -> str:
    raw, value = it.rng.choice(TEXTS), above.pop(key)
    if isinstance(above, dict):
        above[it.mark(encoded(raw))] = value
    return f"its key written {raw[:40]!r}"


def some_bytes(it: Mistaken, above: Any, key: Any) -> str:
    raw = it.rng.choice(BYTES)
    above[key] = it.mark(raw)
    return f"bytes {raw!r}"


def moved(it: Mistaken, above: Any, key: Any) -> str:
    """Another part of the suite stands here."""
    place = it.place()
    above[key] = copy.deepcopy(node_at(it.tree, place))
    return f"as {_shown(place)}"


def swapped(it: Mistaken, above: Any, key: Any) -> str:
    """Its value is a neighbour's, and the other way round."""
    other = it.rng.choice(list(above) if isinstance(above, dict) else range(len(above)))
    above[key], above[other] = above[other], above[key]
    return f"swapped with {other}"


def other_form(it: Mistaken, above: Any, key: Any) -> str:
    """A mapping as a list, a list as a mapping or one text, a scalar as a mapping's only key."""
    value = above[key]
    if isinstance(value, dict):
        above[key] = it.rng.choice([[{k: v} for k, v in value.items()], list(value), str(value)])
    elif isinstance(value, list):
        words = ", ".join(map(str, value))
        above[key] = it.rng.choice([dict.fromkeys(map(str, value)), words, f"[{words}]"])
    else:
        above[key] = {value: None}
    return "in another form"


def as_text(it: Mistaken, above: Any, key: Any) -> str:
    """A number in quotes; a name with a quote too many."""
    value = above[key]
    above[key] = it.rng.choice([str(value), f" {value}", f"{value},", f"'{value}", f"={value}"])
    return f"as text {above[key][:40]!r}"


def with_unit(it: Mistaken, above: Any, key: Any) -> str:
    """A number as people write it elsewhere; of any other value, one that was a number."""
    numbers = [p for p in nodes(it.tree) if type(node_at(it.tree, p)) in (int, float)]
    if numbers and it.rng.random() < 0.8:
        place = it.rng.choice(numbers)
        above, key = node_at(it.tree, place[:-1]), place[-1]
    above[key] = it.rng.choice(UNITS)
    return f"with a unit {key}: {above[key]!r}"


def path(it: Mistaken, above: Any, key: Any) -> str:
    places = [p for p in nodes(it.tree) if p[-1] in ("path", "package", "rule", "name", "labels")]
    if places and it.rng.random() < 0.8:
        place = it.rng.choice(places)
        above, key = node_at(it.tree, place[:-1]), place[-1]
    above[key] = it.rng.choice(PATHS)
    return f"a path {key}: {above[key][:40]!r}"


def foreign(it: Mistaken, above: Any, key: Any) -> str:
    """Another tool's option, at a place that has options or at any other."""
    places = [p for p in [(), *nodes(it.tree)] if options_at(p)]
    place = it.rng.choice(places) if it.rng.random() < 0.7 else it.place()
    holder = _options(it.tree, place)
    name = it.rng.choice(list(FOREIGN))
    holder[name] = copy.deepcopy(FOREIGN[name])
    return f"{name} at {_shown(place)}"


def option(it: Mistaken, above: Any, key: Any) -> str:
    """One of our own options with an odd value."""
    place = it.rng.choice([p for p in [(), *nodes(it.tree)] if options_at(p)] or [()])
    name, new = it.rng.choice(options_at(place)), it.rng.choice([*VALUES, *UNITS, *PATHS, None])
    raw = it.rng.choice(TEXTS)
    written = it.rng.random() < 0.2
    _options(it.tree, place)[name] = it.mark(encoded(raw)) if written else copy.deepcopy(new)
    return f"option {name} at {_shown(place)}: {str(raw if written else new)[:40]!r}"


def _options(tree: Any, place: Place) -> dict[Any, Any]:
    """The mapping at a place; what is none there, such as a name without options, becomes one."""
    holder: dict[Any, Any] | Any = node_at(tree, place)
    if isinstance(holder, dict):
        return holder
    made: dict[Any, Any] = {}
    node_at(tree, place[:-1])[place[-1]] = made
    return made


def section(it: Mistaken, above: Any, key: Any) -> str:
    """A section of another suite, in the place of this one's or beside it."""
    suite = it.rng.choice(sorted(it.others))
    name = it.rng.choice(list(it.others[suite]))
    new, old = copy.deepcopy(it.others[suite][name]), it.tree.get(name)
    if isinstance(new, dict) and isinstance(old, dict) and it.rng.random() < 0.5:
        it.tree[name] = {**old, **new}
    else:
        it.tree[name] = new
    return f"{name} of {suite}"


def setting(it: Mistaken, above: Any, key: Any) -> str:
    """A `--set` of the command line."""
    place, new = it.place(), it.rng.choice([*map(str, VALUES), *TEXTS, *UNITS, *PATHS, *FOREIGN])
    dotted = ".".join(map(str, place if it.rng.random() < 0.7 else place[-2:]))
    word = it.rng.choice([f"{dotted}={new}", dotted, f"{dotted}.x={new}", f"{new}=1", f"={dotted}"])
    it.arguments += ["--set", word.replace("\0", "")]  # no process is given one
    return f"--set {it.arguments[-1][:60]!r}"


def only(it: Mistaken, above: Any, key: Any) -> str:
    """A pattern of variants."""
    patterns = [
        "*",
        "",
        "lora*",
        "[",
        "[!",
        "a/b",
        "*/*/*",
        "!",
        "(",
        "\\",
        "lora,full",
        "base",
        " ",
    ]
    it.arguments += ["--only", it.rng.choice([*patterns, str(key)])]
    return f"--only {it.arguments[-1]!r}"


def file_name(it: Mistaken, above: Any, key: Any) -> str:
    it.name = it.rng.choice(NAMES)
    return f"in {it.name[:40]!r}"


AT_NODES: tuple[Callable[[Mistaken, Any, Any], str], ...] = (
    drop, drop, rename, rename, retype, retype, double, nest, wrap, yaml_text, yaml_text, yaml_key,
    some_bytes, moved, moved, setting, setting, beside, swapped, other_form, as_text, with_unit,
    with_unit, path, path, foreign, foreign, option, option, option, option, section, section, only,
    file_name,
)  # fmt: skip


# --- mistakes in the text as it is written --------------------------------------------------------


def cut(text: bytes, rng: Random) -> bytes:
    return text[: rng.randrange(len(text) + 1)]


def line_ends(text: bytes, rng: Random) -> bytes:
    """Of Windows, of old Macs, of Unicode; everywhere or in one place."""
    end = rng.choice(
        [b"\r\n", b"\r", b"\n\r", "\u2028".encode(), "\x85".encode(), b"\x0b", b"\x0c"]
    )
    return text.replace(b"\n", end, rng.choice([-1, -1, 1, 5]))


def key_twice(text: bytes, rng: Random) -> bytes:
    """A line stands again, right after itself or somewhere else."""
    lines = text.split(b"\n")
    keyed = [n for n, line in enumerate(lines) if re.match(rb"\s*(- )?[\w/.-]+:", line)]
    if not keyed:
        return text
    at = rng.choice(keyed)
    lines.insert(
        rng.choice([at + 1, rng.randrange(len(lines))]), lines[at].replace(b"- ", b"  ", 1)
    )
    return b"\n".join(lines)


def indented(text: bytes, rng: Random) -> bytes:
    """A line stands too far to the right or left, or behind a tab."""
    lines = text.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = rng.choice([b"  " + lines[at], b" " + lines[at], lines[at][1:], b"\t" + lines[at],
                            lines[at].lstrip(), "\u00a0".encode() + lines[at]])  # fmt: skip
    return b"\n".join(lines)


def lines_lost(text: bytes, rng: Random) -> bytes:
    lines = text.split(b"\n")
    at = rng.randrange(len(lines))
    return b"\n".join(lines[:at] + lines[at + rng.choice([1, 1, 2, 5]) :])


def punctuated(text: bytes, rng: Random) -> bytes:
    """A character too many, too few, or of another keyboard."""
    at = rng.randrange(len(text) + 1)
    new = rng.choice([b":", b",", b"'", b'"', b"}", b"[", b"#", b"-", b" ", b"\n", b"&", b"*", b"!",
                      b"%", b"|", "“".encode(), "\uff1a".encode(), "\u200b".encode(),
                      b"\x00"])  # fmt: skip
    return text[:at] + new + text[at + rng.choice([0, 1]) :]


def encoding(text: bytes, rng: Random) -> bytes:
    """Saved as another editor would."""
    said = text.decode("utf-8", "replace")
    names = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"]
    return said.encode(rng.choice(names), "replace")


def documents(text: bytes, rng: Random) -> bytes:
    """More or less than one document."""
    return rng.choice([b"", b"\n", b"---\n", b"# nothing\n", text + b"---\n" + text, text * 2,
                       b"---\n" + text, text + b"...\n", b"%YAML 1.2\n---\n" + text,
                       b"```yaml\n" + text + b"```\n", b"null\n", b"[]\n", b"7\n"])  # fmt: skip


IN_TEXT: tuple[Callable[[bytes, Random], bytes], ...] = (
    cut, line_ends, key_twice, indented, lines_lost, punctuated, encoding, documents,
)  # fmt: skip


def mistaken(trees: Mapping[str, dict[str, Any]], rng: Random) -> tuple[Mistaken, bytes]:
    """A suite with a mistake, or with two or three; and its text."""
    suite = rng.choice(sorted(trees))
    it = Mistaken(copy.deepcopy(trees[suite]), trees, rng, [f"{suite}:"])
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3])):
        place = it.place()
        if place and rng.random() < 0.85:
            told = rng.choice(AT_NODES)(it, node_at(it.tree, place[:-1]), place[-1])
            it.said.append(f"{_shown(place)}: {told};")
    text = it.text()
    if rng.random() < 0.15:
        change = rng.choice(IN_TEXT)
        text = change(text, rng)
        it.said.append(f"text: {change.__name__};")
    return it, text


def _shown(place: Place) -> str:
    return ".".join(map(str, place))
