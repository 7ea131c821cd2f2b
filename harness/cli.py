"""The command line: each command reads its options and calls the functions that do the work."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from harness import __version__
from harness.commands import signals
from harness.core.errors import EXIT_CRASH, EXIT_PIPE, HarnessError
from harness.core.locate import STORE
from harness.core.text import visible

REPORTS = Path("reports")


class Group(click.Group):
    """Prints known errors as sentences, and says of any other error that it is a fault of ours."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with signals.as_interrupts():
                return super().invoke(ctx)
        except HarnessError as error:
            click.echo(visible(str(error)), err=True)
            ctx.exit(error.exit_code)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:  # the reader is gone; what else failed must not look like success
            ctx.exit(EXIT_PIPE)
        except KeyboardInterrupt as stop:
            with contextlib.suppress(OSError):  # the terminal itself may be gone
                click.echo("\nstopped; the next `harness run` goes on from here", err=True)
            ctx.exit(signals.exit_status(stop))
        except Exception:
            traceback.print_exc()
            click.echo("harness: this is a fault of the harness itself; please report it", err=True)
            ctx.exit(EXIT_CRASH)


def suite_options(command: Any) -> Any:
    """Adds the options of every command that reads a suite."""
    for option in (
        click.option("--store", type=Path, default=STORE, show_default=True, envvar="HARNESS_STORE",
                     help="Folder of the cached stages."),
        click.option("--limit", type=click.IntRange(min=1), help="Keep N rows of every split."),
        click.option("--only", metavar="PATTERN", help="Only variants like this: 'lora*'."),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
                     help="Change the suite: seeds=[0,1] or sft.learning_rate=1e-3. Repeatable."),
    ):  # fmt: skip
        command = option(command)
    return click.argument("suite", metavar="SUITE")(command)


def _command() -> str:
    """The command line that makes the results again: as it was typed, with `run` for `report`."""
    words = sys.argv[1:]
    return shlex.join(["harness", *(["run", *words[1:]] if words[:1] == ["report"] else words)])


report_dir = click.option(
    "--report-dir", type=Path, help="Folder of the report; default: reports/<suite's name>."
)
records_file = click.option(
    "--records", type=Path, metavar="FILE",
    help="Also write every stage's record (numbers and digests, no data) as JSON lines.",
)  # fmt: skip
no_examples = click.option(
    "--no-examples", is_flag=True, help="Leave prompts, references and answers out of the report."
)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="harness")
def main() -> None:
    """Decide how to fine-tune a language model: train, measure and compare in one matrix."""


@main.command()
@suite_options
@report_dir
@no_examples
@records_file
def run(suite: str, store: Path, limit: int | None, only: str | None, settings: tuple[str, ...],
        report_dir: Path | None, no_examples: bool, records: Path | None) -> None:  # fmt: skip
    """Train and score what is not cached yet, then compare and report.

    SUITE is a YAML file, or a suite of the package such as pocket/demo. Exit status: 0 for success;
    2 for a mistake in the suite; 5 if a variant failed (the others are reported).
    """
    from harness.commands import report as reports
    from harness.commands import run as runs
    from harness.commands.session import open_suite

    opened = open_suite(suite, settings, store, only, limit)
    opened.command = _command()
    folder = report_dir or REPORTS / opened.plan.suite.name
    runs.require_places(folder, records)
    outcome = runs.run_stages(opened)
    reported = reports.report(opened, outcome.records, folder, examples=not no_examples)
    click.echo(reported.text)
    click.echo(runs.ledger(outcome, opened))
    click.echo(f"report: {reported.folder / 'index.html'}")
    if records is not None:
        reports.write_records(opened, outcome.records, records, examples=not no_examples)
    sys.exit(5 if outcome.failed else 0)


@main.command()
@suite_options
@click.option("--why", is_flag=True, help="For each stage to run, what differs from a cached one.")
def plan(suite: str, store: Path, limit: int | None, only: str | None, settings: tuple[str, ...],
         why: bool) -> None:  # fmt: skip
    """List the stages and their expected cost.

    A stage is cached or will run; --why says how it differs from a cached one.
    """
    from harness.commands.plan import describe_plan
    from harness.commands.session import open_suite

    opened = open_suite(suite, settings, store, only, limit)
    click.echo(describe_plan(opened, why=why))


@main.command()
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


@main.command()
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
    folder = report_dir or REPORTS / opened.plan.suite.name
    reported = reports.report(opened, stored, folder, examples=not no_examples)
    click.echo(reported.text)
    click.echo(f"report: {reported.folder / 'index.html'}")
    if records is not None:
        reports.write_records(opened, stored, records, examples=not no_examples)
    sys.exit(5 if reports.failures(opened, stored) else 0)


@main.command()
@click.argument("a", metavar="VARIANT")
@click.argument("b", metavar="BASELINE")
@click.option("--store", type=Path, default=STORE, show_default=True, envvar="HARNESS_STORE")
def compare(a: str, b: str, store: Path) -> None:
    """Compare two variants on the same examples.

    The second one is the baseline. Each is SUITE:VARIANT, or a file or folder of results in any
    format of `harness list importers`, or a stored baseline. The exit status is 5 if one of them
    failed, and 4 if results cannot be read.
    """
    from harness.commands import compare as comparing

    comparison = comparing.compare(a, b, store=store)
    click.echo(comparing.describe_comparison(a, b, comparison))
    sys.exit(5 if comparison.failed else 0)


@main.command()
@click.argument("candidate", metavar="[CANDIDATE]", required=False)
@click.option("--model", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Instead of CANDIDATE: a folder with an adapter or a model, which is scored"
              " first as --suite scores its variants.")  # fmt: skip
@click.option("--suite", help="The suite for --model.")
@click.option("--baseline", required=True, metavar="BASELINE", help="What it is judged by.")
@click.option("--claims", type=Path, metavar="FILE", help="YAML list of claims, such as"
              " `- candidate not_worse baseline on rougeL by 0.01`.")  # fmt: skip
@click.option("--margin", "margins", multiple=True, metavar="[METRIC=]AMOUNT",
              help="Without --claims: a fall of no more than this passes (0.01, 5%, acc=0.02)."
              " Default: 0.02 of a share, else 5%. Repeatable.")  # fmt: skip
@click.option("--confidence", type=click.FloatRange(0.5, 1, max_open=True), default=0.95,
              show_default=True, help="Without --claims: confidence of each verdict.")  # fmt: skip
@click.option("--allow", multiple=True, metavar="WHAT",
              help="inconclusive: what cannot be decided passes. prompts: other prompts may"
              " be compared. missing: examples that one side lacks are left out."
              " Repeatable.")  # fmt: skip
@click.option("--report-dir", type=Path,
              help="Also write check.json, check.md, junit.xml and worse.csv here.")  # fmt: skip
@click.option("--name", default="", help="Tells several checks of one pull request apart.")
@click.option("--store", type=Path, default=STORE, show_default=True, envvar="HARNESS_STORE")
def check(candidate: str | None, model: Path | None, suite: str | None, baseline: str,
          claims: Path | None, margins: tuple[str, ...], confidence: float, allow: tuple[str, ...],
          report_dir: Path | None, name: str, store: Path) -> None:  # fmt: skip
    """Judge a candidate by a baseline: may it ship?

    Each side is SUITE:VARIANT, a stored baseline, or a file or folder of results in any format of
    `harness list importers`. Exit status: 0 passed, 1 regressed, 3 inconclusive, 4 not judged
    (unreadable or incomparable), 2 for a mistake in an option.
    """
    from harness.commands import check as checking

    if (candidate is None) == (model is None) or (model is None) != (suite is None):
        raise click.UsageError("give a CANDIDATE, or --model with --suite")
    request = checking.Request(candidate or str(model), baseline, claims, margins, confidence,
                               allow, report_dir, name, suite or "")  # fmt: skip
    checked, text = checking.check(request, store)
    with contextlib.suppress(BrokenPipeError):  # `| head` does not read it to its end
        click.echo(text)
    sys.exit(checked.exit_code)


@main.command()
@click.option("--report-dir", type=Path, required=True, help="Where `harness check` wrote.")
@click.option("--name", default="", help="Tells several checks of one pull request apart.")
def comment(report_dir: Path, name: str) -> None:
    """Write or update the check's comment on a GitHub pull request.

    GITHUB_TOKEN, GITHUB_REPOSITORY and GITHUB_EVENT_PATH say where, as GitHub's runners set them.
    """
    from harness.commands import comment as commenting

    click.echo(commenting.comment(report_dir, name))


@main.group()
def baseline() -> None:
    """Store a baseline in baselines/, or show one."""


@baseline.command(name="set")
@click.argument("name")
@click.argument("results", metavar="RESULTS")
@click.option("--store", type=Path, default=STORE, show_default=True, envvar="HARNESS_STORE")
def baseline_set(name: str, results: str, store: Path) -> None:
    """Write baselines/NAME.json from RESULTS: SUITE:VARIANT, or a file or folder of results."""
    from harness.commands import baseline as baselines

    click.echo(baselines.store(name, results, store))


@baseline.command(name="show")
@click.argument("name", required=False)
def baseline_show(name: str | None) -> None:
    """Show what the baseline NAME holds; without NAME, list all."""
    from harness.commands import baseline as baselines

    click.echo(baselines.show(name))


@main.command(name="import")
@click.argument("words", nargs=-1, required=True, metavar="[TOOL] PATH...")
@click.option(
    "--baseline",
    metavar="RUN",
    help="Run that the others are compared with; default: the first one, and of PEFT's method"
    " comparison the run of full fine-tuning, if there is exactly one.",
)
@click.option(
    "--test-rows",
    type=click.IntRange(min=1),
    default=1319,
    show_default=True,
    help="PEFT's method comparison: number of test rows, which the accuracies are shares of.",
)
@report_dir
@records_file
def import_(words: tuple[str, ...], baseline: str | None, test_rows: int, report_dir: Path | None,
            records: Path | None) -> None:  # fmt: skip
    """Report the results of other tools.

    Each PATH is a file or folder of results, in any format of `harness list importers`; TOOL names
    the format if its content does not tell. The statistics are those of our own reports. What such
    results lack (scores of examples, seeds) is said. The exit status is 4 if they cannot be read.
    """
    from harness.commands import imports

    click.echo(imports.import_results(words, baseline, test_rows, report_dir, records))


@main.group()
def judge() -> None:
    """Find out how far a suite's judge can be trusted.

    A judge is a scorer's labeller, as in `- pairwise: {labeller: ...}`. First `harness run SUITE`,
    so that there are answers to judge; then `label` some pairs, and `calibrate` the judge by them.
    Its report shows these credentials from then on.
    """


judge_name = click.option(
    "--judge", "name", metavar="NAME", help="Which judge, if the suite has several."
)
judge_data = click.option(
    "--data", "entry", metavar="NAME",
    help="Take the chosen and rejected answers of this entry of `data:`, not the suite's answers.",
)  # fmt: skip
draw_seed = click.option(
    "--seed", type=int, default=0, show_default=True, help="Draws the pairs and their order."
)


@judge.command()
@suite_options
@judge_name
@judge_data
@draw_seed
@click.option("--pairs", type=click.IntRange(min=1), default=60, show_default=True,
              help="How many pairs at most.")  # fmt: skip
@click.option("--filled", type=Path, multiple=True, metavar="FILE",
              help="Read this filled sheet; repeatable, one for each labeller.")  # fmt: skip
@click.option("--out", type=Path, help="Folder of the sheet; default: labels/<suite's name>.")
@click.option("--force", is_flag=True, help="Replace another sheet in the folder.")
def label(suite: str, store: Path, limit: int | None, only: str | None, settings: tuple[str, ...],
          name: str | None, entry: str | None, seed: int, pairs: int, filled: tuple[Path, ...],
          out: Path | None, force: bool) -> None:  # fmt: skip
    """Write a blinded sheet of pairs of answers, or read filled ones.

    The sheet is a page with keys (1, 2, t) that needs no network, and a CSV file. It names no
    models, and a seed shuffles it. With --filled, the labels are written to labels.jsonl beside it.
    """
    from harness.commands.judge import label as labelling
    from harness.commands.session import open_suite

    opened = open_suite(suite, settings, store, only, limit, ended=True)
    folder = out or labelling.FOLDER / opened.plan.suite.name
    if filled:
        click.echo(labelling.read_sheets(folder, filled, suite))
        return
    click.echo(labelling.write_sheet(opened, folder, judge=name, entry=entry, count=pairs,
                                     seed=seed, force=force))  # fmt: skip


@judge.command()
@suite_options
@judge_name
@judge_data
@draw_seed
@click.option("--labels", type=Path, metavar="FILE",
              help="Labels, as `harness judge label` writes them, or CSV or JSON lines of your own;"
              " default: the suite's own rule.")  # fmt: skip
@click.option("--rule", metavar="FILE.py:FUNCTION",
              help="Python that knows which answer is better, in place of the suite's own.",
)  # fmt: skip
@click.option("--pairs", type=click.IntRange(min=1), default=200, show_default=True,
              help="How many pairs at most, without --labels.")  # fmt: skip
@click.option("--runs", type=click.IntRange(min=1), default=2, show_default=True,
              help="Independent runs of the judge, for its repeatability.")  # fmt: skip
@click.option("--precision", type=click.FloatRange(0, 1, min_open=True), default=0.05,
              show_default=True, help="Say how many more labels reach plus or minus this.",
)  # fmt: skip
def calibrate(suite: str, store: Path, limit: int | None, only: str | None,
              settings: tuple[str, ...], name: str | None, entry: str | None, seed: int,
              labels: Path | None, rule: str | None, pairs: int, runs: int,
              precision: float) -> None:  # fmt: skip
    """Hold the suite's judge against labels.

    The table has its agreement, accuracy, Cohen's kappa and Krippendorff's alpha, on all pairs and
    by dimension and length; its position and verbosity bias; whether it repeats itself; and whether
    its verdicts fit a ranking. The report shows these credentials beside whatever it judges.
    """
    from harness.commands.judge import calibrate as calibrating
    from harness.commands.session import open_suite

    opened = open_suite(suite, settings, store, only, limit)
    click.echo(
        calibrating.calibrate(
            opened, judge=name, labels=labels, rule=rule, entry=entry, count=pairs, runs=runs,
            seed=seed, precision=precision,
        )
    )  # fmt: skip


@judge.command()
@suite_options
@judge_name
@judge_data
@draw_seed
@click.option("--labels", type=Path, metavar="FILE", help="Attack the pairs of this file.")
@click.option("--pairs", type=click.IntRange(min=1), default=10, show_default=True,
              help="How many pairs; each is attacked in every way.")  # fmt: skip
def attack(suite: str, store: Path, limit: int | None, only: str | None, settings: tuple[str, ...],
           name: str | None, entry: str | None, seed: int, labels: Path | None,
           pairs: int) -> None:  # fmt: skip
    """Try to win the suite's judge over by what an answer contains.

    Orders to the judge, forged verdicts, forged turns and delimiters, hidden text, very long and
    constant answers are put in the place of answers that it does not prefer. The table says how
    often each wins.
    """
    from harness.commands.judge import attack as attacking
    from harness.commands.session import open_suite

    opened = open_suite(suite, settings, store, only, limit)
    click.echo(attacking.attack(opened, judge=name, labels=labels, entry=entry, count=pairs,
                                seed=seed))  # fmt: skip


@main.command(name="list")
@click.argument("what", type=click.Choice(
    ["methods", "objectives", "scorers", "labellers", "executors", "pairs", "suites",
     "stages", "keys", "importers", "tasks"]))  # fmt: skip
@click.argument("name", required=False)
@click.option("--store", type=Path, default=STORE, show_default=True, envvar="HARNESS_STORE")
@click.option("--kind", help="stages: only of this kind.")
@click.option("--status", type=click.Choice(["ok", "failed"]), help="stages: only these.")
@click.option("--text", default="", help="stages: label or configuration contains this.")
def list_(what: str, name: str | None, store: Path, kind: str | None, status: str | None,
          text: str) -> None:  # fmt: skip
    """List components, suites, stages or keys.

    NAME shows one member with its options, one section of the keys, or the benchmark tasks with
    this in their names. `pairs` shows which methods and objectives can be combined.
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


@main.command()
def schema() -> None:
    """Print the JSON Schema of a suite.

    Editors use it by the line `# yaml-language-server: $schema=FILE` in a suite.
    """
    from harness.commands import keys

    click.echo(json.dumps(keys.schema(), indent=1))


@main.command()
@click.option("--store", type=Path, default=STORE, show_default=True, envvar="HARNESS_STORE")
def doctor(store: Path) -> None:
    """Check the machine, the libraries and the store.

    The exit status is 4 if one of them is not fit.
    """
    from harness.commands import doctor as checks

    text, good = checks.examine(store)
    click.echo(text)
    sys.exit(0 if good else 4)


@main.command()
@click.argument("file", type=Path, default=Path("suite.yaml"))
@click.option("--force", is_flag=True, help="Overwrite the file.")
def init(file: Path, force: bool) -> None:
    """Write a commented suite to start from."""
    from harness.commands import list as listing

    click.echo(listing.write_starter(file, force=force))


@main.command()
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@click.option("--store", type=Path, default=STORE, show_default=True, envvar="HARNESS_STORE")
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


if __name__ == "__main__":
    main()
