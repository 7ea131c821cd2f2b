"""Plan a suite of 1,000 variants: over an empty store, over one that holds all its stages, and what
`harness plan` and a run that finds all cached then take.

    python tests/benchmarks/planning.py                    # 1,000 variants
    python tests/benchmarks/planning.py --variants 100     # fewer

The model is the package's pocket one. Rows are read and measured by a worker; the other stages'
records are made up, as workers would leave them, with one small output each. Neither is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import yaml

from harness.commands import report as reports
from harness.commands.plan import table
from harness.commands.session import Opened
from harness.executors.base import Session
from harness.planning.planner import plan
from harness.scheduling.schedule import execute
from harness.store.stage import RECORD, Output, Record, Stage, write_record
from harness.store.store import Store
from harness.suite.suite import load_suite

ROWS = [{"prompt": f"say {i}", "completion": str(i)} for i in range(40)]


def suite(folder: Path, variants: int) -> Path:
    """Full and LoRA at half as many rates each."""
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    rates = [float(f"{1e-5 * 1.01**i:.6g}") for i in range(variants // 2)]
    tree = {
        "name": "planning",
        "models": {"pocket": {"path": "pocket/models/pocket-1m"}},
        "data": {"said": {"train": "train.jsonl", "test": "test.jsonl"}},
        "matrix": {
            "method": ["full", {"lora": {"r": 4}}],
            "objective": ["sft"],
            "sft.learning_rate": rates,
        },
        "baseline": f"full-sft-learning_rate={rates[0]}",
        "scorers": ["exact_match", "rouge", "perplexity"],
        "seeds": [0],
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def fill(stages: list[Stage], store: Store) -> None:
    """Records and a small output for each stage that has none yet."""
    for stage in stages:
        folder = stage.path(store.root)
        if (folder / RECORD).is_file():
            continue
        folder.mkdir(parents=True)
        text = stage.key.encode()
        (folder / "output").write_bytes(text)
        outputs = {"output": Output(sha256=hashlib.sha256(text).hexdigest(), bytes=len(text))}
        cost = {"flops_per_second": 1e10, "tokens_per_second": 900.0, "seconds": 1.0, "phases": {}}
        record = Record(
            key=stage.key, kind=stage.kind, status="ok", label=stage.label,
            config=dict(stage.config), outputs=outputs, cost=cost,
            inputs={role: source.key for role, source in stage.inputs.items()},
            provenance={"finished": time.time()},
        )  # fmt: skip
        write_record(folder, record)


class Idle:
    """An executor that is never asked for anything."""

    def start(self, log: Path) -> Session:
        raise AssertionError("all is cached")

    def room(self, stage: Stage, running: Collection[Stage]) -> bool:
        return not running


class Quiet:
    """Tells nobody."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long it took."""
    start, cpu = time.monotonic(), time.process_time()
    yield
    wall, used = time.monotonic() - start, time.process_time() - cpu
    print(f"  {what:<44} {wall:6.2f} s ({used:.2f} s of CPU)", flush=True)


def main() -> None:
    """Measure in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=int, default=1000)
    variants = parser.parse_args().variants
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = suite(folder, variants)
        store = Store(folder / "store")
        loaded = load_suite(str(path), ())
        print(f"{variants:,} variants")
        with timed("plan, the store is empty"):
            planned = plan(loaded, store)
        ground = planned.groundwork()
        execute(ground, ground, planned.executor, store, Quiet(), folder / "log")
        fill(plan(loaded, store).stages(), store)
        for which in ("first reading", "again"):
            fresh = Store(folder / "store")
            with timed(f"plan, the store is full, {which}"):
                planned = plan(loaded, fresh)
            stages = planned.stages()
        print(f"  {len(stages):,} stages")
        with timed("the table of `harness plan`"):
            table(planned, fresh, why=False)
        with timed("a run that finds all cached"), contextlib.redirect_stderr(io.StringIO()):
            execute(stages, list(planned.targets()), Idle(), fresh, Quiet(), folder / "log")
        with timed("records for a report"):
            opened = Opened(loaded, fresh, planned, None, None)
            reports.stored(opened)


if __name__ == "__main__":
    main()
