"""What a GPU does with every method: `make gpu-check`.

    python tests/benchmarks/gpu_check.py [--out results/performance]

Runs the tests marked `gpu`, then suites/pocket/gpu.yaml in bf16 in a store of its own, and writes
tokens a second, peak memory and the predictions beside them, with the device's name. Without a GPU
nothing is measured and the exit status is 3.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NO_GPU = 3


def device_name() -> str | None:
    """The first GPU's name, asked in a process of its own."""
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return found.stdout.strip() or None


def measure(suite: Path, settings: list[str]) -> list[dict[str, Any]]:
    """Run the suite in a fresh store; a line for each training stage and its answers."""
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "records.jsonl"
        command = [
            sys.executable, "-m", "harness.cli", "run", str(suite), "--store", f"{folder}/store",
            "--report-dir", f"{folder}/report", "--records", str(records), *settings,
        ]  # fmt: skip
        subprocess.run(command, check=True, cwd=ROOT)
        found = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    speeds = {r["label"]: r["cost"]["tokens_per_second"] for r in found if r["kind"] == "generate"}
    return [_line(record, speeds) for record in found if record["kind"] == "train"]


def _line(record: dict[str, Any], speeds: dict[str, float]) -> dict[str, Any]:
    cost = record["cost"]
    return {
        "variant": record["label"],
        "steps": record["metrics"]["steps"],
        "tokens": cost["tokens"],
        "train_tokens_per_second": cost["tokens"] / cost["phases"]["train"],
        "seconds_per_step": cost["seconds_per_step"],
        "generate_tokens_per_second": speeds.get(record["label"]),
        "trainable_parameters": cost["trainable_parameters"],
        "state": cost["state"],
        "state_bytes": cost["state_bytes"],
        "peak_memory": cost["peak_memory"],
        "predicted": cost["predicted"],
        "versions": record["provenance"].get("versions", {}),
    }


def main() -> int:
    """Run, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "performance")
    parser.add_argument("--suite", type=Path, default=ROOT / "suites" / "pocket" / "gpu.yaml")
    parser.add_argument("--set", action="append", default=[], help="as of harness run")
    parser.add_argument("--cpu", action="store_true", help="try the command itself, on the CPU")
    parser.add_argument("--no-tests", action="store_true", help="the suite alone")
    options = parser.parse_args()
    name = "cpu" if options.cpu else device_name()
    if name is None:
        print("this machine shows no GPU: nothing was measured", file=sys.stderr)
        return NO_GPU
    if not (options.cpu or options.no_tests):
        tests = subprocess.run([sys.executable, "-m", "pytest", "-m", "gpu"], cwd=ROOT, check=False)
        if tests.returncode not in (0, 5):  # 5: no test is marked so
            return tests.returncode
    settings = [part for value in options.set for part in ("--set", value)]
    if options.cpu:
        settings += ["--set", "executor.local.device_class=cpu"]
    lines = measure(options.suite, settings)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"gpu-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    file.write_text(json.dumps({"device": name, "runs": lines}, indent=1) + "\n", encoding="utf-8")
    for line in lines:
        print(
            f"{line['variant']:<28} {line['train_tokens_per_second']:>10,.0f} tokens/s"
            f"  peak {line['peak_memory']}  predicted {line['predicted']}"
        )
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
