"""Writes the files of a report, each of them completely or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

from harness.comparison.frames import TABLE, to_frame
from harness.comparison.result import Comparison
from harness.core.text import csv_cell, rewrite, well_formed
from harness.report import examples as showing
from harness.report.formats import html, latex, markdown
from harness.report.plots import figures
from harness.report.privacy import without_examples


def render(comparison: Comparison, folder: Path, *, examples: bool = True) -> list[Path]:
    """Write a report into a folder: index.html, report.md, summary.md, comparison.tex, .csv and
    .parquet, and each plot as SVG and PNG in figures/.

    If the page cannot hold all examples, they are written to examples.jsonl beside it.

    All files are made in memory first, so that a failure leaves an earlier report unchanged. The
    same comparison gives the same bytes. Plots and examples of an earlier report that this one does
    not have are removed.

    Args:
        examples: False leaves prompts, references and answers out of every file.

    Returns:
        The files that were written.

    Raises:
        OSError: a file cannot be written.
    """
    return write(contents(comparison, examples=examples), folder)


def contents(comparison: Comparison, *, examples: bool = True) -> dict[str, bytes]:
    """The files of a report: name -> what stands in it. Arguments as for `render`."""
    safe = rewrite(comparison if examples else without_examples(comparison), well_formed)
    csv, parquet = _tables(safe)
    shown = showing.shown(safe) if examples else None
    files = {
        TABLE: parquet,
        "comparison.csv": csv,
        "comparison.tex": latex.report(safe).encode(),
        "report.md": markdown.report(safe).encode(),
        "summary.md": markdown.summary(safe).encode(),
        "index.html": html.page(safe, shown).encode(),
        **figures.files(safe),
    }
    if shown is not None and shown.beside:
        files[showing.FILE] = showing.lines(safe).encode()
    return files


def write(files: Mapping[str, bytes], folder: Path) -> list[Path]:
    """Write the files of a report in the place of an earlier one, as `render` says."""
    (folder / figures.FOLDER).mkdir(parents=True, exist_ok=True)
    written = [_write(folder / name, content) for name, content in files.items()]
    drawn = (p for p in (folder / figures.FOLDER).iterdir() if figures.OURS.fullmatch(p.name))
    for path in {folder / showing.FILE, *drawn} - set(written):
        path.unlink(missing_ok=True)
    return written


def _tables(comparison: Comparison) -> tuple[bytes, bytes]:
    """The comparison as (CSV, Parquet)."""
    frame = to_frame(comparison)
    parquet = io.BytesIO()
    frame.to_parquet(parquet, index=False)
    escaped = frame.map(csv_cell).rename(columns=csv_cell)
    # With the line ends of RFC 4180, the writer also quotes a stray carriage return.
    return escaped.to_csv(index=False, lineterminator="\r\n").encode(), parquet.getvalue()


def _write(path: Path, content: bytes) -> Path:
    """Write a temporary file in the same folder, then rename it: nobody sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
