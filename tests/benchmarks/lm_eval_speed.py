"""How much faster than lm-eval's own model is ours, and are the results the same?

    python tests/benchmarks/lm_eval_speed.py [--case arc-10 ...] [--model random smollm2]
        [--dtype float32] [--documents 50] [--rounds 5] [--folder build/lm_eval_speed]

Both sides run `lm_eval.simple_evaluate` on the same loaded model, in turn; lm-eval's with the best
of several batch sizes. A case that is finished is kept in the folder and not run again. Printed are
the medians of the wall time, the ratio of the time that cores computed (which a busy machine moves
less), the time in the model, the ratio of the multiplications of weights that are counted, and
beside them whether the results are the same. A figure is void, and the exit status 1, where a
request's text or tokens differ, a log-probability by more than 1e-4, an answer without being a
near-tie, or a greedy text. In bfloat16, where lm-eval's side sums log-probabilities in float32,
answers are compared with those of float32 instead, and counted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.lm_eval_cases import CASES, MODELS, model_folder, write_tasks  # noqa: E402

SIZES = (1, 2, 4, 8, 16, 32)
"""Batch sizes of lm-eval that are tried, on the first documents, until larger ones are slower."""
SIDES = ("lm-eval", "harness")
TRIED = 12
CLOSE = 1e-4


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
            self.tokens += output.shape[0] * output.shape[1]

        def count_head(_: Any, inputs: Any) -> None:
            self.positions += inputs[0].numel() // inputs[0].shape[-1]

        hooks = [
            self._model.register_forward_pre_hook(begin), self._model.register_forward_hook(end),
            self._model.get_input_embeddings().register_forward_hook(count),
            self._head.register_forward_pre_hook(count_head),
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


def run(side: str, model: Any, tokenizer: Any, names: Sequence[str], folder: Path,
        batch: int, limit: int | None = None) -> dict[str, Any]:  # fmt: skip
    """One `simple_evaluate`, and what it found."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from harness.inference import HarnessLM

    meter = Meter(model)
    with meter.on():
        start, cores = time.perf_counter(), time.process_time()
        if side == "harness":
            lm: Any = HarnessLM(model, tokenizer)
        else:
            lm = HFLM(
                pretrained=model, tokenizer=tokenizer, batch_size=batch, softmax_dtype="float32"
            )
        results = lm_eval.simple_evaluate(
            model=lm, tasks=list(names), bootstrap_iters=0, limit=limit,
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


def tokens_differ(model: Any, tokenizer: Any, names: Sequence[str], folder: Path) -> int:
    """How many requests of both sides have other tokens."""
    from lm_eval.api.model import TemplateLM
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from harness.inference.lm_text import Encoder

    loaded = TaskManager(include_path=str(folder), include_defaults=False).load(list(names))
    theirs = HFLM(pretrained=model, tokenizer=tokenizer)
    ours = Encoder(tokenizer, theirs.prefix_token_id, None)
    wrong = 0
    for task in loaded["tasks"].values():
        task.build_all_requests()
        asked = [request.args for request in task.instances]
        if task.OUTPUT_TYPE == "generate_until":
            found = ours.contexts(text for text, _ in asked)
            wrong += sum(
                found[text] != theirs.tok_batch_encode([text])[0][0].tolist() for text, _ in asked
            )
        else:
            pairs = ours.pairs(asked)
            wrong += sum(
                pair != TemplateLM._encode_pair(theirs, *each)
                for pair, each in zip(pairs, asked, strict=True)
            )
    return wrong


def best_batch(model: Any, tokenizer: Any, names: Sequence[str], folder: Path) -> int:
    """lm-eval's fastest batch size on a few documents."""
    best, fastest = SIZES[0], float("inf")
    for size in SIZES:
        wall = run("lm-eval", model, tokenizer, names, folder, size, TRIED)["model"]
        if wall > 1.1 * fastest:
            break
        if wall < fastest:
            best, fastest = size, wall
    return best


def exactness(ours: Any, theirs: Any) -> dict[str, Any]:
    """How the results of both sides differ."""
    asked, texts, apart, ties, wrong = 0, 0, 0.0, [], []
    for name, own in ours.items():
        other = theirs[name]
        asked += own["asked"] != other["asked"]
        if isinstance(own["answers"][0], str):
            texts += own["answers"] != other["answers"]
            continue
        scores = [[each[0] for each in side["answers"]] for side in (own, other)]
        apart = max(apart, *(abs(a - b) for a, b in zip(*scores, strict=True)))
        if own["metrics"] != other["metrics"]:
            first, second = sorted(scores[1])[-2:][::-1]
            (ties if first - second <= 2 * CLOSE else wrong).append(name)
    return {
        "requests": asked, "texts": texts, "apart": apart, "near_ties": ties, "answers": wrong,
    }  # fmt: skip


def changed(one: Any, other: Any) -> int:
    """How many documents have other metrics or another text."""

    def said(sample: Any) -> Any:
        texts = [each for each in sample["answers"] if isinstance(each, str)]
        return sample["metrics"], texts

    return sum(said(one[name]) != said(other[name]) for name in one)


def measure(name: str, options: Any, model_name: str, path: Path) -> dict[str, Any]:
    """Run what is missing of a case, and keep it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kept: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"rounds": []}
    if len(kept["rounds"]) >= options.rounds:
        return kept
    case, folder = CASES[name], options.folder / "tasks" / name
    names = write_tasks(case, options.documents, folder)
    source = model_folder(model_name, options.folder)
    tokenizer = AutoTokenizer.from_pretrained(source)
    dtype = getattr(torch, options.dtype)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype).to(options.device).eval()
    if "batch" not in kept:
        kept["batch"] = best_batch(model, tokenizer, names, folder)
        kept["tokens"] = tokens_differ(model, tokenizer, names, folder)
    while len(kept["rounds"]) < options.rounds:
        number = len(kept["rounds"])
        found = {
            side: run(side, model, tokenizer, names, folder, kept["batch"])
            for side in SIDES[:: 1 if number % 2 else -1]
        }
        samples = {side: each.pop("samples") for side, each in found.items()}
        if number == 0 and options.dtype != "float32":
            other = run("lm-eval", model, tokenizer, names, folder, 1 if kept["batch"] > 1 else 16)
            exact = run("harness", model.float(), tokenizer, names, folder, 1)["samples"]
            model.to(dtype)
            kept["changed"] = {
                "ours": changed(samples["harness"], exact),
                "lm-eval": changed(samples["lm-eval"], exact),
                "lm-eval, other batch": changed(samples["lm-eval"], other["samples"]),
            }
        kept["rounds"].append({**found, "exact": exactness(samples["harness"], samples["lm-eval"])})
        kept["documents"] = len(samples["harness"])
        path.write_text(json.dumps(kept))
    return kept


def row_of(name: str, model_name: str, kept: Any, dtype: str) -> tuple[str, bool]:
    """A case's line of the table, and whether its figure holds."""
    ratios = [r["lm-eval"]["wall"] / r["harness"]["wall"] for r in kept["rounds"]]
    walls, models, cores = (
        [statistics.median(r[side][what] for r in kept["rounds"]) for side in SIDES]
        for what in ("wall", "model", "cores")
    )
    last = kept["rounds"][-1]
    counted = last["lm-eval"]["weights"] / last["harness"]["weights"]
    worst = [r["exact"] for r in kept["rounds"]]
    requests, texts, apart = (max(e[k] for e in worst) for k in ("requests", "texts", "apart"))
    wrong = sorted({n for e in worst for n in e["answers"]})
    ties = sorted({n for e in worst for n in e["near_ties"]})
    void = bool(requests or kept["tokens"])
    if dtype == "float32":
        void = void or bool(texts or wrong or apart > CLOSE)
    exact = f"{apart:.0e} | {len(wrong)} | {', '.join(ties) or 0} | {texts}"
    if "changed" in kept:
        exact += " | " + ", ".join(f"{k} {v}" for k, v in kept["changed"].items())
    return (
        f"| {model_name} | {name} | {kept['documents']} | {kept['batch']} | {walls[0]:.1f} |"
        f" {walls[1]:.1f} | {'void' if void else f'{statistics.median(ratios):.2f}'} |"
        f" {CASES[name].floor} | {cores[0] / cores[1]:.2f} | {models[0]:.1f} | {models[1]:.1f} |"
        f" {counted:.2f} | {requests} |"
        f" {kept['tokens']} | {exact} |"
    ), not void


HEAD = (
    "| model | case | documents | lm-eval's batch | lm-eval s | ours s | times as fast | floor |"
    " in seconds of cores | lm-eval's model s | our model s | weights counted | other requests |"
    " other tokens |"
    " log-probabilities apart | other answers | near-ties | other texts |"
)


def main() -> int:
    """Run the cases and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--model", choices=MODELS, nargs="+", default=list(MODELS))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "lm_eval_speed")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)
    lines, holds = [], True
    for model_name in options.model:
        for name in options.case:
            label = f"{model_name}-{name}-{options.dtype}-{options.device}-{options.documents}"
            kept = measure(name, options, model_name, options.folder / f"{label}.json")
            line, held = row_of(name, model_name, kept, options.dtype)
            print(line, flush=True)
            lines.append(line)
            holds = holds and held
    more = " changed answers, against float32 |" if options.dtype != "float32" else ""
    print("\n" + HEAD + more)
    print("|" + "---|" * (HEAD + more).count("|"))
    print("\n".join(lines))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
