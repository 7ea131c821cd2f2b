"""Shows a comparison to people: as HTML, Markdown, LaTeX, tables, plots and terminal text.

A report computes no statistics: it formats what `harness.comparison` computed.
"""

from __future__ import annotations

from harness.report.answer import answer
from harness.report.formats.terminal import terminal_table
from harness.report.render import contents, render, write

__all__ = ["answer", "contents", "render", "terminal_table", "write"]
