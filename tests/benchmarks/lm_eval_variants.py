"""Eight variants of one base on five tasks: how much faster than eight calls of lm-eval?

    python tests/benchmarks/lm_eval_variants.py [--variants 8] [--documents 50] [--rounds 5]
        [--folder build/lm_eval_speed] [--table FILE]

The variants are LoRA adapters (r 16, all linear layers, random weights) of SmolLM2-135M-Instruct in
float32; the documents are shared out between five tasks. Three sides, in turn, each in processes of
their own, and all of them with the same engine:

- swapped: one base, the adapters swapped in place (`load_several`, `HarnessLM.use`), tasks loaded
  once;
- calls: `lm_eval.simple_evaluate` eight times in one process, each with its own model;
- processes: the same, each call in a process of its own, which also reads the index of lm-eval's
  own tasks, as the command `lm_eval` does.

The model computes the same on every side: what can be saved is what stands around it. Printed are
the median ratios, the seconds in the model beside them, and how far log-probabilities are apart.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from harness.core.files import write_atomic  # noqa: E402
from tests.benchmarks.lm_eval_cases import (  # noqa: E402
    CASES,
    Case,
    Rows,
    model_folder,
    write_tasks,
)
from tests.benchmarks.lm_eval_exact import CLOSE  # noqa: E402
from tests.benchmarks.lm_eval_table import line  # noqa: E402

SIDES = ("swapped", "calls", "processes")
FIVE = ("arc-0", "endings-0", "mmlu-0", "arc-5", "sums-0")
"""Cases that the five tasks are made of, and how many examples come before a document."""


def write_five(documents: int, folder: Path) -> list[str]:
    """The five tasks, and their names."""
    each, names = documents // len(FIVE), []
    for name in FIVE:
        kind, shots = name.split("-")
        like = next(case for key, case in CASES.items() if key.startswith(kind))
        task = {**like.task, "task": name.replace("-", "_")}
        if task["output_type"] == "generate_until":
            task["generation_kwargs"] = {"until": ["Question:"], "max_gen_toks": 16}
        case = Case(task, partial(_first, like), int(shots), 0)
        write_tasks(case, each, folder / name)
        names.append(str(task["task"]))
    return names


def _first(like: Case, count: int) -> Rows:
    """So many rows of the first task of a case; one of two tasks has half of them."""
    name, (test, examples) = next(iter(like.rows(2 * count).items()))
    return {name: (test[:count], examples)}


def make_adapters(base: Path, count: int, folder: Path) -> dict[str, str]:
    """LoRA adapters of random weights: name -> folder."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folders = {f"v{number}": folder / f"v{number}" for number in range(count)}
    for number, place in enumerate(folders.values()):
        if not place.is_dir():
            torch.manual_seed(number)
            model = AutoModelForCausalLM.from_pretrained(base)
            config = LoraConfig(
                r=16, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
            )
            get_peft_model(model, config).save_pretrained(place)
    return {name: str(place) for name, place in folders.items()}


class Seconds:
    """Counts the seconds of a model's passes."""

    def __init__(self) -> None:
        self.total, self._began = 0.0, 0.0

    def watch(self, model: Any) -> None:
        def begin(*_: Any) -> None:
            self._began = time.process_time()

        def end(*_: Any) -> None:
            self.total += time.process_time() - self._began

        model.register_forward_pre_hook(begin)
        model.register_forward_hook(end)


def work(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What one process does: score some variants."""
    import lm_eval
    from lm_eval.tasks import TaskManager
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.adapters import load_several
    from harness.inference import HarnessLM
    from harness.models.files import ModelRef

    logging.disable(logging.WARNING)
    seconds, answers = Seconds(), {}

    def manager() -> Any:
        return TaskManager(include_path=asked["tasks"], include_defaults=asked["defaults"])

    def evaluate(lm: Any, tasks: Sequence[Any], using: Any) -> Any:
        samples = lm_eval.simple_evaluate(
            model=lm, tasks=list(tasks), bootstrap_iters=0, task_manager=using
        )["samples"]
        return {task: [row["resps"] for row in rows] for task, rows in samples.items()}

    if asked["swap"]:
        adapters = load_several(ModelRef(asked["base"], "float32", "cpu"), asked["adapters"])
        index = manager()  # without one, every call would read the index of lm-eval's own tasks
        tasks = [*index.load(asked["names"])["tasks"].values()]
        lm = None
        for name in adapters.names:
            adapters.use(name)
            if lm is None:
                lm = HarnessLM(adapters.model, adapters.tokenizer)
                seconds.watch(adapters.model)
            lm.use(adapters.model)
            answers[name] = evaluate(lm, tasks, index)
    else:
        for name, folder in asked["adapters"].items():
            base = AutoModelForCausalLM.from_pretrained(asked["base"], dtype="float32")
            model = PeftModel.from_pretrained(base, folder)
            seconds.watch(model)
            tokenizer = AutoTokenizer.from_pretrained(asked["base"])
            answers[name] = evaluate(HarnessLM(model, tokenizer), asked["names"], manager())
    return {"model": seconds.total, "answers": answers}


def run(side: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """One side: its seconds, those of cores, those in the model, and its answers."""
    adapters: Mapping[str, str] = asked["adapters"]
    parts = [{name: folder} for name, folder in adapters.items()]
    start, before = time.perf_counter(), os.times()
    model, answers = 0.0, {}
    for part in parts if side == "processes" else [adapters]:
        options = {"swap": side == "swapped", "defaults": side == "processes"}
        told = json.dumps({**asked, **options, "adapters": part})
        command = [sys.executable, __file__, "--work", told]
        ended = subprocess.run(command, check=True, capture_output=True, text=True)
        result = json.loads(ended.stdout.splitlines()[-1])
        model += result["model"]
        answers.update(result["answers"])
    after = os.times()
    cores = sum(after[2:4]) - sum(before[2:4])
    return {
        "wall": time.perf_counter() - start, "cores": cores, "model": model, "answers": answers,
    }  # fmt: skip


def apart(one: Any, other: Any) -> float:
    """How far the numbers of two answers are apart; infinite where texts differ."""
    if isinstance(one, list):
        return max((apart(a, b) for a, b in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, dict):
        return max(apart(one[key], other[key]) for key in one)
    try:
        return abs(float(one) - float(other))
    except ValueError:
        return 0.0 if one == other else float("inf")


def main() -> int:
    """Run the sides in turn, and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--variants", type=int, default=8)
    parser.add_argument("--documents", type=int, default=50, help="of all tasks together")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "lm_eval_speed")
    parser.add_argument("--table", type=Path, help="a file that the table is written to")
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(json.loads(options.work))))
        return 0
    kept_in = options.folder / f"variants-{options.variants}-{options.documents}.json"
    rounds: list[Any] = json.loads(kept_in.read_text()) if kept_in.is_file() else []
    base = model_folder("smollm2", options.folder)
    tasks = options.folder / "tasks" / f"five-{options.documents}"
    asked = {
        "base": str(base), "tasks": str(tasks), "names": write_five(options.documents, tasks),
        "adapters": make_adapters(base, options.variants, options.folder / "adapters"),
    }  # fmt: skip
    for number in range(len(rounds), options.rounds):
        order = [*SIDES[number % 3 :], *SIDES[: number % 3]]
        sides: dict[str, Any] = {side: run(side, asked) for side in order}
        answers = {side: each.pop("answers") for side, each in sides.items()}
        sides["apart"] = max(apart(answers["swapped"], answers[side]) for side in SIDES[1:])
        rounds.append(sides)
        write_atomic(kept_in, json.dumps(rounds))
    return show(rounds, options)


HEAD = (
    "eight variants", "rounds", "s", "seconds of cores", "of these in the model",
    "swapping is times as fast (wall)", "in seconds of cores", "log-probabilities apart",
)  # fmt: skip


def show(rounds: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> int:
    """Print the table; 1 where results differ."""

    worst = max(each["apart"] for each in rounds)
    rows = [line(HEAD), "|" + "---|" * len(HEAD)]
    for side in SIDES:
        cells = [f"{_median(rounds, side, what):.0f}" for what in ("wall", "cores", "model")]
        cells += [f"{_median(rounds, side, what, 'swapped'):.2f}" for what in ("wall", "cores")]
        rows.append(line([side, len(rounds), *cells, f"{worst:.0e}"]))
    text = "\n".join(rows) + "\n"
    print(text)
    if options.table is not None:
        options.table.write_text(text, encoding="utf-8")
    return int(worst > CLOSE)


def _median(
    rounds: Sequence[Mapping[str, Any]], side: str, what: str, over: str | None = None
) -> float:
    """The median over the rounds of a figure of a side, as a multiple of another side's."""
    return statistics.median(
        float(each[side][what]) / (1.0 if over is None else each[over][what]) for each in rounds
    )


if __name__ == "__main__":
    sys.exit(main())
