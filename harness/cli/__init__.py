"""The command line: each command reads its options and calls the functions that do the work."""

from __future__ import annotations

import click

from harness import __version__
from harness.cli.boundary import Group
from harness.cli.house import doctor, gc, init, list_, schema
from harness.cli.jobs import jobs
from harness.cli.judge import judge
from harness.cli.results import baseline, check, comment, compare, import_
from harness.cli.suites import data, plan, report, run

_BEGIN = "Begin with: harness init my.yaml; harness plan my.yaml; harness run my.yaml."


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_BEGIN)
@click.version_option(__version__, prog_name="harness")
def main() -> None:
    """Decide how to fine-tune a language model: train, measure and compare in one matrix."""


for command in (
    run, plan, data, report, compare, check, comment, baseline, import_, judge, jobs, list_,
    schema, doctor, init, gc,
):  # fmt: skip
    main.add_command(command)
