"""The commands that read a suite: run, plan, data and report."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import no_examples, records_file, report_dir, suite_options

if TYPE_CHECKING:  # a command that is not run imports nothing
    from harness.commands.session import Opened


def _folder(opened: Opened, given: Path | None) -> tuple[Path, str]:
    """The folder of a suite's report, and why it is not the usual one; empty if it is."""
    from harness.commands import report_folder

    if given is not None:
        return given, ""
    name = opened.plan.suite.name
    folder = report_folder.folder_of(opened.loaded.path, name)
    return folder, report_folder.about_folder(folder, report_folder.REPORTS / name)


def _command() -> str:
    """The command line that makes the results again: as it was typed, with `run` for `report`."""
    words = sys.argv[1:]
    return shlex.join(["harness", *(["run", *words[1:]] if words[:1] == ["report"] else words)])


@click.command()
@suite_options
@report_dir
@no_examples
@records_file
@click.option("--changed", is_flag=True, help="Run only the variants whose results the --records"
              " FILE does not hold, and write it again. It needs no store.")  # fmt: skip
def run(suite: str, store: Path, limit: int | None, only: str | None, settings: tuple[str, ...],
        report_dir: Path | None, no_examples: bool, records: Path | None, changed: bool,
        ) -> None:  # fmt: skip
    """Train and score what is not cached yet, then compare and report.

    SUITE is a YAML file, or a suite of the package such as pocket/demo. Exit status: 0 for success;
    2 for a mistake in the suite; 5 if a variant failed (the others are reported).
    """
    from harness.commands import changed as changing
    from harness.commands import report as reports
    from harness.commands import run as runs
    from harness.commands.session import open_suite, warn_of_mistakes

    if changed and records is None:
        raise click.UsageError("--changed needs --records FILE: what an earlier run wrote there")
    opened = open_suite(suite, settings, store, only, limit)
    warn_of_mistakes(opened.plan)
    opened.command = _command()
    folder, elsewhere = _folder(opened, report_dir)
    runs.require_places(folder, records)
    if changed and records is not None:
        done = changing.run_changed(opened, records, examples=not no_examples)
        click.echo(done.text)
        if done.groups and done.complete:
            reported = reports.report(opened, done.records, folder, examples=not no_examples)
            click.echo(f"\n{reported.text}\nreport: {reported.folder / 'index.html'}{elsewhere}")
        sys.exit(5 if done.failed else 0)
    outcome = runs.run_stages(opened)
    reported = reports.report(opened, outcome.records, folder, examples=not no_examples)
    click.echo(reported.text)
    click.echo(runs.ledger(outcome, opened))
    click.echo(f"report: {reported.folder / 'index.html'}{elsewhere}")
    if records is not None:
        reports.write_records(opened, outcome.records, records, examples=not no_examples)
    sys.exit(5 if outcome.failed else 0)


@click.command()
@suite_options
@click.option("--why", is_flag=True, help="For each stage to run, what differs from a cached one.")
def plan(suite: str, store: Path, limit: int | None, only: str | None, settings: tuple[str, ...],
         why: bool) -> None:  # fmt: skip
    """List the stages and their expected cost.

    A stage is cached or will run; --why says how it differs from a cached one.
    """
    from harness.commands.plan import describe_plan
    from harness.commands.session import open_suite, warn_of_mistakes

    opened = open_suite(suite, settings, store, only, limit)
    warn_of_mistakes(opened.plan)
    click.echo(describe_plan(opened, why=why))


@click.command()
@suite_options
@click.option("--data", "entry", metavar="NAME", help="Only this entry of `data:`.")
@click.option(
    "--rows", type=click.IntRange(min=1), default=3, show_default=True, help="Rows to show."
)
def data(suite: str, store: Path, limit: int | None, only: str | None, settings: tuple[str, ...],
         entry: str | None, rows: int) -> None:  # fmt: skip
    """Show the first rows exactly as they are trained on.

    Dropped rows are counted by reason. The chat template is applied, tokens in the loss are marked,
    and special tokens are visible. The trainer that would train on the rows prepares them; nothing
    is trained.
    """
    from harness.commands import data as data_view
    from harness.commands.session import open_suite

    opened = open_suite(suite, settings, store, only, limit)
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    click.echo(data_view.show(opened, entry, rows, color=color))


@click.command()
@suite_options
@report_dir
@no_examples
@records_file
def report(suite: str, store: Path, limit: int | None, only: str | None, settings: tuple[str, ...],
           report_dir: Path | None, no_examples: bool, records: Path | None) -> None:  # fmt: skip
    """Make the report from the store, without running anything.

    The exit status is that of `harness run`: 5 if a variant failed (the report says why).
    """
    from harness.commands import report as reports
    from harness.commands.session import open_suite

    opened = open_suite(suite, settings, store, only, limit, ended=True)
    opened.command = _command()
    stored = reports.stored(opened)
    folder, elsewhere = _folder(opened, report_dir)
    reported = reports.report(opened, stored, folder, examples=not no_examples)
    click.echo(reported.text)
    click.echo(f"report: {reported.folder / 'index.html'}{elsewhere}")
    if records is not None:
        reports.write_records(opened, stored, records, examples=not no_examples)
    sys.exit(5 if reports.failures(opened, stored) else 0)
