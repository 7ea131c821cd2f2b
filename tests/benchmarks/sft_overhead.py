"""Is training through the harness as fast as a plain TRL script, and as a plain loop?

    python tests/benchmarks/sft_overhead.py [--case pocket|49k|151k] [--rounds 5] [--steps 60]

All sides train the same model on the same rows with the same arguments, in turn, each in a fresh
process. Printed are the ratios of each round's median steps, what the harness adds to a stage
beside the work itself, and its audits' share of a training of 200 such steps. The figures are void,
and the exit status 1, where the harness's losses are further from TRL's than 1e-6 of themselves
(the pocket's: where they are not TRL's to the bit), or the loop's than 1e-5.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
POCKET = ROOT / "suites" / "pocket"
SUITE = """
name: overhead
models: {{m: {model}}}
data: {{d: {{train: {train}, test: {{path: {test}, limit: 8}}}}}}
matrix:
  method: [{method}]
  objective:
    - sft: {{max_steps: {steps}, per_device_train_batch_size: {batch}, max_length: 256,
            learning_rate: {rate}}}
scorers: [exact_match]
generate: {{max_new_tokens: 8}}
executor: {{local: {{threads: {threads}}}}}
"""
THREADS = 1
"""Of all sides: with every core in one computation, whatever else wakes up holds all of it up, and
the ratio is the machine's."""
STEPS = 200
"""Of the training that the audits are held against."""


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        sizes: of a random Llama with the pocket's tokenizer; empty: the pocket's own model.
    """

    steps: int
    batch: int
    rate: float
    lora: bool
    sizes: dict[str, int] = field(default_factory=dict)


CASES = {
    "pocket": Case(60, 16, 1e-3, False),
    # SmolLM2-135M's shape and vocabulary, with 6 of its 30 layers.
    "49k": Case(5, 4, 1e-4, True, {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 6, "num_attention_heads": 9, "num_key_value_heads": 3,
    }),
    # Qwen2.5-0.5B's vocabulary, and 6 layers of two thirds of its width.
    "151k": Case(5, 2, 1e-4, True, {
        "vocab_size": 151936, "hidden_size": 576, "intermediate_size": 3072,
        "num_hidden_layers": 6, "num_attention_heads": 9, "num_key_value_heads": 3,
    }),
}  # fmt: skip


def model_of(case: Case, folder: Path) -> Path:
    """The folder of the case's model, made where there is none."""
    pocket = POCKET / "models" / "pocket-1m"
    if not case.sizes:
        return pocket
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    made = folder / "model"
    if not made.is_dir():
        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(pocket)
        config = LlamaConfig(
            **case.sizes, tie_word_embeddings=True, max_position_embeddings=1024,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(made)
        tokenizer.save_pretrained(made)
    return made


def plain_trl(case: Case, steps: int, folder: Path) -> dict[str, Any]:
    """A plain TRL script; its steps are timed as the harness times its own."""
    from transformers import TrainerCallback

    seconds: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.monotonic() - self.start)

    trainer = _trainer(case, steps, folder, [Clock()])
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"step": statistics.median(seconds), "losses": losses}


def plain_loop(case: Case, steps: int, folder: Path) -> dict[str, Any]:
    """PyTorch and PEFT alone, on TRL's batches: the model's own loss, AdamW, clipping."""
    import torch

    batches = _trainer(case, steps, folder, [])
    loader = iter(batches.get_train_dataloader())
    model = _model(case, folder)
    if case.lora:
        from peft import get_peft_model

        model = get_peft_model(model, _lora())
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=case.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    losses, seconds = [], []
    for _ in range(steps):
        start, batch = time.monotonic(), next(loader)
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        seconds.append(time.monotonic() - start)
    return {"step": statistics.median(seconds), "losses": losses}


def _model(case: Case, folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(THREADS)
    model = AutoModelForCausalLM.from_pretrained(model_of(case, folder), dtype=torch.float32)
    torch.manual_seed(0)
    return model


def _lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def _trainer(case: Case, steps: int, folder: Path, callbacks: list[Any]) -> Any:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    lines = (POCKET / "instruct" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return SFTTrainer(
        model=_model(case, folder),
        processing_class=AutoTokenizer.from_pretrained(model_of(case, folder)),
        train_dataset=Dataset.from_list([{"messages": json.loads(n)["messages"]} for n in lines]),
        peft_config=_lora() if case.lora else None,
        callbacks=callbacks,
        args=SFTConfig(
            output_dir=str(folder / "trl"), max_steps=steps,
            per_device_train_batch_size=case.batch, max_length=256, learning_rate=case.rate,
            bf16=False, gradient_checkpointing=False, optim="adamw_torch",
            assistant_only_loss=True, logging_steps=1, save_strategy="no", report_to=[],
            use_cpu=True, seed=0, data_seed=0, dataloader_pin_memory=False, disable_tqdm=True,
        ),
    )  # fmt: skip


def through_harness(case: Case, steps: int, folder: Path) -> dict[str, Any]:
    """The same through `harness run`, in a store of its own."""
    with tempfile.TemporaryDirectory() as own:
        suite = Path(own) / "suite.yaml"
        suite.write_text(
            SUITE.format(
                model=model_of(case, folder),
                train=POCKET / "instruct" / "train.jsonl",
                test=POCKET / "instruct" / "test.jsonl",
                method="{lora: {r: 16, lora_alpha: 32}}" if case.lora else "full",
                steps=steps, batch=case.batch, rate=case.rate, threads=THREADS,
            )
        )  # fmt: skip
        command = [sys.executable, "-m", "harness.cli", "run", str(suite), "--store",
                   f"{own}/store", "--report-dir", f"{own}/report"]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        (record_path,) = Path(own).glob("store/train/*/record.json")
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


SIDES = {"trl": plain_trl, "loop": plain_loop, "harness": through_harness}


def main() -> int:
    """Run the sides in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=CASES, default="pocket")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    case = CASES[options.case]
    steps = options.steps or case.steps
    if options.side:
        print("RESULT " + json.dumps(SIDES[options.side](case, steps, options.folder)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        model_of(case, Path(folder))
        return _compare(options.case, steps, options.rounds, folder)


def _compare(name: str, steps: int, rounds: int, folder: str) -> int:
    to_trl, to_loop, added, shares = [], [], [], []
    for number in range(rounds):
        # Which goes first alternates: a machine that warms up or slows down favours none.
        order = list(SIDES) if number % 2 == 0 else list(SIDES)[::-1]
        found = {side: _fresh(side, name, steps, folder) for side in order}
        own, trl, loop = (found[side] for side in ("harness", "trl", "loop"))
        apart = [_apart(side["losses"], trl["losses"]) for side in (own, loop)]
        if apart[0] > (0 if name == "pocket" else 1e-6) or apart[1] > 1e-5:
            print(f"void: the losses differ, by {apart[0]:.1e}, and the loop's by {apart[1]:.1e}")
            return 1
        to_trl.append(own["step"] / trl["step"])
        to_loop.append(own["step"] / loop["step"])
        added.append(own["added"])
        shares.append(own["audit"] / (STEPS * own["step"]))
        print(
            f"round {number + 1}: a step takes {own['step']:.3f} s, {to_trl[-1]:.3f} of plain"
            f" TRL's and {to_loop[-1]:.3f} of the loop's (losses apart by {apart[0]:.1e} and"
            f" {apart[1]:.1e}); audits {own['audit']:.2f} s",
            flush=True,
        )
    print(
        f"{name}: median ratio to plain TRL {statistics.median(to_trl):.3f}, to the loop"
        f" {statistics.median(to_loop):.3f}; added to the stage"
        f" {statistics.median(added):.2f} s; audits {max(shares):.1%} of {STEPS} steps at most"
    )
    return 0


def _apart(own: list[float], other: list[float]) -> float:
    return max(abs(a - b) / abs(b) for a, b in zip(own, other, strict=True))


def _fresh(side: str, case: str, steps: int, folder: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, "--case", case, "--steps", str(steps),
               "--folder", folder]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return result


if __name__ == "__main__":
    sys.exit(main())
