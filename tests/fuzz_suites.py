"""Mistakes by the thousand: suites of the package are spoilt in one place or a few, and planned.

    python -m tests.fuzz_suites --mutations 5000 [--seed 1] [--first 0] [--seconds 2] [--real]

A plan is made, or refused by one sentence that names the file and the place; nothing else may
happen. Exit status 1 where something did, with the suite that does it. A seed gives the same
mistakes on every machine; `--first 4711 --mutations 1` makes one of them alone.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from click.testing import CliRunner

from harness.cli import main
from harness.core.locate import package_suites, packaged_suites
from harness.suite.suite import load_suite
from tests.real_stand_ins import stand_ins
from tests.suite_mistakes import Mistaken, mistaken

PLACED = r"line \d+|not YAML|not UTF-8|unknown key|a suite is|--|variant .+: |[a-z_]+([.\[].*)?: "
"""How a refusal goes on behind the file's name: with a line, a place in the tree, or a variant."""
LENGTH = 20_000
"""Characters of a refusal that nobody reads to the end."""


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


def mistakes(
    trees: Mapping[str, dict[str, Any]], numbers: range, seed: int
) -> Iterator[tuple[Mistaken, bytes]]:
    """The mistakes of a seed; each depends on its number and the suites alone."""
    for number in numbers:
        yield mistaken(trees, Random(f"{seed}/{number}"))


def digest(mutations: int, seed: int) -> str:
    """Of all mistakes of a seed: equal wherever the suites are."""
    found = hashlib.sha256()
    for it, text in mistakes(suites(), range(mutations), seed):
        found.update(
            repr((it.said, it.name, it.arguments, text)).encode("utf-8", "backslashreplace")
        )
    return found.hexdigest()


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
    return _unclear(file, done.output) if done.exit_code == 2 else ""


def _unclear(file: Path, output: str) -> str:
    """What a refusal lacks."""
    said = [line for line in output.splitlines() if not line.startswith("warning: ")]
    if not said or not re.match(rf"{re.escape(str(file))}: |--(set|only)\b", said[0]):
        return f"names no file: {output[:300]}"
    if file.suffix not in (".yaml", ".yml") or said[0].startswith("--only"):
        return ""
    told = said[0].removeprefix(f"{file}: ")
    if not re.match(PLACED, told):
        return f"names no place: {told[:300]}"
    if re.search(r"<[\w.]+ object at 0x|<class '|input_value=|yaml\.\w+\.|\[Errno", output):
        return f"speaks of Python: {output[:300]}"
    return ""


def beside(folder: Path) -> None:
    """What suites name by its place beside them."""
    for path in package_suites().glob("*.jinja"):
        (folder / path.name).write_bytes(path.read_bytes())


def fuzz(
    folder: Path, numbers: range, seed: int, seconds: float | None = None,
    told: Callable[[Finding], None] = lambda _: None,
) -> list[Finding]:  # fmt: skip
    """Make the mistakes of these numbers, each on its own.

    Args:
        folder: for the suites and their store.
        seconds: processor time that a plan may take; None: any.
    """
    findings = list[Finding]()
    beside(folder)
    for number, (it, text) in zip(numbers, mistakes(suites(), numbers, seed), strict=True):
        file = folder / it.name
        file.write_bytes(text)
        try:
            wrong = complaint(file, folder / "store", it.arguments, seconds)
        except Exception as error:
            wrong = "".join(traceback.format_exception_only(error))
        file.unlink()
        if wrong:
            findings.append(Finding(wrong, f"{number}: {' '.join(it.said)}", text))
            told(findings[-1])
    return findings


def command() -> int:
    """As `python -m tests.fuzz_suites`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--mutations", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mistake")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=2.0, help="processor time of one plan")
    parser.add_argument(
        "--real", action="store_true", help="the data of HARNESS_REAL_DATA, no small files for it"
    )
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # names of no model are asked for by the thousand
    numbers = range(given.first, given.first + given.mutations)
    with tempfile.TemporaryDirectory() as folder:
        if not given.real:
            stand_ins(Path(folder, "real"), suites())
        found = fuzz(Path(folder), numbers, given.seed, given.seconds,
                     lambda f: print(f"{f.mutation}\n    {f.what}", flush=True))  # fmt: skip
    print(f"{given.mutations:,} mutations, seed {given.seed}: {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(command())
