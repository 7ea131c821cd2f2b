"""A comparison for people: HTML, Markdown, tables and the terminal. No arithmetic here."""

from __future__ import annotations

from harness.report.answer import answer
from harness.report.render import render
from harness.report.terminal import terminal_table

__all__ = ["answer", "render", "terminal_table"]
