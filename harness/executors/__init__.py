"""Executors: where stages run. Whatever can start `python -m harness.worker` can be one."""
