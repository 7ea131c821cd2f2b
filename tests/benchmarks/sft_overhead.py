"""Is training through the harness as fast as a plain TRL script?

    python tests/benchmarks/sft_overhead.py [--rounds 5] [--steps 60]

Both sides train the same model on the same rows with the same arguments, in turn, each in a fresh
process. Printed are the ratio of the median steps of each round, and what the harness adds to a
stage beside the work itself. The figures are void, and the exit status 1, where a loss differs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
POCKET = ROOT / "suites" / "pocket"
BATCH, LENGTH, RATE = 16, 256, 1e-3
SUITE = """
name: overhead
models: {{m: {model}}}
data: {{d: {{train: {train}, test: {{path: {test}, limit: 8}}}}}}
matrix:
  method: [full]
  objective:
    - sft: {{max_steps: {steps}, per_device_train_batch_size: {batch}, max_length: {length},
            learning_rate: {rate}}}
scorers: [exact_match]
generate: {{max_new_tokens: 8}}
executor: {{local: {{threads: {threads}}}}}
"""
THREADS = 1
"""Of both sides: with every core in one computation, whatever else wakes up holds all of it up, and
the ratio is the machine's."""


def plain(steps: int) -> dict[str, Any]:
    """A plain TRL script; its steps are timed as the harness times its own."""
    import time

    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(THREADS)
    seconds: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.monotonic() - self.start)

    model = POCKET / "models" / "pocket-1m"
    lines = (POCKET / "instruct" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = Dataset.from_list([{"messages": json.loads(line)["messages"]} for line in lines])
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
            processing_class=AutoTokenizer.from_pretrained(model),
            train_dataset=rows,
            callbacks=[Clock()],
            args=SFTConfig(
                output_dir=folder, max_steps=steps, per_device_train_batch_size=BATCH,
                max_length=LENGTH, learning_rate=RATE, bf16=False, gradient_checkpointing=False,
                optim="adamw_torch", assistant_only_loss=True, logging_steps=1, save_strategy="no",
                report_to=[], use_cpu=True, seed=0, data_seed=0, dataloader_pin_memory=False,
                disable_tqdm=True,
            ),
        )  # fmt: skip
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"step": statistics.median(seconds), "losses": losses}


def through_harness(steps: int) -> dict[str, Any]:
    """The same through `harness run`, in a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "suite.yaml"
        suite.write_text(
            SUITE.format(
                model=POCKET / "models" / "pocket-1m",
                train=POCKET / "instruct" / "train.jsonl",
                test=POCKET / "instruct" / "test.jsonl",
                steps=steps, batch=BATCH, length=LENGTH, rate=RATE, threads=THREADS,
            )
        )  # fmt: skip
        command = [sys.executable, "-m", "harness.cli", "run", str(suite), "--store",
                   f"{folder}/store", "--report-dir", f"{folder}/report"]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        (record_path,) = Path(folder).glob("store/train/*/record.json")
        record = json.loads(record_path.read_text())
        log = (record_path.parent / "steps.jsonl").read_text().splitlines()
        phases, audit = record["cost"]["phases"], record["cost"]["phases"]["audit"]
        work = sum(phases[name] for name in ("import", "load", "data", "attach", "train", "save"))
        return {
            "step": record["cost"]["seconds_per_step"],
            "losses": [json.loads(line)["loss"] for line in log],
            "added": record["cost"]["seconds"] - work - audit,
            "audit": audit,
        }


def main() -> int:
    """Run both sides in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--side", choices=["plain", "harness"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side = plain if options.side == "plain" else through_harness
        print("RESULT " + json.dumps(side(options.steps)))
        return 0
    ratios, added, audits = [], [], []
    for number in range(options.rounds):
        # Which goes first alternates: a machine that warms up or slows down favours neither.
        order = ["plain", "harness"] if number % 2 == 0 else ["harness", "plain"]
        found = {side: _fresh(side, options.steps) for side in order}
        if found["plain"]["losses"] != found["harness"]["losses"]:
            print("void: the losses differ")
            return 1
        ratios.append(found["harness"]["step"] / found["plain"]["step"])
        added.append(found["harness"]["added"])
        audits.append(found["harness"]["audit"])
        print(f"round {number + 1}: harness / plain = {ratios[-1]:.3f}")
    print(f"median ratio of steps: {statistics.median(ratios):.3f} (losses equal, bit for bit)")
    print(f"added to the stage: {statistics.median(added):.2f} s; audits: {max(audits):.2f} s")
    return 0


def _fresh(side: str, steps: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, "--steps", str(steps)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return result


if __name__ == "__main__":
    sys.exit(main())
