"""What a GPU does with every method: `make gpu-check`.

    python tests/benchmarks/gpu_check.py [--out results/performance] [--only tests demo suite]

Three parts, each told on its own, so that a fault in one hides nothing of the others:
- the tests marked `gpu`;
- the pocket demo, in bfloat16 on the card: its verdicts against those of a CPU in float32
  (tests/fixtures/demo_verdicts.csv);
- suites/pocket/gpu.yaml: tokens a second, peak memory and energy of every method, and the
  predictions beside them.

Figures are written under the device's name. Exit status 1 where anything failed; 3 without a GPU,
when nothing is measured. `--cpu` tries the command itself. The CPU's verdicts are made again, after
`make demo`, by `harness report suites/pocket/demo.yaml` with a `--set` for each line of
`gpu_check.py --demo-set`, and `--keep-verdicts` with that report's comparison.csv.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
VERDICTS = ROOT / "tests" / "fixtures" / "demo_verdicts.csv"
COLUMNS = ("variant", "metric", "evaluation", "estimate", "difference_value", "verdict")
PARTS = ("tests", "demo", "suite")
NO_GPU, NO_TESTS, CELL_FAILED = 3, 5, 5
DEMO_SETTINGS = (
    "scorers=[{rouge: {data: tasks}}, {exact_match: {data: tasks, normalise: true}},"
    " {perplexity: {data: tasks}}, {perplexity: {data: general, label: forgetting}},"
    " {reward: {data: preferences}}, {kl: {data: general, to: start}}]",
    "claims=[]",
)
"""Scorers that need no package beside the harness's own, and no claim about the others."""


@dataclass(frozen=True)
class Run:
    """A suite that ran: its records, and the rows of its comparison over all examples."""

    status: int
    records: list[dict[str, Any]]
    rows: list[dict[str, str]]


def device_name() -> str | None:
    """The first GPU's name, asked in a process of its own."""
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return found.stdout.strip() or None


def run(suite: Path, settings: Sequence[str]) -> Run:
    """Run a suite in a fresh store; a failed cell is part of what is found."""
    with tempfile.TemporaryDirectory() as folder:
        records, report = Path(folder) / "records.jsonl", Path(folder) / "report"
        command = [
            sys.executable, "-m", "harness.cli", "run", str(suite), "--store", f"{folder}/store",
            "--report-dir", str(report), "--records", str(records),
            *(part for value in settings for part in ("--set", value)),
        ]  # fmt: skip
        done = subprocess.run(command, check=False, cwd=ROOT)
        if done.returncode not in (0, CELL_FAILED):
            return Run(done.returncode, [], [])
        found = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
        table = report / "comparison.csv"
        rows: list[dict[str, str]] = []
        if table.is_file():
            with table.open(encoding="utf-8", newline="") as handle:
                rows = [row for row in csv.DictReader(handle) if not row["slice"]]
        return Run(done.returncode, found, rows)


def training(record: dict[str, Any], speeds: dict[str, float]) -> dict[str, Any]:
    """What one training took, or why it failed."""
    if record["status"] != "ok":
        return {"variant": record["label"], "error": record["error"]["message"]}
    cost = record["cost"]
    return {
        "variant": record["label"],
        "steps": record["metrics"]["steps"],
        "tokens": cost["tokens"],
        "train_tokens_per_second": cost["tokens"] / cost["phases"]["train"],
        "seconds_per_step": cost["seconds_per_step"],
        "mfu": cost.get("mfu"),
        "joules": cost.get("joules"),
        "phases": cost["phases"],
        "generate_tokens_per_second": speeds.get(record["label"]),
        "trainable_parameters": cost["trainable_parameters"],
        "state": cost["state"],
        "state_bytes": cost["state_bytes"],
        "peak_memory": cost["peak_memory"],
        "predicted": cost["predicted"],
        "versions": record["provenance"].get("versions", {}),
    }


def trainings(found: Run) -> list[dict[str, Any]]:
    """A line for each training stage and its answers."""
    speeds = {
        r["label"]: r["cost"]["tokens_per_second"]
        for r in found.records if r["kind"] == "generate" and r["status"] == "ok"
    }  # fmt: skip
    return [training(record, speeds) for record in found.records if record["kind"] == "train"]


def other_verdicts(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Rows whose verdict is not the CPU's, with both; and those that one side lacks."""

    def by_name(given: Sequence[dict[str, str]]) -> dict[tuple[str, ...], dict[str, str]]:
        return {tuple(row[name] for name in COLUMNS[:3]): row for row in given}

    with VERDICTS.open(encoding="utf-8", newline="") as handle:
        wanted = by_name(list(csv.DictReader(handle)))
    found, missing = by_name(rows), {"verdict": "missing", "estimate": "", "difference_value": ""}
    return [
        {"row": " ".join(name), "cpu": shown(one), "here": shown(other)}
        for name in wanted | found
        if (one := wanted.get(name, missing))["verdict"]
        != (other := found.get(name, missing))["verdict"]
    ]


def shown(row: dict[str, str]) -> str:
    """A verdict with the numbers behind it."""
    return f"{row['verdict']} ({row['estimate']}, {row['difference_value'] or 'no difference'})"


def keep_verdicts(table: Path) -> None:
    """Write what other devices are held against: a report's rows over all examples."""
    with table.open(encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if not row["slice"]]
    with VERDICTS.open("w", encoding="utf-8", newline="") as handle:
        kept = csv.DictWriter(handle, COLUMNS, extrasaction="ignore", lineterminator="\n")
        kept.writeheader()
        kept.writerows(rows)


def passed_tests() -> bool:
    """Whether the tests marked `gpu` pass. Warnings of whichever libraries stand beside the card's
    driver are none of the card's."""
    several = ["-n", str(min(6, (os.cpu_count() or 2) // 2))]
    command = [
        sys.executable, "-m", "pytest", "-m", "gpu", "-W", "default", "tests/whole/test_gpu.py",
        *(several if importlib.util.find_spec("xdist") else []),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, check=False, env=environment)
    return done.returncode in (0, NO_TESTS)


def main() -> int:
    """Run, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "performance")
    parser.add_argument("--suite", type=Path, default=ROOT / "suites" / "pocket" / "gpu.yaml")
    parser.add_argument("--set", action="append", default=[], help="as of harness run")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--cpu", action="store_true", help="try the command itself, on the CPU")
    parser.add_argument("--keep-verdicts", type=Path, metavar="CSV", help="a CPU's, and no more")
    parser.add_argument("--demo-set", action="store_true", help="print its --set, line by line")
    options = parser.parse_args()
    if options.demo_set:
        print(*DEMO_SETTINGS, sep="\n")
        return 0
    if options.keep_verdicts:
        keep_verdicts(options.keep_verdicts)
        return 0
    name = "cpu" if options.cpu else device_name()
    if name is None:
        print("this machine shows no GPU: nothing was measured", file=sys.stderr)
        return NO_GPU
    settings = [*options.set, f"executor.local.device_class={'cpu' if options.cpu else 'cuda'}"]
    found: dict[str, Any] = {"device": name, "date": date.today().isoformat()}
    good = True
    if "tests" in options.only and not options.cpu:
        found["tests"] = "passed" if passed_tests() else "failed"
        good = found["tests"] == "passed"
    if "demo" in options.only:
        demo = run(ROOT / "suites" / "pocket" / "demo.yaml", [*settings, *DEMO_SETTINGS])
        found["demo"] = {"status": demo.status, "other verdicts": other_verdicts(demo.rows)}
        found["demo"]["verdicts"] = len(demo.rows)
        good = good and not demo.status and not found["demo"]["other verdicts"]
    if "suite" in options.only:
        suite = run(options.suite, settings)
        found["status"], found["runs"] = suite.status, trainings(suite)
        good = good and not suite.status
    folder = options.out / re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "gpu-check.json"
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    tell(found)
    print(file)
    return 0 if good else 1


def tell(found: dict[str, Any]) -> None:
    """A few lines of what was found."""
    print("tests:", found.get("tests", "not run"))
    for row in found.get("demo", {}).get("other verdicts", []):
        print(f"another verdict: {row['row']}: {row['here']} here, {row['cpu']} on a CPU")
    for line in found.get("runs", []):
        if "error" in line:
            print(f"{line['variant']:<28} FAILED: {line['error']}")
            continue
        print(
            f"{line['variant']:<28} {line['train_tokens_per_second']:>10,.0f} tokens/s"
            f"  peak {line['peak_memory']}  predicted {line['predicted']}"
        )


if __name__ == "__main__":
    sys.exit(main())
