"""What does one reference stage save a grid of DPO, against a reference in each training?

    python tests/benchmarks/shared_reference.py [--method full] [--pairs 400] [--grid 4]

One SFT of pocket-1m on the pocket world's demonstrations, and from it DPO with some learning rates,
each once with the shared log-probabilities and once with TRL's own reference at every step, in one
process and in turns. Prints processor seconds of the runs (which a busy machine hardly moves), and
wall seconds of their stages with all they do (loading, audits) and of the phase `train` alone.
Void, and the exit status 1, where the losses of a step differ by more than 1e-4.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "plugin"))  # the executor `inline`

from harness.commands import run as runs
from harness.commands.session import open_suite
from harness.scheduling.progress import ConsoleReporter
from harness.store.stage import Record

POCKET = "pocket/preference"


def suite(options: argparse.Namespace) -> dict[str, Any]:
    """One variant: its learning rate and its reference are set from outside."""
    return {
        "name": "shared-reference",
        "models": {"pocket-1m": "pocket/models/pocket-1m"},
        "data": {
            "demonstrations": {
                "train": {"path": f"{POCKET}/demonstrations_train.jsonl", "limit": 64},
                "test": {"path": f"{POCKET}/test.jsonl", "limit": 1},
            },
            "pairs": {"train": {"path": f"{POCKET}/train.jsonl", "limit": options.pairs}},
        },
        "matrix": {
            "data": ["demonstrations"],
            "method": [options.method],
            "objective": [
                {"dpo": {"data": "pairs", "num_train_epochs": options.epochs, "max_length": 256,
                         "per_device_train_batch_size": 16}}
            ],
        },
        "overrides": [{"set": {"sft.max_length": 256}}],
        "scorers": [],
        "executor": "inline",
    }  # fmt: skip


def trained(file: Path, store: Path, rate: float, *, shared: bool) -> dict[str, list[Any]]:
    """Records of one training that this call ran, by kind, with the losses of dpo's steps."""
    settings = (f"dpo.learning_rate={rate}", f"dpo.share_reference={str(shared).lower()}")
    opened = open_suite(str(file), settings, store, None, None)
    clock = time.process_time()
    with open(os.devnull, "w") as nowhere:
        outcome = runs.run_stages(opened, ConsoleReporter(nowhere))
    spent = time.process_time() - clock
    found: dict[str, list[Any]] = {"reference": [], "dpo": [], "loss": [], "processor": [spent]}
    for key in outcome.ran:
        record: Record = outcome.records[key]
        if not record.ok:
            raise SystemExit((record.error or {}).get("message"))
        if record.kind == "reference":
            found["reference"].append(record)
        elif record.kind == "train" and record.config["objective"]["name"] == "dpo":
            found["dpo"].append(record)
            log = (store / "train" / record.key[:24] / "steps.jsonl").read_text()
            found["loss"] += [json.loads(line)["loss"] for line in log.splitlines()]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="full")
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--grid", type=int, default=4)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    file, store = folder / "suite.yaml", folder / "store"
    file.write_text(yaml.safe_dump(suite(options)), encoding="utf-8")
    trained(file, store, 1e-2, shared=False)  # imports, the SFT, a first training: not counted
    runs: dict[bool, list[dict[str, list[Any]]]] = {True: [], False: []}
    for rate in (1e-4 * (1 + number) for number in range(options.grid)):
        for shared in (True, False):
            runs[shared].append(trained(file, store, rate, shared=shared))
    for shared, found in runs.items():
        dpo = [record for run in found for record in run["dpo"]]
        reference = [record for run in found for record in run["reference"]]
        processor = sum(run["processor"][0] for run in found)
        whole, inside = (sum(cost(r) for r in dpo) for cost in (_seconds, _training))
        extra = sum(_seconds(r) for r in reference)
        name = "shared reference" if shared else "a reference in each"
        print(
            f"{name:<20} processor {processor:6.1f} s;"
            f" {len(dpo)} trainings {whole:6.1f} s (of these in `train` {inside:6.1f} s),"
            f" {len(reference)} reference stages {extra:5.1f} s, together {whole + extra:6.1f} s"
        )
    gap = max(
        abs(one - other)
        for a, b in zip(runs[True], runs[False], strict=True)
        for one, other in zip(a["loss"], b["loss"], strict=True)
    )
    print(f"largest difference of a step's loss: {gap:.2g}")
    return int(gap > 1e-4)


def _seconds(record: Record) -> float:
    return float(record.cost["seconds"])


def _training(record: Record) -> float:
    return float(record.cost["phases"]["train"])


if __name__ == "__main__":
    sys.exit(main())
