"""Plots: every drawing of a report."""
