"""How much faster than lm-eval's own model is ours, and are the results the same?

    python tests/benchmarks/lm_eval_speed.py [--case arc-10 ...] [--model random smollm2]
        [--dtype float32] [--documents 50] [--rounds 5] [--split] [--threads 1] [--no-run]
        [--folder build/lm_eval_speed] [--table results/performance/lm-eval-speed.md]

Both sides run `lm_eval.simple_evaluate` on the same loaded model, in turn; lm-eval's with its
fastest batch size on the first documents. Each finished round is kept in the folder and not run
again: what was killed goes on. With `--split` rounds share the documents of long prompts out (of
50, the first round reads the first ten), which takes a fifth of the time.

The speed table holds the median over the rounds of the ratio of the wall times, and of the times
that cores computed, which a busy machine moves less; then the time in the model, and the ratio of
the counted multiplications of weights. The exactness table stands beside it. A speed is void, and
the exit status 1, where a request's text or tokens differ, a log-probability by more than 1e-4, an
answer without being a near-tie, or a greedy text. In bfloat16 (lm-eval's side then sums
log-probabilities in float32) both are compared with float32, and the documents that change are
counted beside those that lm-eval's own change between two batch sizes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from harness.core.files import write_atomic  # noqa: E402
from tests.benchmarks.lm_eval_cases import CASES, MODELS, Case, model_folder, write_tasks  # noqa: E402
from tests.benchmarks.lm_eval_exact import against_float32, exactness, tokens_differ  # noqa: E402
from tests.benchmarks.lm_eval_table import SIDES, Row, holds, speed_line, tables  # noqa: E402

SIZES = {"multiple_choice": (1, 2, 4, 8, 16), "generate_until": (8, 16, 32)}
"""Batch sizes of lm-eval that are tried, until a larger one is slower. Answers are generated faster
in larger batches, as far as their rows go."""
TRIED = {"multiple_choice": 4, "generate_until": 32}
"""Documents they are tried on: 16 rows, or 32."""


class Meter:
    """Seconds in a model's forward passes, and tokens through its layers and its head."""

    def __init__(self, model: Any) -> None:
        self.seconds, self.tokens, self.positions = 0.0, 0, 0
        self._head = model.get_output_embeddings()
        self._model = model
        self._began = 0.0

    @contextmanager
    def on(self) -> Iterator[None]:
        def begin(*_: Any) -> None:
            self._began = time.perf_counter()

        def end(*_: Any) -> None:
            self.seconds += time.perf_counter() - self._began

        def count(_: Any, inputs: Any, output: Any) -> None:
            self.tokens += output.numel() // output.shape[-1]

        def count_head(_: Any, inputs: Any, output: Any) -> None:
            self.positions += output.numel() // output.shape[-1]

        hooks = [
            self._model.register_forward_pre_hook(begin), self._model.register_forward_hook(end),
            self._model.get_input_embeddings().register_forward_hook(count),
            self._head.register_forward_hook(count_head),
        ]  # fmt: skip
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def weights(self) -> float:
        """Multiplications of weights, without attention's own."""
        head = self._head.weight.numel()
        layers = sum(p.numel() for p in self._model.parameters()) - head
        if not self._model.config.tie_word_embeddings:
            layers -= head  # the embedding is looked up
        return float(self.tokens * layers + self.positions * head)


def run(
    side: str, model: Any, tokenizer: Any, asked: Mapping[str, list[int]], folder: Path, batch: int
) -> dict[str, Any]:
    """One `simple_evaluate` of some documents of each task: what it cost and what it found."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from harness.inference import HarnessLM
    from harness.inference.sharing import find_sharing

    meter = Meter(model)
    with meter.on():
        start, cores = time.perf_counter(), time.process_time()
        if side == "harness":
            # Found out again each time: what a fresh model costs is counted.
            lm: Any = HarnessLM(model, tokenizer, sharing=find_sharing(model))
        else:
            lm = HFLM(
                pretrained=model, tokenizer=tokenizer, batch_size=batch, softmax_dtype="float32"
            )
        results = lm_eval.simple_evaluate(
            model=lm, tasks=list(asked), bootstrap_iters=0, samples=dict(asked),
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        )  # fmt: skip
        wall, cores = time.perf_counter() - start, time.process_time() - cores
    samples = {
        f"{task} {sample['doc_id']}": {
            "asked": sample["prompt_hash"] + sample["target_hash"] + _digest(sample["arguments"]),
            "answers": [each[0] for each in sample["resps"]],
            "metrics": {k: v for k, v in sample.items() if k in ("acc", "acc_norm", "exact_match")},
        }
        for task, rows in results["samples"].items() for sample in rows
    }  # fmt: skip
    return {
        "wall": wall, "model": meter.seconds, "cores": cores, "weights": meter.weights(),
        "samples": samples,
    }  # fmt: skip


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def best_batch(
    case: Case, model: Any, tokenizer: Any, names: Sequence[str], folder: Path, most: int
) -> int:
    """lm-eval's fastest batch size on a few documents, in seconds of cores."""
    kind = case.task["output_type"]
    best, fastest = SIZES[kind][0], float("inf")
    count = min(TRIED[kind], most)
    rows = count if kind == "generate_until" else 4 * count
    for size in SIZES[kind]:
        cores = run("lm-eval", model, tokenizer, {names[0]: [*range(count)]}, folder, size)["cores"]
        if cores > 1.1 * fastest:
            break
        if cores < fastest:
            best, fastest = size, cores
        if size >= rows:
            break
    return best


def documents_of(
    case: Case, names: Sequence[str], options: Any, number: int
) -> dict[str, list[int]]:
    """The documents of each task that a round reads."""
    each = options.documents // len(names)
    if not options.split or case.whole:
        return {name: [*range(each)] for name in names}
    share = each // options.rounds
    return {name: [*range(number * share, (number + 1) * share)] for name in names}


def measure(name: str, options: Any, model_name: str, path: Path) -> dict[str, Any]:
    """Run what is missing of a case, and keep it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kept: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"rounds": []}
    if len(kept["rounds"]) >= options.rounds or options.no_run:
        return kept
    case, folder = CASES[name], options.folder / "tasks" / f"{name}-{options.documents}"
    names = write_tasks(case, options.documents, folder)
    source = model_folder(model_name, options.folder)
    tokenizer = AutoTokenizer.from_pretrained(source)
    dtype = getattr(torch, options.dtype)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype).to(options.device).eval()
    most = sum(map(len, documents_of(case, names, options, 0).values()))
    # Both models have one shape: lm-eval's batch size is sought once.
    tried = options.folder / f"batch-{name}-{options.dtype}-{options.device}-{most}.json"
    if not tried.is_file():
        tried.write_text(json.dumps(best_batch(case, model, tokenizer, names, folder, most)))
    kept["batch"] = json.loads(tried.read_text())
    if "tokens" not in kept:
        kept["tokens"] = tokens_differ(model, tokenizer, names, folder)
    for number in range(len(kept["rounds"]), options.rounds):
        asked = documents_of(case, names, options, number)
        load = os.getloadavg()[0]
        sides = {
            side: run(side, model, tokenizer, asked, folder, kept["batch"])
            for side in SIDES[:: 1 if number % 2 else -1]
        }
        samples = {side: each.pop("samples") for side, each in sides.items()}
        row = {**sides, "load": load, "exact": exactness(samples["harness"], samples["lm-eval"])}
        if options.dtype != "float32" and (
            number == 0 or asked != documents_of(case, names, options, 0)
        ):
            other = 1 if kept["batch"] > 1 else 16
            by_batch = run("lm-eval", model, tokenizer, asked, folder, other)["samples"]
            exact = run("harness", model.float(), tokenizer, asked, folder, 1)["samples"]
            model.to(dtype)
            row |= against_float32(samples["harness"], samples["lm-eval"], by_batch, exact)
        kept["rounds"].append(row)
        write_atomic(path, json.dumps(kept))
    return kept


def main() -> int:
    """Run the cases and print their tables."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--model", choices=MODELS, nargs="+", default=list(MODELS))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--documents", type=int, default=50, help="of each case")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--split", action="store_true", help="rounds share the documents out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-run", action="store_true", help="print what is there")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "lm_eval_speed")
    parser.add_argument("--table", type=Path, help="a file that the tables are written to")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    rows = []
    for model_name in options.model:
        for name in options.case:
            split = "-split" if options.split and not CASES[name].whole else ""
            label = f"{model_name}-{name}-{options.dtype}-{options.device}-{options.documents}"
            kept = measure(name, options, model_name, options.folder / f"{label}{split}.json")
            if kept["rounds"]:
                rows.append(Row(model_name, name, CASES[name].floor, kept))
                print(speed_line(rows[-1], options.dtype), flush=True)
    text = tables(rows, options.dtype)
    print(text)
    if options.table is not None:
        options.table.write_text(text, encoding="utf-8")
    return 0 if all(holds(row, options.dtype) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
