"""Mistakes by the thousand: every node of every committed suite is dropped, renamed, retyped,
doubled, nested, blown up or written in YAML's stranger ways, and planned.

    python -m tests.fuzz_suites --mutations 5000 [--seed 1] [--seconds 2]

A plan is made, or refused by one sentence that names the file and the place; nothing else may
happen. Exit status 1 where something did, with the suite that does it.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import os
import random
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from harness.cli import main
from harness.core.locate import package_suites, packaged_suites
from harness.core.registry import find, names
from harness.models.spec import ModelSpec
from harness.store.stage import Resources
from harness.suite.data import DataSpec, Split
from harness.suite.suite import Generate, Suite, load_suite
from harness.suite.tune import Tune

Place = tuple[str | int, ...]
"""Keys and indexes from a suite's root to a node."""
MARK = "HERE-STANDS-WHAT-YAML-READS"
"""Stands in a tree for text that no dumper would write."""
PLACED = r"line \d+|not YAML|not UTF-8|unknown key|a suite is|--|variant .+: |[a-z_]+([.\[].*)?: "
"""How a refusal goes on behind the file's name: with a line, a place in the tree, or a variant."""
LENGTH = 20_000
"""Characters of a refusal that nobody reads to the end."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 0.5, -0.0, 1e308, float("nan"), float("inf"), 10**30, -(10**30),
    "", " ", "off", "x", "1.0e-3", "1e-3", "../..", "/", ".", "~", "~nobody/x", "a/b", "${HOME}",
    "${NO_SUCH_VARIABLE}", "a\nb", "a\0b", "\ud7ff\ue000\U0001f600", "\x1b[31mred", "x" * 5000,
    "a" * 300 + "/b", "rouge", "lora", "sft", "dpo", "ppo", "rlaif", "reward", "base", "tiny", [],
    {}, [[]], [None], [{}], {"": None}, {"x": {}}, {1: 2}, {None: 1}, {True: 1}, {1.5: "x"},
    [1, "a"], ["x", "x"], [0] * 2000, list(range(300)), {f"k{i}": i for i in range(300)},
    {"path": "/dev/null"}, {"low": 1, "high": 2}, {"lora": {"r": 1}}, {"sft": None}, [True, False],
)  # fmt: skip
TEXTS = (
    "1,0e-3", "{a: 1,0e-3}", "{a, b: 1}", "{a: 1,, b: 2}", "[a, b", "{a: b", "- a", "a: b: c", "\t",
    "\tx: 1", "&a x", "*nobody", "&a [*a]", "&a {b: *a}", "{<<: [1]}", "{<<: x}", "{<<: {x: 1}}",
    "{<<: [{x: 1}, {y: 2}]}", "!!python/object/apply:os.system [ls]", "!!python/name:os.system",
    "!unknown x", "!!binary aGk=", "!!binary '%'", "!!timestamp 2026-01-01", "2026-01-01",
    "2026-13-45", "2026-01-01 25:61:61", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]",
    "!!int x", "!!float x", "!!bool x", "!!null x", "!!str 1", "!!seq x", "!!map x", "!!map [a]",
    "!!seq {a: 1}", "!!merge x", "=", "<<", "? a", "? [a, b]\n: c", "{[a]: b}", "{{a: b}: c}",
    "0o17", "017", "08", "0x1f", "0b11", "1_000", "1:30", "1:30.5", "190:20:30", "+1", "1e400",
    ".inf", "-.inf", ".nan", "no", "on", "y", "Off", "1.10", "9" * 5000, "1e" + "9" * 5000,
    "0." + "1" * 5000, "0x" + "f" * 5000, "[" * 400 + "]" * 400, "{a: " * 400 + "}" * 400,
    "[" * 3000 + "]" * 3000, "'\\0'", '"\\0"', '"\\x7f"', '"\\uD800"', '"\\ud83d\\ude00"', '"\\q"',
    "%YAML 1.1", "--- x", "...", "x # y", "#", "@x", "`x`", "|\n x", ">\n x", "'x", '"x',
    "&a [x, x, x]\nz: [*a, *a]", "\ufeff", "\u2028x", "\x85", "{}}", "[]]", "x\r\ny: 1", "\r",
)  # fmt: skip
"""YAML that no dumper writes: flow commas, anchors, merge keys, tags, tabs, odd numbers."""
BYTES = (b"\xff\xfe", b"\x80", b"\xc3", b"\xed\xa0\x80", b"\0", b"\x1b", b"\xef\xbb\xbf")
"""Bytes of no UTF-8 text, or of none that YAML has."""


@dataclass
class Finding:
    """What should not have happened, and the suite that makes it happen."""

    what: str
    mutation: str
    text: bytes = field(repr=False)


def suites() -> dict[str, dict[str, Any]]:
    """Every committed suite by name, its models replaced by one that is in the package; but for
    lists of benchmarks alone, whose data is the hub's."""
    found = {}
    for suite, path in packaged_suites().items():
        tree = load_suite(str(path)).suite.model_dump(mode="json", exclude_unset=True)
        if not tree.get("data"):
            continue
        for name, spec in tree["models"].items():
            kept = {key: spec[key] for key in spec if key not in ("package", "gguf", "path")}
            tree["models"][name] = {"path": "pocket/models/pocket-1m", **kept}
        tree.pop("executor", None)  # this machine's, whatever it has
        found[suite] = tree
    return found


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


AXES = {"scorers": "scorer", "method": "method", "objective": "objective"}


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


def renamed(name: str, random: random.Random) -> str:
    """A slip of the finger: a letter lost, doubled or swapped, or another case."""
    at = random.randrange(max(1, len(name)))
    return random.choice(
        [name[:at] + name[at + 1 :], name[:at] + name[at : at + 1] + name[at:], name.upper(),
         name[:at] + name[at + 1 : at + 2] + name[at : at + 1] + name[at + 2 :], f" {name}", ""]
    )  # fmt: skip


def mutated(tree: dict[str, Any], random: random.Random) -> tuple[str, bytes, list[str]]:
    """One mistake: what it is, the suite's text with it, and settings of the command line."""
    tree = copy.deepcopy(tree)
    place = random.choice(list(nodes(tree)))
    above, key = node_at(tree, place[:-1]), place[-1]
    value, shown = above[key], ".".join(map(str, place))
    raw, arguments = b"", list[str]()
    kind = random.choice(
        ["drop", "rename", "retype", "double", "nest", "wrap", "text", "key", "bytes", "move",
         "set", "beside", "cut", "option", "option", "option"]
    )  # fmt: skip
    said = kind
    if kind == "drop":
        del above[key]
    elif kind == "rename":
        new = renamed(str(key if isinstance(above, dict) else value), random)
        said = f"rename to {new!r}"
        if isinstance(above, dict):
            del above[key]
            above[new] = value
        else:
            above[key] = new
    elif kind in ("retype", "beside"):
        new = random.choice(VALUES)
        said = f"{kind} {str(new)[:40]!r}"
        if kind == "beside" and isinstance(value, dict):
            value[random.choice(["x", "path", "args", "data", "label", "seed", "map", "start"])] = (
                new
            )
        elif kind == "beside" and isinstance(value, list):
            value.append(new)
        else:
            above[key] = new
    elif kind == "double":
        above[key] = [value, value]
        if isinstance(above, list):
            above[key : key + 1] = [value, value]
    elif kind == "nest":
        for _ in range(random.choice([1, 2, 50])):
            above[key] = {str(key): above[key]}
    elif kind == "wrap":
        for _ in range(random.choice([1, 2, 50])):
            above[key] = [above[key]]
    elif kind == "text":
        raw = random.choice(TEXTS).encode("utf-8", "surrogatepass")
        above[key] = MARK
    elif kind == "key" and isinstance(above, dict):
        raw = random.choice(TEXTS).encode("utf-8", "surrogatepass")
        del above[key]
        above[MARK] = value
    elif kind == "bytes":
        raw = random.choice(BYTES)
        above[key] = MARK
    elif kind == "move":
        other = node_at(tree, random.choice(list(nodes(tree))))
        above[key] = copy.deepcopy(other)
    elif kind == "set":
        new = random.choice([*map(str, VALUES), *TEXTS])
        dotted = ".".join(map(str, place if random.random() < 0.7 else place[-2:]))
        arguments = ["--set", random.choice([f"{dotted}={new}", dotted, f"{dotted}.x={new}"])]
        arguments = [word.replace("\0", "") for word in arguments]  # no process is given one
    elif kind == "option":
        places = [p for p in [(), *nodes(tree)] if options_at(p)]
        place = random.choice(places)
        name, new = random.choice(options_at(place)), random.choice([*VALUES, MARK])
        raw = random.choice(TEXTS).encode("utf-8", "surrogatepass")
        holder = node_at(tree, place)
        if not isinstance(holder, dict):  # a name without options
            holder = node_at(tree, place[:-1])[place[-1]] = {}
        holder[name] = new
        shown, said = ".".join(map(str, place)), f"option {name}: {str(new)[:40]!r}"
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode(
        "utf-8", "surrogatepass"
    )
    text = text.replace(MARK.encode(), raw)
    if kind == "cut":
        text = text[: random.randrange(len(text))]
    return f"{shown}: {said} {raw[:60]!r} {arguments}", text, arguments


def complaint(file: Path, store: Path, arguments: list[str], seconds: float | None) -> str:
    """What is wrong with what `harness plan` does; empty where all is well."""
    began = time.process_time()
    done = CliRunner().invoke(main, ["plan", str(file), "--store", str(store), *arguments])
    took = time.process_time() - began
    if done.exit_code == 70 or "Traceback" in done.output:
        return f"exit {done.exit_code}: {done.output.strip().splitlines()[-2:]}"
    if done.exit_code not in (0, 2):
        return f"exit {done.exit_code}: {done.output[-300:]}"
    if len(done.output) > LENGTH and done.exit_code:
        return f"a refusal of {len(done.output):,} characters"
    if seconds is not None and took > seconds:
        return f"took {took:.1f} s"
    if done.exit_code == 2:
        said = [line for line in done.output.splitlines() if not line.startswith("warning: ")]
        if not said or not re.match(rf"{re.escape(str(file))}: |--set |--only ", said[0]):
            return f"names no file: {done.output[:300]}"
        told = said[0].removeprefix(f"{file}: ")
        if not re.match(PLACED, told):
            return f"names no place: {told[:300]}"
        if re.search(r"<[\w.]+ object at 0x|<class '|input_value=|yaml\.\w+\.", done.output):
            return f"speaks of Python: {done.output[:300]}"
    return ""


def _stand_in(number: int) -> dict[str, Any]:
    """The columns of all real data sets, by the last part of the file's name."""
    said = {"from": "gpt", "value": f"word {number}"}
    asked = f"\n\nHuman: say {number}\n\nAssistant:"
    turns = [{"role": "user", "content": "say"}, {"role": "assistant", "content": f"{number}"}]
    return {
        "alpaca_en_demo.json": {"instruction": f"say {number}", "input": "", "output": "word"},
        "dialogsum.dev.jsonl": {"dialogue": f"#1#: say {number}", "summary": "a word is said"},
        "dpo_en_demo.json": {
            "conversations": [{"from": "human", "value": f"say {number}"}],
            "chosen": said, "rejected": {**said, "value": "no"},
        },
        "harmless-base-test.jsonl.gz": {"chosen": f"{asked} yes", "rejected": f"{asked} no"},
        "kto_en_demo.json": {"messages": turns, "label": number % 2 == 0},
        "stories.jsonl": {"text": f"Once there were {number} words."},
        "test.jsonl": {"question": f"{number} + 1?", "answer": f"#### {number + 1}"},
        "train.jsonl": {"question": f"{number} + 2?", "answer": f"#### {number + 2}"},
    }  # fmt: skip


_ROWS = {"stories.jsonl": 5, "harmless-base-test.jsonl.gz": 2_312}
_SEPARATORS = {"input.txt": "\n\n", "test.txt": "\n \n"}


def stand_ins(folder: Path, trees: dict[str, dict[str, Any]]) -> None:
    """Small files of the same columns where the suites of real data look for theirs, as plans read
    the first rows; models are empty files."""
    rows = [_stand_in(number) for number in range(2_312)]
    for place in re.findall(r"\$\{HARNESS_REAL_DATA\}/([\w./-]+)", yaml.safe_dump(trees)):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name in _SEPARATORS:
            lines = (f"Line {number} of a text." for number in range(8_000))
            path.write_text(_SEPARATORS[path.name].join(lines), encoding="utf-8")
        elif path.name in rows[0]:
            named = [row[path.name] for row in rows[: _ROWS.get(path.name, 1_000)]]
            lines = (json.dumps(row) + "\n" for row in named)
            text = json.dumps(named) if path.suffix == ".json" else "".join(lines)
            packed = gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode()
            path.write_bytes(packed)
        else:
            path.touch()
    os.environ["HARNESS_REAL_DATA"] = str(folder)


def beside(folder: Path) -> None:
    """What suites name by its place beside them."""
    for path in package_suites().glob("*.jinja"):
        (folder / path.name).write_bytes(path.read_bytes())


def fuzz(
    folder: Path, mutations: int, seed: int, seconds: float | None = None,
    told: Callable[[Finding], None] = lambda _: None,
) -> list[Finding]:  # fmt: skip
    """Make so many mistakes, each on its own.

    Args:
        folder: for the suites and their store.
        seconds: processor time that a plan may take; None: any.
    """
    trees = suites()
    stand_ins(folder / "real", trees)
    file, store, findings = folder / "suite.yaml", folder / "store", list[Finding]()
    beside(folder)

    @seeded(seed)
    @settings(
        max_examples=mutations, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.sampled_from(sorted(trees)), st.integers(0, 2**32))
    def mistakes(name: str, number: int) -> None:
        said, text, arguments = mutated(trees[name], random.Random(number))
        file.write_bytes(text)
        try:
            wrong = complaint(file, store, arguments, seconds)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            wrong = "".join(traceback.format_exception_only(error))
        if wrong:
            findings.append(Finding(wrong, f"{name}: {said}", text))
            told(findings[-1])

    mistakes()
    return findings


def command() -> int:
    """As `python -m tests.fuzz_suites`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--mutations", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=2.0, help="processor time of one plan")
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # names of no model are asked for by the thousand
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(Path(folder), given.mutations, given.seed, given.seconds,
                     lambda f: print(f"{f.mutation}\n    {f.what}", flush=True))  # fmt: skip
    print(f"{given.mutations:,} mutations, seed {given.seed}: {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(command())
