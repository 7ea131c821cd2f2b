"""The commands that read results: compare, check, comment, baseline and import."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

from harness.cli.options import records_file, report_dir, store_option


@click.command()
@click.argument("a", metavar="VARIANT")
@click.argument("b", metavar="BASELINE")
@store_option
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


class _Check(click.Command):
    """Removes an earlier verdict also where an option of this check is wrong."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        words = list(args[1] if len(args) > 1 else kwargs["args"])
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError:
            from harness.commands import check as checking

            for place, word in enumerate(words):
                name, equals, value = word.partition("=")
                if name == "--report-dir" and (equals or words[place + 1 : place + 2]):
                    checking.discard(Path(value if equals else words[place + 1]))
            raise


@click.command(cls=_Check)
@click.argument("candidate", metavar="[CANDIDATE]", required=False)
@click.option("--model", metavar="MODEL",
              help="Instead of CANDIDATE: a folder with an adapter or a model, or its name on the"
              " hub (NAME or NAME@REVISION), which is scored first as --suite scores its"
              " variants.")  # fmt: skip
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
@store_option
def check(candidate: str | None, model: str | None, suite: str | None, baseline: str,
          claims: Path | None, margins: tuple[str, ...], confidence: float, allow: tuple[str, ...],
          report_dir: Path | None, name: str, store: Path) -> None:  # fmt: skip
    """Judge a candidate by a baseline: may it ship?

    Each side is SUITE:VARIANT, a stored baseline, or a file or folder of results in any format of
    `harness list importers`. Exit status: 0 passed, 1 regressed, 3 inconclusive, 4 not judged
    (unreadable or incomparable), 2 for a mistake in an option.
    """
    from harness.commands import check as checking

    if (candidate is None) == (model is None) or (model is None) != (suite is None):
        if report_dir is not None:
            checking.discard(report_dir)
        raise click.UsageError("give a CANDIDATE, or --model with --suite")
    request = checking.Request(candidate or model or "", baseline, claims, margins, confidence,
                               allow, report_dir, name, suite or "")  # fmt: skip
    checked, text = checking.check(request, store)
    with contextlib.suppress(BrokenPipeError):  # `| head` does not read it to its end
        click.echo(text)
    sys.exit(checked.exit_code)


@click.command()
@click.option("--report-dir", type=Path, required=True, help="Where `harness check` wrote.")
@click.option("--name", default="", help="Tells several checks of one pull request apart.")
def comment(report_dir: Path, name: str) -> None:
    """Write or update the check's comment on a GitHub pull request.

    GITHUB_TOKEN, GITHUB_REPOSITORY and GITHUB_EVENT_PATH say where, as GitHub's runners set them.
    The exit status is 4 if the folder holds no check.
    """
    from harness.commands import comment as commenting

    click.echo(commenting.comment(report_dir, name))


@click.group()
def baseline() -> None:
    """Store a baseline in baselines/, or show one."""


@baseline.command(name="set")
@click.argument("name")
@click.argument("results", metavar="RESULTS")
@store_option
def baseline_set(name: str, results: str, store: Path) -> None:
    """Write baselines/NAME.json from RESULTS: SUITE:VARIANT, or a file or folder of results.

    The exit status is 4 if they cannot be read.
    """
    from harness.commands import baseline as baselines

    click.echo(baselines.store(name, results, store))


@baseline.command(name="show")
@click.argument("name", required=False)
def baseline_show(name: str | None) -> None:
    """Show what the baseline NAME holds; without NAME, list all.

    The exit status is 4 if it cannot be read.
    """
    from harness.commands import baseline as baselines

    click.echo(baselines.show(name))


@click.command(name="import")
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
