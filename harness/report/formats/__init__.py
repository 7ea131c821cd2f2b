"""Formats: the report as Markdown, LaTeX, plain text."""
