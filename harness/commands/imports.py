"""`harness import`: reads the results of other tools, compares them, and writes report and
records."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import importers
from harness import report as reporting
from harness.commands.report_folder import REPORTS, about_folder, free
from harness.comparison.imported import by_variant, compare_runs
from harness.comparison.measured import Run
from harness.comparison.result import Comparison, Estimate
from harness.core.errors import DataError, HarnessError, unknown
from harness.core.files import write_atomic
from harness.core.text import line, number_of
from harness.importers import peft_comparison
from harness.importers import peft_method_comparison as peft
from harness.importers.records import record_of
from harness.report import numbers
from harness.store.stage import Record


def import_results(
    words: Sequence[str],
    baseline: str | None,
    test_rows: int,
    report_dir: Path | None,
    records_file: Path | None,
) -> str:
    """Read results, compare them and write the report.

    Args:
        words: the tool's name, if it is named, then files and folders.
        baseline: the run that the others are compared with.
        test_rows: the number of test rows of PEFT's method comparison.
        report_dir: default: reports/ and the tool's name; if another report stands there, with a
            number behind it.
        records_file: also write the records into this file, as JSON lines.

    Returns:
        The summary for the terminal.

    Raises:
        DataError: there are no results, or there is no such baseline.
    """
    tool, paths = _split(words)
    if tool is None:
        names = {importers.recognised(path).NAME for path in paths}
        tool = names.pop() if len(names) == 1 else None
    if tool == peft.NAME and len(paths) == 1 and paths[0].is_dir():
        records = peft.read_records(paths[0], test_rows)
        comparison = peft_comparison.compare(
            records, baseline or _full(records), paths[0].resolve()
        )
        text = reporting.terminal_table(comparison)
    else:
        runs = [run for path in paths for run in importers.read(path, tool)]
        records = [record_of(run) for run in runs]
        comparison = _compared(runs, baseline, tool or "imported", words)
        text = f"{listing(runs)}\n\n{reporting.terminal_table(comparison)}"
    files = reporting.contents(comparison, examples=False)
    usual = REPORTS / comparison.suite
    target = report_dir or free(usual, lambda folder: _differs(folder, files))
    reporting.write(files, target)
    if records_file is not None:
        records_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(records_file, "".join(f"{r.model_dump_json()}\n" for r in records))
    others = "" if report_dir else about_folder(target, usual)
    return f"{text}\nreport: {target / 'index.html'}{others}"


def _differs(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Whether a folder has a report, and not this one."""
    return any(
        (folder / name).exists() and (folder / name).read_bytes() != content
        for name, content in files.items()
    )


def _split(words: Sequence[str]) -> tuple[str | None, list[Path]]:
    """The tool's name, if the first word is one, and the paths.

    Raises:
        HarnessError: there is no path, or one does not exist.
    """
    tool, rest = None, list(words)
    if rest and not Path(rest[0]).exists() and (rest[0] in importers.FORMATS or len(rest) > 1):
        tool = rest.pop(0)
        if tool not in importers.FORMATS:
            raise HarnessError(unknown("tool, file or folder", tool, importers.FORMATS))
    if not rest:
        raise HarnessError("name a file or folder of results", fix=f"tools: {tools()}")
    for word in rest:
        if not Path(word).exists():
            raise HarnessError(f"there is no file or folder {word}", fix=f"tools: {tools()}")
    return tool, [Path(word) for word in rest]


def tools() -> str:
    """The names of all importers."""
    return ", ".join(importers.FORMATS)


def formats() -> str:
    """A line for each importer, for `harness list importers`."""
    width = max(map(len, importers.FORMATS))
    return "\n".join(f"{name:<{width}}  {m.TITLE}" for name, m in importers.FORMATS.items())


def _compared(
    runs: Sequence[Run], baseline: str | None, tool: str, words: Sequence[str]
) -> Comparison:
    groups = by_variant(runs)
    against = baseline or next(iter(groups))
    command = ["harness", "import", *words, *(["--baseline", baseline] if baseline else [])]
    return compare_runs(groups, against, suite=tool, command=shlex.join(command))


def listing(runs: Sequence[Run]) -> str:
    """What was read: a line for each run, and for each of its first metrics."""
    lines = []
    for run in runs:
        file = line(run.source.get("file", ""))
        lines.append(f"{line(run.variant)}  ({run.source.get('tool')}, {file})")
        for metric in run.metrics[:_SHOWN]:
            what = (
                number_of(metric.n or 0, "example")
                if metric.examples is not None
                else _lacking(metric.n)
            )
            lost = f", {metric.unscored:,} without a score" if metric.unscored else ""
            lines.append(
                f"  {line(metric.name)}  {numbers.value(Estimate(metric.value))}  {what}{lost}"
            )
        if len(run.metrics) > _SHOWN:
            lines.append(f"  and {number_of(len(run.metrics) - _SHOWN, 'more metric')}")
    return "\n".join(lines)


_SHOWN = 12


def _lacking(n: int | None) -> str:
    count = "an unknown number of examples" if n is None else number_of(n, "example")
    return f"{count}, whose scores it lacks"


def _full(records: Sequence[Record]) -> str:
    """The name of the only run of full fine-tuning."""
    full_runs = [r.label for r in records if r.ok and r.label.startswith("full-finetuning/")]
    if len(full_runs) != 1:
        raise DataError(
            f"there are {number_of(len(full_runs), 'run')} of full fine-tuning; by"
            " default the baseline is the"
            " only one",
            where="--baseline",
            fix=f"name one of: {', '.join(r.label for r in records if r.ok)}",
        )
    return full_runs[0]
