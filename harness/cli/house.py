"""The commands about what there is: list, schema, doctor, init and gc."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from harness.cli.options import Choice, store_option


@click.command(name="list")
@click.argument("what", metavar="WHAT", type=Choice(
    ["methods", "objectives", "scorers", "labellers", "executors", "pairs", "suites",
     "stages", "keys", "importers", "tasks"]))  # fmt: skip
@click.argument("name", required=False)
@store_option
@click.option("--kind", help="stages: only of this kind.")
@click.option("--status", type=click.Choice(["ok", "failed"]), help="stages: only these.")
@click.option("--text", default="", help="stages: label or configuration contains this.")
def list_(what: str, name: str | None, store: Path, kind: str | None, status: str | None,
          text: str) -> None:  # fmt: skip
    """List components, suites, stages or keys.

    WHAT is one of methods, objectives, scorers, labellers, executors, pairs, suites, stages, keys,
    importers and tasks. NAME shows one member with its options, one section of the keys, or the
    benchmark tasks with this in their names. `pairs` shows which methods and objectives can be
    combined.
    """
    from harness.commands import keys
    from harness.commands import list as listing
    from harness.planning import pairs

    if what == "pairs":
        click.echo(pairs.table())
    elif what == "stages":
        click.echo(listing.stages(store, kind, status, text))
    elif what == "keys":
        click.echo(keys.listing(name))
    elif what == "importers":
        from harness.commands import imports

        click.echo(imports.formats())
    elif what == "suites":
        click.echo(listing.suites())
    elif what == "tasks":
        click.echo(listing.tasks(name))
    else:
        click.echo(listing.members(what[:-1], name))


@click.command()
def schema() -> None:
    """Print the JSON Schema of a suite.

    Editors use it by the line `# yaml-language-server: $schema=FILE` in a suite.
    """
    from harness.commands import keys

    click.echo(json.dumps(keys.schema(), indent=1))


@click.command()
@store_option
def doctor(store: Path) -> None:
    """Check the machine, the libraries and the store.

    The exit status is 4 if one of them is not fit.
    """
    from harness.commands import doctor as checks

    text, good = checks.examine(store)
    click.echo(text)
    sys.exit(0 if good else 4)


@click.command()
@click.argument("file", type=Path, default=Path("suite.yaml"))
@click.option("--force", is_flag=True, help="Overwrite the file.")
def init(file: Path, force: bool) -> None:
    """Write a commented suite to start from."""
    from harness.commands import list as listing

    click.echo(listing.write_starter(file, force=force))


@click.command()
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@store_option
@click.option("--older-than", type=float, metavar="DAYS", help="Only stages that finished before.")
@click.option(
    "--checkpoints",
    is_flag=True,
    help="Also remove the checkpoints of kept stages; records, answers and scores stay.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def gc(suites: tuple[str, ...], store: Path, older_than: float | None, checkpoints: bool,
       dry_run: bool) -> None:  # fmt: skip
    """Remove the stages that none of these SUITEs uses.

    Without a SUITE every stage would be removed, so name the suites to keep, or use --older-than.
    With --checkpoints, the weights of the kept stages are removed too. A scorer of answers that you
    add later then still needs no training; a scorer that reads the model trains it again.
    """
    from harness.commands import gc as collector

    click.echo(collector.collect(suites, store, older_than, checkpoints, dry_run=dry_run))
