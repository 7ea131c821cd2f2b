"""The pocket world: a small closed world, its texts, its tasks and two base models."""
