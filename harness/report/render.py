"""Write the files of a report, each whole or not at all."""

from __future__ import annotations

import io
import os
from pathlib import Path

from harness.comparison.frames import TABLE, to_frame
from harness.comparison.result import Comparison
from harness.core.text import csv_cell, rewrite, well_formed
from harness.report import examples as showing
from harness.report.formats import latex, markdown
from harness.report.page import page
from harness.report.plots import figures
from harness.report.privacy import without_examples


def render(comparison: Comparison, folder: Path, *, examples: bool = True) -> list[Path]:
    """Write the page, its tables as Markdown (long and short), LaTeX, CSV and Parquet, and its
    plots as SVG and PNG in figures/; examples that the page cannot hold stand beside it.

    Everything is made in memory first: a failure leaves an earlier report as it was, and a reader
    never meets half a file. The same comparison gives the same bytes. Figures and examples of an
    earlier report that this one does not have are removed.

    Args:
        examples: False leaves prompts, references and answers out of every file.
    """
    told = rewrite(comparison if examples else without_examples(comparison), well_formed)
    csv, parquet = _tables(told)
    shown = showing.shown(told) if examples else None
    files = {
        TABLE: parquet,
        "comparison.csv": csv,
        "comparison.tex": latex.report(told).encode(),
        "report.md": markdown.report(told).encode(),
        "summary.md": markdown.summary(told).encode(),
        "index.html": page.html(told, shown).encode(),
        **figures.files(told),
    }
    if shown is not None and shown.beside:
        files[showing.FILE] = showing.lines(told).encode()
    (folder / figures.FOLDER).mkdir(parents=True, exist_ok=True)
    written = [_write(folder / name, content) for name, content in files.items()]
    drawn = (p for p in (folder / figures.FOLDER).iterdir() if figures.OURS.fullmatch(p.name))
    for path in {folder / showing.FILE, *drawn} - set(written):
        path.unlink(missing_ok=True)
    return written


def _tables(comparison: Comparison) -> tuple[bytes, bytes]:
    frame = to_frame(comparison)
    parquet = io.BytesIO()
    frame.to_parquet(parquet, index=False)
    safe = frame.map(csv_cell).rename(columns=csv_cell)
    # RFC 4180's line ends; with them the writer quotes a stray carriage return as well.
    return safe.to_csv(index=False, lineterminator="\r\n").encode(), parquet.getvalue()


def _write(path: Path, content: bytes) -> Path:
    """Write beside, then rename."""
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
