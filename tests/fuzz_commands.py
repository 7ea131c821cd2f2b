"""Mistakes in the arguments of commands, and in the files that they name: labels, sheets, claims.

    python -m tests.fuzz_commands --mistakes 2000 [--seed 1] [--first 0] [--seconds 2]

A command does what it is asked, or refuses in a sentence about what was typed; its exit status is
one that its help names. Nothing is trained: the suite's variants are bases, and its judge prefers
the longer answer. A seed gives the same mistakes on every machine.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import yaml
from click.testing import CliRunner

from harness.cli import main
from harness.core.text import visible
from tests.importers import mutations, samples
from tests.importers.samples import FILES
from tests.suite_mistakes import IN_TEXT, encoded
from tests.suite_values import BYTES, PATHS, TEXTS, UNITS, VALUES

SUITE = {
    "name": "asked",
    "models": {"tiny": "pocket/models/pocket-1m"},
    "data": {"letters": {"test": "test.jsonl"}, "choices": {"test": "choices.jsonl"}},
    "base": {"short": {"max_new_tokens": 4}, "long": {"max_new_tokens": 8}},
    "evaluate": ["letters", "choices"],
    "scorers": [
        "exact_match",
        {"pairwise": {"labeller": "longest", "against": "reference", "data": "letters"}},
    ],
    "generate": {"max_new_tokens": 8},
    "executor": "inline",
}
PLUGIN = str(Path(__file__).parent / "plugin")
"""Has the executor `inline`, and the judge `longest`."""
RULES = "def longer(row, one, other):\n    return len(one) - len(other)\n"
CLAIMS = ["candidate not_worse baseline on exact_match by 0.01",
          {"metric": "exact_match", "variant": "candidate", "relation": "not_worse",
           "than": "baseline", "margin": 0.02},
          "candidate better baseline on acc"]  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command's words, its options with sound values, and the statuses that its help names.

    Attributes:
        words: a word that begins with `@` is a kind of value, as those of the options are.
        needed: the options that are always given.
    """

    words: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    statuses: tuple[int, ...] = (0, 2)
    needed: tuple[str, ...] = ()


_OF_SUITES = {"--limit": "@count", "--only": "@variant", "--set": "@setting"}
_OF_JUDGES = {**_OF_SUITES, "--judge": "@judge", "--data": "@entry", "--seed": "@count",
              "--pairs": "@count"}  # fmt: skip
COMMANDS = (
    *[Command(("check", "@results"),
              {"--baseline": "@results", "--claims": "@claims", "--margin": "@margin",
               "--confidence": "@share", "--allow": "@allowance", "--report-dir": "@folder",
               "--name": "@name"}, (0, 1, 2, 3, 4), ("--baseline",))] * 3,
    Command(("check", "@results"), {"--baseline": "@results", "--claims": "@claims"},
            (0, 1, 2, 3, 4), ("--baseline", "--claims")),
    Command(("check",), {"--model": "@folder", "--suite": "@suite", "--baseline": "@side"},
            (0, 1, 2, 3, 4), ("--model", "--suite", "--baseline")),
    Command(("compare", "@side", "@side"), {}, (0, 2, 4, 5)),
    Command(("import", "@results"), {"--baseline": "@variant", "--test-rows": "@count",
                                  "--report-dir": "@folder", "--records": "@file"}, (0, 2, 4)),
    Command(("import", "@tool", "@results"), {"--report-dir": "@folder"}, (0, 2, 4)),
    Command(("judge", "label", "@suite"), {**_OF_JUDGES, "--filled": "@sheet", "--out": "@out"}),
    Command(("judge", "label", "@suite"), {"--filled": "@sheet", "--out": "@sheets"},
            needed=("--filled", "--out")),
    Command(("judge", "calibrate", "@suite"),
            {**_OF_JUDGES, "--labels": "@labels", "--rule": "@rule", "--runs": "@count",
             "--precision": "@share"}),
    Command(("judge", "calibrate", "@suite"), {"--labels": "@labels"}, needed=("--labels",)),
    Command(("judge", "attack", "@suite"), {**_OF_JUDGES, "--labels": "@labels"}),
    Command(("baseline", "set", "@name", "@side"), {}, (0, 2, 4)),
    Command(("baseline", "show", "@name"), {}, (0, 2, 4)),
    Command(("comment",), {"--report-dir": "@folder", "--name": "@name"}, (0, 2, 4),
            ("--report-dir",)),
    Command(("data", "@suite"), {**_OF_SUITES, "--data": "@entry", "--rows": "@count"}),
    Command(("report", "@suite"), {**_OF_SUITES, "--report-dir": "@folder", "--records": "@file"},
            (0, 2, 5)),
    Command(("plan", "@suite"), {**_OF_SUITES}),
    Command(("list", "@axis", "@name"), {"--kind": "@name", "--text": "@name"}),
    Command(("gc", "@suite", "--dry-run"), {"--older-than": "@share"}),
    Command(("jobs", "cancel", "@suite", "@name"), _OF_SUITES),
    Command(("run", "@suite", "--changed"), {**_OF_SUITES, "--records": "@file"}, (0, 2, 5)),
)  # fmt: skip


@dataclass
class Finding:
    """What a command should not have done."""

    what: str
    line: str


# --- the folder that the commands are used in -----------------------------------------------------


def prepare(folder: Path) -> None:
    """A suite that was run, result files of other tools, a sheet, labels, claims and rules."""
    rows = [{"id": f"r{n}", "prompt": f"say {n}", "completion": f"word {n}"} for n in range(8)]
    _lines(folder / "test.jsonl", rows)
    sides = {"chosen": "a good long answer", "rejected": "a bad one"}
    _lines(folder / "choices.jsonl", [{"id": f"p{n}", "prompt": f"say {n}", **sides}
                                      for n in range(8)])  # fmt: skip
    (folder / "suite.yaml").write_text(yaml.safe_dump(SUITE))
    (folder / "rules.py").write_text(RULES)
    (folder / "claims.yaml").write_text(yaml.safe_dump(CLAIMS))
    samples.table(folder)
    for number, (_, make) in enumerate(FILES.values()):
        place = folder / "results" / f"{number}"
        place.mkdir(parents=True)
        make(place)
    for words in (["run", "suite.yaml"], ["judge", "label", "suite.yaml"],
                  ["run", "suite.yaml", "--records", "records.jsonl"]):  # fmt: skip
        done = _done(words)
        assert done.exit_code == 0, done.output
    (folder / "filled.csv").write_text(_filled(folder / "labels/asked/sheet.csv"))
    done = _done(["judge", "label", "suite.yaml", "--filled", "filled.csv"])
    assert done.exit_code == 0, done.output


def _done(words: Sequence[str]) -> Any:
    return CliRunner().invoke(main, list(words), env={"HARNESS_STORE": "store"})


def _lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _filled(sheet: Path) -> str:
    """A sheet with every answer 1 the better one."""
    rows = list(csv.DictReader(io.StringIO(sheet.read_text(), newline="")))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows({**row, "label": "1"} for row in rows)
    return out.getvalue()


# --- mistakes -------------------------------------------------------------------------------------


def _results(rng: Random) -> str:
    """A result file of any format, often of the same one."""
    folder = f"results/{rng.choice([0, 0, 1, 2, 3, 21, rng.randrange(len(FILES))])}"
    (path,) = Path(folder).iterdir()
    return rng.choice([str(path), str(path), folder])


SOUND: dict[str, Callable[[Random], str]] = {
    "side": lambda rng: rng.choice(["suite.yaml:short", "suite.yaml:long", _results(rng), "main"]),
    "results": lambda rng: "table.csv" if rng.random() < 0.3 else _results(rng),
    "tool": lambda rng: rng.choice(["csv", "lm-eval", "records", "baseline"]),
    "suite": lambda rng: "suite.yaml",
    "claims": lambda rng: "claims.yaml",
    "labels": lambda rng: "labels/asked/labels.jsonl",
    "sheet": lambda rng: "filled.csv",
    "sheets": lambda rng: "labels/asked",
    "out": lambda rng: "sheets",
    "folder": lambda rng: "report",
    "file": lambda rng: "records.jsonl",
    "rule": lambda rng: "rules.py:longer",
    "margin": lambda rng: rng.choice(["0.01", "5%", "exact_match=0.02"]),
    "share": lambda rng: rng.choice(["0.9", "0.5", "0.95"]),
    "count": lambda rng: rng.choice(["1", "2", "8"]),
    "allowance": lambda rng: rng.choice(["inconclusive", "prompts", "missing,prompts"]),
    "name": lambda rng: rng.choice(["main", "exact_match", "lora"]),
    "variant": lambda rng: rng.choice(["short", "*"]),
    "judge": lambda rng: "longest",
    "entry": lambda rng: rng.choice(["letters", "choices"]),
    "setting": lambda rng: rng.choice(["seeds=[0]", "generate.max_new_tokens=4"]),
    "axis": lambda rng: rng.choice(["methods", "scorers", "keys", "stages", "tasks", "pairs"]),
}
_FILES_OF = {"claims", "labels", "sheet", "sheets", "results", "file"}


def command_line(rng: Random) -> list[str]:
    """The words of a command with a mistake or two; files with mistakes are written for it."""
    command = rng.choice(COMMANDS)
    kinds = [word for word in command.words if word.startswith("@")]
    options = [name for name in command.options
               if name in command.needed or rng.random() < 2 / len(command.options)]  # fmt: skip
    given = [*kinds, *(command.options[name] for name in options)]
    files = [kind for kind in given if kind[1:] in _FILES_OF] * 2
    wrong = rng.choices([*given, *files, "@order"], k=rng.choice([0, 1, 1, 1, 2]))
    words = [_value(w[1:], w in wrong, rng) if w.startswith("@") else w for w in command.words]
    for name in options:
        words += [name, _value(command.options[name][1:], command.options[name] in wrong, rng)]
    if "@order" in wrong:
        words = _disordered(words, rng)
    return [word.replace("\0", "") for word in words]  # no process is given one


def _value(kind: str, wrong: bool, rng: Random) -> str:
    sound = SOUND[kind](rng)
    if not wrong:
        return sound
    if kind == "sheets" and rng.random() < 0.75:
        return str(Path(_spoilt(Path(sound, "key.jsonl"), rng)).parent)
    if kind in _FILES_OF and Path(sound).is_file() and rng.random() < 0.75:
        return _spoilt(Path(sound), rng)
    odd = [*map(str, VALUES), *UNITS, *PATHS, *TEXTS]
    return rng.choice(
        [rng.choice(odd), f"{sound}{rng.choice(odd)}", f"{rng.choice(odd)}:{sound}", sound.upper(),
         f"{sound}:{rng.choice(odd)}", f"{sound}={rng.choice(odd)}",
         SOUND[rng.choice([*SOUND])](rng)]
    )  # fmt: skip


def _disordered(words: list[str], rng: Random) -> list[str]:
    """A word lost, said twice, in another place, or one too many."""
    at = rng.randrange(2, len(words) + 2)  # the command's own word stays
    word = words[min(at, len(words)) - 1]
    return rng.choice([words[: at - 1] + words[at:], [*words[:at], word, *words[at:]],
                       [*words[: at - 1], *words[at:], word], [*words, rng.choice(PATHS)],
                       [*words, "--"], [*words, "--help"], [*words, f"--{word}"]])  # fmt: skip


def _spoilt(path: Path, rng: Random) -> str:
    """A copy of a file with a mistake in it."""
    copy = Path("spoilt") / path.name
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(path.read_bytes())
    if path.suffix in (".jsonl", ".json") and rng.random() < 0.5:
        with contextlib.suppress(ValueError, IndexError):
            mutations.noise(copy, rng)
    elif path.suffix == ".csv" and rng.random() < 0.5:
        copy.write_bytes(_cells(copy.read_text(), rng))
    elif path.name == "claims.yaml" and rng.random() < 0.6:
        copy.write_bytes(_claims(rng))
    elif rng.random() < 0.6:
        copy.write_bytes(_lines_spoilt(copy.read_bytes(), rng))
    else:
        copy.write_bytes(rng.choice(IN_TEXT)(copy.read_bytes(), rng))
    return str(copy)


def _cells(text: str, rng: Random) -> bytes:
    """A table with odd cells, heads among them."""
    rows = list(csv.reader(io.StringIO(text, newline="")))
    for _ in range(rng.choice([1, 2, 5])):
        row = rng.choice([rows[0], *rows])
        row[rng.randrange(min(3, len(row)))] = str(rng.choice([*VALUES, *UNITS, *PATHS]))
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=rng.choice(",,;\t|")).writerows(rows)
    return encoded(out.getvalue())


def _claims(rng: Random) -> bytes:
    """Claims with a word or a value changed, or YAML that no dumper writes."""
    claims: list[Any] = [*CLAIMS]
    at = rng.randrange(len(claims))
    claim = claims[at]
    if isinstance(claim, dict):
        claims[at] = {**claim, rng.choice([*claim, "x"]): rng.choice([*VALUES, *UNITS])}
    else:
        words = claim.split()
        words[rng.randrange(len(words))] = str(rng.choice([*VALUES[:40], *UNITS, "", "than"]))
        claims[at] = rng.choice([" ".join(words), rng.choice(VALUES)])
    if rng.random() < 0.4:
        claims[at] = "HERE"
    whole = rng.choice([claims, claims, {"claims": claims}, {"claim": claims}])
    text = yaml.safe_dump(whole, allow_unicode=True)
    return encoded(text.replace("HERE", rng.choice(TEXTS)))


def _lines_spoilt(content: bytes, rng: Random) -> bytes:
    """A line in the place of another one, or a byte, or one end for another."""
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    deep = b"[" * 100_000 + b"]" * 100_000
    odd = [b"", b"null", b"[]", b"{}", b"1", b'"x"', b"{", deep, b"x" * 200_000, lines[at] * 2,
           b'{"label": ' + deep + b"}", b"9" * 5000, b'{"a": ' + b"9" * 5000 + b"}", b"NaN",
           b'{"id": "\\ud800", "label": "1", "prompt": "\\ud800", "one": "a", "other": "b"}',
           b'{"label": 1, "prompt": [{"content": 1}], "one": "a", "other": "b"}',
           *BYTES, *(encoded(text) for text in TEXTS)]  # fmt: skip
    lines[at] = rng.choice(odd)
    return b"\n".join(lines)


# --- what must come out ---------------------------------------------------------------------------


def complaint(words: list[str], seconds: float | None) -> str:
    """What is wrong with what a command does; empty where all is well."""
    began = time.process_time()
    done = _done(words)
    took = time.process_time() - began
    statuses = {s for command in COMMANDS if command.words[0] == words[0] for s in command.statuses}
    if done.exit_code not in statuses or "Traceback" in done.output:
        return f"exit {done.exit_code}: {done.output.strip()[-400:]}"
    if done.exit_code and len(done.output) > 20_000:
        return f"a refusal of {len(done.output):,} characters"
    if seconds is not None and took > seconds:
        return f"took {took:.1f} s"
    return _unclear(words, done.output) if done.exit_code in (2, 4) else ""


def _unclear(words: Sequence[str], output: str) -> str:
    """What a refusal lacks: a word that was typed, or the option or file that it is about."""
    if re.search(r"<[\w.]+ object at 0x|<class '|input_value=|yaml\.\w+\.|Error\(|\[Errno", output):
        return f"speaks of Python: {output[:300]}"
    words = [visible(word) for word in words]
    typed = [
        part
        for word in words[1:]
        for part in (word, Path(word[:200]).name, word[:40], word.rpartition(":")[0])
    ]
    told = re.findall(r"'([^']+)'", output)
    if "Usage: " in output or any(part and part in output for part in typed):
        return ""
    if any(part.removesuffix("...") in word for part in told for word in words):
        return ""
    if re.match(r"[\w.]+, line \d+|NOT JUDGED: no shared metric: ", output):
        return ""
    if "GITHUB_REPOSITORY" in output:  # it is what this machine's environment lacks
        return ""
    return f"names nothing that was typed: {output[:300]}"


def command_lines(numbers: range, seed: int) -> Iterator[list[str]]:
    """The command lines of a seed, in a folder that was prepared."""
    for number in numbers:
        yield command_line(Random(f"{seed}/{number}"))


def fuzz(
    folder: Path, numbers: range, seed: int, seconds: float | None = None,
    told: Callable[[Finding], None] = lambda _: None,
) -> list[Finding]:  # fmt: skip
    """Use commands with the mistakes of these numbers, in a folder that is prepared for it."""
    findings = list[Finding]()
    if PLUGIN not in sys.path:
        sys.path.insert(0, PLUGIN)
    with contextlib.chdir(folder):
        prepare(folder)
        for number, words in zip(numbers, command_lines(numbers, seed), strict=True):
            wrong = complaint(words, seconds)
            if wrong:
                shown = " ".join(word if len(word) < 80 else f"{word[:77]}..." for word in words)
                findings.append(Finding(wrong, f"{number}: {shown!a}"))
                told(findings[-1])
    return findings


def command() -> int:
    """As `python -m tests.fuzz_commands`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--mistakes", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mistake")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=2.0, help="processor time of a command")
    given = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"  # names of no model are asked for by the thousand
    numbers = range(given.first, given.first + given.mistakes)
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(Path(folder), numbers, given.seed, given.seconds,
                     lambda f: print(f"{f.line}\n    {f.what}", flush=True))  # fmt: skip
    print(f"{given.mistakes:,} command lines, seed {given.seed}: {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(command())
