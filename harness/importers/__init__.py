"""Imports the results of other tools, and compares them like those of the harness."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.core.errors import DataError
from harness.core.files import write_atomic
from harness.store.stage import Record


def import_results(
    tool: str,
    folder: Path,
    baseline: str | None,
    test_rows: int,
    report_dir: Path | None,
    records_file: Path | None,
) -> str:
    """Read the results of another tool, compare them and write the report.

    Args:
        folder: of the tool's results.
        baseline: the run that the others are compared with; by default the only run of full
            fine-tuning.
        test_rows: the number of test rows.
        report_dir: default: reports/ and the importer's name.
        records_file: also write the records into this file, as JSON lines.

    Returns:
        The summary for the terminal.

    Raises:
        DataError: there are no results, or there is no such baseline.
    """
    from harness import report
    from harness.importers import peft_method_comparison as importer

    records = importer.read(folder, test_rows)
    against = baseline or _full(records)
    comparison = importer.compare(records, against, folder.resolve())
    target = report_dir or Path("reports") / importer.NAME
    report.render(comparison, target, examples=False)
    if records_file is not None:
        records_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(records_file, "".join(f"{r.model_dump_json()}\n" for r in records))
    return f"{report.terminal_table(comparison)}\nreport: {target / 'index.html'}"


def _full(records: Sequence[Record]) -> str:
    """The name of the only run of full fine-tuning."""
    full_runs = [r.label for r in records if r.ok and r.label.startswith("full-finetuning/")]
    if len(full_runs) != 1:
        raise DataError(
            f"there are {len(full_runs)} runs of full fine-tuning; by default the baseline is the"
            " only one",
            where="--baseline",
            fix=f"name one of: {', '.join(r.label for r in records if r.ok)}",
        )
    return full_runs[0]
