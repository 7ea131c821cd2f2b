"""How many mutants of a module do its tests kill? `make mutants`, or this file with options.

    python tests/mutation/run.py --sample 20 --seed 0           # 20 mutants of every module
    python tests/mutation/run.py verdicts losses                # all mutants of two modules
    python tests/mutation/run.py --sample 20 --resume           # kills of the last time stand

modules.toml tells which tests concern which module; equivalent.toml lists mutants that may live,
each with its reason. They stand apart in the table and count neither as killed nor as alive.
Exit code 1 where less than nine of ten are killed.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import shlex
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from population import Mutant, mutants_of
from warm import BROKEN, TIMEOUT, Checkout, warm

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WANTED = 0.9
ALIVE = "alive"


@dataclass
class Tally:
    """What became of a module's mutants."""

    module: str
    population: int
    killed: int = 0
    listed: int = 0
    alive: list[str] = field(default_factory=list)

    @property
    def tried(self) -> int:
        return self.killed + len(self.alive)


def wilson(killed: int, tried: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson, 1927)."""
    if tried == 0:
        return 0.0, 1.0
    z, share = 1.959964, killed / tried
    middle = share + z * z / (2 * tried)
    half = z * math.sqrt(share * (1 - share) / tried + z * z / (4 * tried * tried))
    below = 1 + z * z / tried
    return (middle - half) / below, (middle + half) / below


def concerned(words: list[str]) -> dict[str, str]:
    """Module -> arguments of pytest, of the modules whose path holds one of these words."""
    table: dict[str, str] = {}
    for part in tomllib.loads((HERE / "modules.toml").read_text())["tests"]:
        for pattern in part["modules"]:
            paths = sorted(ROOT.glob(pattern))
            if not paths:
                raise SystemExit(f"modules.toml: no module {pattern}")
            for path in paths:
                table[str(path.relative_to(ROOT))] = part["run"]
    chosen = {m: t for m, t in table.items() if not words or any(word in m for word in words)}
    return {module: tests for module, tests in chosen.items() if not module.endswith("__init__.py")}


@cache
def listed() -> dict[tuple[str, str, str], str]:
    """(Module, line as it was, line as it becomes) -> why such a mutant may live."""
    entries = tomllib.loads((HERE / "equivalent.toml").read_text())["mutant"]
    for entry in entries:
        if entry["was"] not in map(str.strip, (ROOT / entry["module"]).read_text().splitlines()):
            print(f"equivalent.toml: {entry['module']} has no line {entry['was']!r} any more")
    return {(e["module"], e["was"], e.get("becomes", "")): e["reason"] for e in entries}


def becomes(source: str, code: str) -> tuple[str, str]:
    """The first lines that differ, before and after."""
    pairs = zip(source.splitlines(), code.splitlines(), strict=False)
    return next(((a.strip(), b.strip()) for a, b in pairs if a != b), ("", ""))


def chosen(mutants: list[Mutant], source: str, sample: int, seed: int) -> list[Mutant]:
    """The mutants to try, in random order: all for a sample of 0."""
    valid = (m for m in sorted(mutants, key=lambda m: m.rank(seed)) if m.code(source) is not None)
    return list(itertools.islice(valid, sample or None))


def main() -> int:
    options = _options()
    table = concerned(options.modules)
    if options.count:
        for module in table:
            print(f"{len(mutants_of(module, (ROOT / module).read_text())):6} {module}")
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        checkout = Checkout(ROOT, Path(folder))
        return _told([_tried(checkout, *entry, options) for entry in table.items()])


def _tried(checkout: Checkout, module: str, tests: str, options: argparse.Namespace) -> Tally:
    """A module's mutants, one after the other; each result is kept at once."""
    began, source = time.monotonic(), (checkout.root / module).read_text(encoding="utf-8")
    mutants, may_live = mutants_of(module, source), listed()
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    known = _killed(options.results, digest) if options.resume else set()
    tally, clean = Tally(module, len(mutants)), None
    arguments = shlex.split(tests)
    for mutant in chosen(mutants, source, options.sample, options.seed):
        code = mutant.code(source)
        assert code is not None
        was, now = becomes(source, code)
        if (module, was, now) in may_live or (module, was, "") in may_live:
            tally.listed += 1
            continue
        if mutant.name in known:
            tally.killed += 1
            continue
        clean = clean or _clean(checkout, module, arguments)
        with checkout.mutated(module, code):
            ended = checkout.test(arguments, 3 * clean + 20)
        if ended == BROKEN:
            raise SystemExit(f"{module}: pytest did not start")
        status = {0: ALIVE, TIMEOUT: TIMEOUT}.get(ended, "killed")
        tally.killed += status != ALIVE
        if status == ALIVE:
            tally.alive.append(f"{mutant.line}: {was}  ->  {now}")
            print(f"  alive  {module}:{tally.alive[-1]}", flush=True)
        told = {"name": mutant.name, "source": digest, "becomes": now, "status": status}
        with options.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")
    print(_line(tally, time.monotonic() - began), flush=True)
    return tally


def _clean(checkout: Checkout, module: str, arguments: list[str]) -> float:
    """Seconds that the tests take with no mutant, once the libraries they use are loaded."""
    for log in ("cold.log", "warm.log"):
        began, path = time.monotonic(), checkout.root.parent / log
        if (code := checkout.test(arguments, 900, path)) != 0:
            raise SystemExit(f"{module}: its tests fail by themselves ({code})\n{path.read_text()}")
        warm(path.parent)
    return time.monotonic() - began


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("modules", nargs="*", help="words of their paths; all by default")
    parser.add_argument("--sample", type=int, default=0, help="mutants of each module; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--resume", action="store_true", help="kills in the results file stand")
    parser.add_argument("--count", action="store_true", help="only count them")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "mutants.jsonl")
    options = parser.parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    return options


def _killed(results: Path, digest: str) -> set[str]:
    """Names of mutants of this very text that were killed, as far as results were kept."""
    if not results.exists():
        return set()
    told = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    last = {entry["name"]: entry["status"] for entry in told if entry["source"] == digest}
    return {name for name, status in last.items() if status != ALIVE}


def _line(tally: Tally, seconds: float) -> str:
    low, high = wilson(tally.killed, tally.tried)
    share = tally.killed / tally.tried if tally.tried else math.nan
    return (
        f"{tally.module}: {tally.killed} of {tally.tried} killed, {share:.1%}"
        f" [{low:.1%}, {high:.1%}], {tally.listed} listed,"
        f" {tally.population} mutants in all, {seconds:.0f} s"
    )


def _told(tallies: list[Tally]) -> int:
    """The table in Markdown, and the exit code."""
    print("\n| module | mutants | tried | listed | killed | share | 95% interval |")
    print("|---|---|---|---|---|---|---|")
    whole = Tally("all", sum(t.population for t in tallies))
    for tally in tallies:
        whole.killed += tally.killed
        whole.listed += tally.listed
        whole.alive += tally.alive
    for tally in (*tallies, whole):
        low, high = wilson(tally.killed, tally.tried)
        share = f"{tally.killed / tally.tried:.1%}" if tally.tried else "-"
        print(
            f"| {tally.module} | {tally.population} | {tally.tried} | {tally.listed} |"
            f" {tally.killed} | {share} | {low:.1%} to {high:.1%} |"
        )
    return int(whole.killed < WANTED * whole.tried)


if __name__ == "__main__":
    sys.exit(main())
