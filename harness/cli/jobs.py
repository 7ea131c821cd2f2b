"""The commands about the fine-tuning jobs that a suite started at a service."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import suite_options


@click.group()
def jobs() -> None:
    """List and cancel the fine-tuning jobs that a suite started at a service.

    A run that ends cancels no job. See docs/served.md.
    """


@jobs.command("list")
@suite_options
def listed(suite: str, store: Path, limit: int | None, only: str | None,
           settings: tuple[str, ...]) -> None:  # fmt: skip
    """Show each job of the suite and what its service says of it."""
    from harness.commands.jobs import list_jobs
    from harness.commands.session import open_suite

    click.echo(list_jobs(open_suite(suite, settings, store, only, limit)))


@jobs.command()
@suite_options
@click.argument("job")
def cancel(suite: str, store: Path, limit: int | None, only: str | None,
           settings: tuple[str, ...], job: str) -> None:  # fmt: skip
    """Ask the service to cancel a job of the suite, by its id."""
    from harness.commands import jobs as started
    from harness.commands.session import open_suite

    click.echo(started.cancel(open_suite(suite, settings, store, only, limit), job))
