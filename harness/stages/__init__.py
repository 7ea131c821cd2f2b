"""Stages: where the axes meet. Each module's `run(job)` does one kind of work in a worker."""
