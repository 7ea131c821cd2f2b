"""Rows from where people keep them, in the layouts people have."""
