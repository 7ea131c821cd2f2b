"""How fast and how frugal the harness is on a GPU: `make gpu-bench`.

    python tests/benchmarks/gpu_bench.py --seconds 290    # what fits; a later call goes on
    python tests/benchmarks/gpu_bench.py --table          # what was measured, in Markdown
    python tests/benchmarks/gpu_bench.py --dry-run        # every line, on the CPU, with tiny shapes

Trains 1B and 7B shapes of random weights through the harness and through a plain TRL script, and
scores and generates at 1B, against transformers itself. Each case has a process and a time limit of
its own, so that one that fails is a line of the result. The figures are written after each case,
under results/performance/<device>/. Without a GPU nothing is measured and the exit status is 3.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(1, str(ROOT))  # behind this file's own folder

from gpu_inference import Reading, Writing, read, write, write_mixed  # noqa: E402
from gpu_machine import (  # noqa: E402
    NO_GPU,
    RESULTS,
    describe,
    device_name,
    end_with,
    folder_of,
    keep,
    kept,
)
from gpu_table import table  # noqa: E402
from gpu_training import Training, train  # noqa: E402

LEAST = 15.0
"""Seconds left under which no further case is begun."""


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        measure: called with the setting and the device. setting: what is measured.
        tiny: the same for a dry run. seconds: its own limit.
    """

    measure: Callable[[Any, str], dict[str, Any]]
    setting: Any
    tiny: Any
    seconds: float = 90.0


def _training(seconds: float = 90.0, **given: Any) -> Case:
    setting = Training(**given)
    tiny = replace(setting, shape="tiny", batch=2, length=32, steps=4, warm_up=2)
    return Case(train, setting, tiny, seconds)


ONE, SEVEN = "llama-3.2-1b", "llama-2-7b"
PAPER = (("adapter_dtype", "bfloat16"),)  # as TRL has it
CASES = {
    "lora-7b": _training(150.0, shape=SEVEN, method="lora", batch=1, length=4096, rate=1e-3),
    "full-1b": _training(shape=ONE, method="full", batch=4, length=2048, rounds=2),
    "generate-1b": Case(write, Writing(ONE, 64, 128, 128), Writing("tiny", 8, 16, 8)),
    "lora-1b": _training(shape=ONE, method="lora", batch=4, length=2048, rounds=2, rate=1e-3),
    "score-1b": Case(read, Reading(ONE, 256, 1024, 16384), Reading("tiny", 12, 32, 128)),
    "qlora-7b": _training(
        shape=SEVEN, method="qlora", batch=1, length=4096, steps=12, rate=1e-3, adapter=PAPER,
        checkpointing=(True,),
    ),
    "adapters-1b": Case(
        write_mixed, Writing(ONE, 64, 128, 48, adapters=8), Writing("tiny", 8, 16, 8, adapters=4)
    ),
}  # fmt: skip
"""By worth: what a call's time does not reach is left for the next."""


class Child:
    """A case's process. It imports its libraries at once, and waits for the word to begin."""

    def __init__(self, name: str, dry: bool) -> None:
        self.name = name
        command = [sys.executable, __file__, "--case", name, "--parent", str(os.getpid())]
        command += ["--dry-run"] if dry else []
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        fixed = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "HF_HUB_OFFLINE": "1"}
        if dry:
            fixed["OMP_NUM_THREADS"] = "1"
        self._process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **fixed, "TOKENIZERS_PARALLELISM": "false"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def result(self, limit: float) -> dict[str, Any]:
        """What the case found, whatever became of its process."""
        start = time.monotonic()
        ended = None
        try:
            out, errors = self._process.communicate("go\n", timeout=limit)
        except subprocess.TimeoutExpired:
            out, errors = self.stop()
            ended = f"timed out after {limit:.0f} s"
        lines = [line for line in out.splitlines() if line.startswith("RESULT ")]
        if ended is None and lines:
            found: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
        else:
            ended = ended or f"crashed with exit status {self._process.returncode}"
            found = {"status": ended, "error": errors[-2000:]}
        return {**found, "case_seconds": round(time.monotonic() - start, 1)}

    def stop(self) -> tuple[str, str]:
        """End it, if it runs; what it wrote."""
        self._process.kill()
        return self._process.communicate()


def run_case(name: str, dry: bool) -> dict[str, Any]:
    """The case, in this process; what it raises is its result."""
    import torch

    case, device = CASES[name], "cpu" if dry else "cuda"
    try:
        found = case.measure(case.tiny if dry else case.setting, device)
    except torch.OutOfMemoryError:
        found = {"status": "out of memory", "error": traceback.format_exc()[-2000:]}
    except Exception:
        found = {"status": "failed", "error": traceback.format_exc()[-2000:]}
    return found


def _import_libraries() -> None:
    """What takes long, before the word to begin."""
    import harness.objectives._trl.sft
    import harness.stages.train  # noqa: F401


def measure(names: list[str], file: Path, seconds: float, dry: bool, again: bool) -> bool:
    """Run the cases that `file` lacks, best first, as long as time is left.

    Returns:
        whether every one of them is ok now.
    """
    end = time.monotonic() + seconds
    found = kept(file)
    cases = found.setdefault("cases", {})
    about = describe()
    found |= {"device": "cpu" if dry else device_name(), **about, "seconds": seconds}
    open_ = [n for n in names if again or cases.get(n, {}).get("status") != "ok"]
    children = [Child(name, dry) for name in open_[:1]]
    for number, name in enumerate(open_):
        left = end - time.monotonic()
        if left < LEAST:
            cases.setdefault(name, {"status": "not run: no time was left"})
            continue
        children += [Child(following, dry) for following in open_[number + 1 : number + 2]]
        # A case's own limit is of a GPU: a CPU may be busy with other work.
        result = children[number].result(left if dry else min(left, CASES[name].seconds))
        cases[name] = {**result, "date": about["date"], "commit": about["commit"]}
        print(f"{name}: {cases[name]['status']}, {result['case_seconds']} s", flush=True)
        _write(file, found)
    for child in children:
        child.stop()
    _write(file, found)
    return all(cases[name]["status"] == "ok" for name in names)


def _write(file: Path, found: dict[str, Any]) -> None:
    cases = {name: found["cases"][name] for name in CASES if name in found["cases"]}
    keep(file, {**found, "cases": cases})


def main() -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help=f"default: {RESULTS}, of a dry run build/tries")
    parser.add_argument("--seconds", type=float, default=290.0, help="of this call, in all")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--again", action="store_true", help="also what was measured before")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--table", action="store_true", help="print what was measured, as Markdown")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        end_with(options.parent)
        _import_libraries()
        if sys.stdin.readline():
            print("RESULT " + json.dumps(run_case(options.case, options.dry_run)), flush=True)
        return 0
    if options.table:
        for file in sorted((options.out or RESULTS).glob("*/gpu-bench.json")):
            print(table(kept(file)))
        return 0
    name = "dry run" if options.dry_run else device_name()
    if name is None:
        print("this machine shows no GPU: nothing was measured", file=sys.stderr)
        return NO_GPU
    folder = folder_of(options.out, name, figures=not options.dry_run)
    file = folder / "gpu-bench.json"
    tried = options.dry_run and all(
        kept(file).get("cases", {}).get(name, {}).get("status") == "ok" for name in options.only
    )  # a dry run goes on with one that stopped, and tries again what has been tried
    again = options.again or tried
    whole = measure(options.only, file, options.seconds, options.dry_run, again)
    print(table(kept(file)))
    print(file)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
