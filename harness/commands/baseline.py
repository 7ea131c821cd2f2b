"""`harness baseline set|show`: a baseline as a small file to commit."""

from __future__ import annotations

from pathlib import Path

from harness import __version__, importers
from harness.commands.sides import side, stored_file
from harness.comparison.gate import Side
from harness.comparison.result import Estimate
from harness.core.errors import HarnessError, StoreError, shortened, why
from harness.core.files import write_atomic
from harness.core.locate import BASELINES
from harness.core.text import line, number_of
from harness.importers.baseline import text_of
from harness.report import numbers


def store(name: str, results: str, store_folder: Path) -> str:
    """Write the baseline of this name from a side of a check.

    Returns:
        What was written, for the terminal.

    Raises:
        HarnessError: the name is no plain name, or the results cannot be read.
    """
    file = stored_file(name)
    if file is None:
        raise HarnessError(
            f"'{shortened(name)}' is no name of a baseline",
            fix="use letters, digits, dots, - and _",
        )
    found = side(results, store_folder)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, text_of(name, list(found.runs.values()), __version__))
    except OSError as error:
        raise StoreError(f"cannot be written: {why(error)}", where=str(file)) from error
    size = file.stat().st_size
    return f"{_described(found)}\nwritten: {file} ({size:,} bytes); commit it"


def show(name: str | None) -> str:
    """What a baseline holds, or the names of all.

    Raises:
        HarnessError: there is no such baseline.
    """
    if name is None:
        files = sorted(BASELINES.glob("*.json")) if BASELINES.is_dir() else []
        if not files:
            return f"no baseline is stored in {BASELINES}/; `harness baseline set NAME RESULTS`"
        return "\n".join(file.stem for file in files)
    file = stored_file(name)
    if file is None or not file.is_file():
        known = ", ".join(f.stem for f in sorted(BASELINES.glob("*.json"))) or "none"
        raise HarnessError(f"there is no baseline '{shortened(name)}'", fix=f"stored: {known}")
    runs = importers.read(file, "baseline")
    return _described(Side(name, {run.seed: run for run in runs}))


def _described(found: Side) -> str:
    seeds = ", ".join(map(str, found.runs))
    lines = [f"{line(found.variant)} (seeds {seeds})"]
    for name, by_seed in found.metrics.items():
        values = [metric.value for metric in by_seed.values()]
        metric = next(iter(by_seed.values()))
        kept = "" if metric.examples is not None else ", no scores of examples"
        mean = numbers.value(Estimate(sum(values) / len(values)))
        lines.append(f"  {line(name)}  {mean}  {number_of(metric.n or 0, 'example')}{kept}")
    return "\n".join(lines)
