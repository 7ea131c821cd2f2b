"""Variants: from a suite to what it compares."""
