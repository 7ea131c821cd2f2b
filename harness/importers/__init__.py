"""Other tools' results, read into records and compared as our own are."""

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
    """Read, compare and render; the text for the terminal.

    Raises:
        DataError: nothing to read, or no such baseline.
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
    """The one run of full fine-tuning."""
    found = [r.label for r in records if r.ok and r.label.startswith("full-finetuning/")]
    if len(found) != 1:
        raise DataError(
            f"{len(found)} runs of full fine-tuning, so that none is the baseline by itself",
            where="--baseline",
            fix=f"name one of: {', '.join(r.label for r in records if r.ok)}",
        )
    return found[0]
