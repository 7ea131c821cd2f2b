"""A check's outcome for people and for CI services."""
