"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.core.errors import unknown
from harness.core.locate import STORE


class Choice(click.Choice[str]):
    """A choice among names that says which one was most likely meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices:
            self.fail(unknown("word", str(value), self.choices), param, ctx)
        return str(super().convert(value, param, ctx))


store_option = click.option(
    "--store", type=Path, default=STORE, show_default=True, envvar="HARNESS_STORE",
    help="Folder of the cached stages.",
)  # fmt: skip
report_dir = click.option(
    "--report-dir",
    type=Path,
    help="Folder of the report; default: reports/<suite's name>, or"
    " with a number behind it if another suite's report is there.",
)
records_file = click.option(
    "--records", type=Path, metavar="FILE",
    help="Also write every stage's record (numbers and digests, no data) as JSON lines.",
)  # fmt: skip
no_examples = click.option(
    "--no-examples", is_flag=True, help="Leave prompts, references and answers out of the report."
)


def suite_options(command: Any) -> Any:
    """Adds the options of every command that reads a suite."""
    for option in (
        store_option,
        click.option("--limit", type=click.IntRange(min=1), help="Keep N rows of every split."),
        click.option("--only", metavar="PATTERN", help="Only variants like this: 'lora*'."),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
                     help="Change the suite: seeds=[0,1] or sft.learning_rate=1e-3. Repeatable."),
    ):  # fmt: skip
        command = option(command)
    return click.argument("suite", metavar="SUITE")(command)
