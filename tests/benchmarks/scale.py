"""Compare and render 1,000 variants on 10,000 examples; the page of 20 variants on 1,000 examples.

    python tests/benchmarks/scale.py                    # both, with time and peak memory
    python tests/benchmarks/scale.py --variants 200     # smaller

Made-up records and scores are written to a store as the score stages would write them, then read,
compared and rendered. Writing them is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa

from harness import comparison as compare
from harness import report
from harness.planning.graph import Scored
from harness.planning.planner import Plan, VariantPath
from harness.store.score_table import write_scores
from harness.store.stage import Record, Stage
from harness.store.store import Store
from harness.suite.suite import Generate
from harness.variants.variant import Cell, Untrained

METRICS = ("exact_match", "rougeL")
FAMILIES = ("arithmetic", "chat", "qa", "summarise", "translate")
WORDS = [
    "the",
    "harvest",
    "of",
    "barley",
    "comes",
    "before",
    "winter",
    "and",
    "nobody",
    "sells",
    "apples",
    "by",
    "the",
    "old",
    "bridge",
]


def build(root: Path, variants: int, examples: int) -> tuple[Plan, dict[str, Record], Store]:
    """A store with the scores and answers of so many variants; the first is the baseline."""
    rng, records, paths = np.random.default_rng(0), {}, []
    ids = [f"row-{i:05d}" for i in range(examples)]
    keys = pa.table(
        {
            "example_id": ids,
            "cluster": [f"c{i // 2}" for i in range(examples)],
            "group": [FAMILIES[i % len(FAMILIES)] for i in range(examples)],
        }
    )
    easy = rng.normal(0, 1, examples)
    rows = Stage("data", {"made": "up"}, label="tasks/test")
    records[rows.key] = _record(rows, {"rows": examples, "dropped": {}})
    for number in range(variants):
        name = "base" if number == 0 else f"lora-r{number % 40}-sft-{number}"
        train = Stage("train", {"number": number}, {"train": rows}, label=name)
        cost = {
            "phases": {"train": 10.0 + number}, "trainable_parameters": 1000.0 * number,
            "state_bytes": 1e6 + 1e4 * number, "checkpoint_bytes": 4000.0 * number,
        }  # fmt: skip
        records[train.key] = _record(train, {}, cost)
        predictions = Stage("generate", {}, {"data": rows, "checkpoint": train}, label=name)
        records[predictions.key] = _record(predictions, {"rows": examples, "eos_rate": 1.0})
        _answers(predictions.path(root), ids[: 30_000 // variants], rng)
        skill = easy + 0.3 + 0.002 * number + rng.normal(0, 0.6, examples)
        values = {
            "exact_match": (skill > 0.4).astype(float),
            "rougeL": 1 / (1 + np.exp(-skill)),
        }
        scored = []
        for metric in METRICS:
            stage = Stage("score", {"scorer": {"name": metric}}, {"predictions": predictions})
            folder = stage.path(root)
            folder.mkdir(parents=True)
            write_scores(folder, keys.append_column(metric, pa.array(values[metric])))
            about = {"aggregate": "mean", "columns": {"value": metric}, "higher_is_better": True,
                     "unit": ""}  # fmt: skip
            records[stage.key] = _record(stage, {"metrics": {metric: about}})
            scored.append(Scored(stage, metric, "tasks", None))
        labels = {"method": "none" if number == 0 else "lora", "lora.r": str(number % 40)}
        about: dict[str, Any] = {
            "id": name, "group": name, "model": "made-up", "generate": Generate(),
            "evaluations": ("tasks",), "labels": labels,
        }  # fmt: skip
        trained = {"data": "tasks", "method": None, "recipe": SimpleNamespace(entry="tasks")}
        variant = Cell(**about, **trained) if number else Untrained(**about)
        paths.append(
            VariantPath(variant, train if number else None, {"tasks": predictions}, tuple(scored))
        )
    suite = SimpleNamespace(name="scale", description="", seeds=[0], tune=None, budget=None)
    plan = Plan(cast(Any, suite), Path("scale.yaml"), "", "base", cast(Any, None), tuple(paths),
                {("tasks", "test"): rows}, ())  # fmt: skip
    return plan, records, Store(root)


def _record(stage: Stage, metrics: dict[str, Any], cost: dict[str, Any] | None = None) -> Record:
    return Record(
        key=stage.key, kind=stage.kind, status="ok", label=stage.label, config=dict(stage.config),
        metrics=metrics, cost=cost or {},
    )  # fmt: skip


def _answers(folder: Path, ids: list[str], rng: np.random.Generator) -> None:
    """The first answers; a report of many variants reads no more of each."""
    folder.mkdir(parents=True)
    drawn = rng.integers(0, len(WORDS), (len(ids), 14))
    with (folder / "predictions.jsonl").open("w") as out:
        for i, (name, words) in enumerate(zip(ids, drawn, strict=True)):
            text = " ".join(WORDS[w] for w in words)
            line = {
                "id": name, "cluster": f"c{i // 2}", "group": FAMILIES[i % len(FAMILIES)],
                "prompt": f"Say it in other words, please, and briefly: row {i}.", "text": text,
                "references": [" ".join(WORDS)], "finish": "eos", "tokens": 14,
            }  # fmt: skip
            out.write(json.dumps(line) + "\n")


def measure(folder: Path, variants: int, examples: int) -> None:
    """Compare and render in this process, and print what it took."""
    plan, records, store = build(folder / "store", variants, examples)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.monotonic(), time.process_time()
    found = compare.compare(plan, records, store)
    middle, compared = time.monotonic(), time.process_time()
    files = report.render(found, folder / "report")
    end, finished = time.monotonic(), time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    page = next(path for path in files if path.name == "index.html").stat().st_size
    print(
        f"{variants:,} variants x {examples:,} examples, {len(METRICS)} metrics,"
        f" {len(FAMILIES)} task families, {len(found.rows):,} rows, {os.environ['OMP_NUM_THREADS']}"
        f" thread: compared in {middle - start:.1f} s ({compared - cpu:.1f} s of CPU), rendered in"
        f" {end - middle:.1f} s ({finished - compared:.1f}), together {end - start:.1f} s"
        f" ({finished - cpu:.1f}); peak memory"
        f" {peak / 2**20:.2f} GiB (of which {before / 2**20:.2f} before); page {page / 1e6:.2f} MB"
        f" with {len(found.examples):,} examples{_painted(folder / 'report' / 'index.html')}",
        flush=True,
    )


def _painted(page: Path) -> str:
    """`painted`, in a process of its own."""
    command = [sys.executable, __file__, "--paint", str(page)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.rstrip("\n")


def painted(page: Path) -> str:
    """When a headless Chromium first painted the page's text, and when it had loaded: the median of
    five openings; nothing where there is no browser."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from browser import CHROMIUM, Browser

    if not CHROMIUM:
        return "; no Chromium to paint it"
    times = (
        "[performance.getEntriesByName('first-contentful-paint')[0].startTime,"
        " performance.getEntriesByType('navigation')[0].loadEventEnd]"
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(Path(profile))
        try:
            seen = []
            for _ in range(5):
                browser.open(page)
                seen.append(browser.run(times))
        finally:
            browser.close()
    paint, load = (statistics.median(column) / 1000 for column in zip(*seen, strict=True))
    return f", painted in {paint:.2f} s, loaded in {load:.2f} s"


def main() -> None:
    """Each size in a process of its own, so that its peak is its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=int)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--paint", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.paint:
        print(painted(given.paint))
        return
    if given.variants:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), given.variants, given.examples)
        return
    for variants, examples in ((1000, 10_000), (20, 1000)):
        command = [sys.executable, __file__, "--variants", str(variants)]
        subprocess.run([*command, "--examples", str(examples)], check=True)


if __name__ == "__main__":
    main()
