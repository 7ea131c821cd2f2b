"""A comparison for people: HTML, Markdown, tables and the terminal. No arithmetic here."""

from __future__ import annotations

from harness.report.answer import answer
from harness.report.formats.terminal import terminal_table
from harness.report.render import render

__all__ = ["answer", "render", "terminal_table"]
