"""The commands about a suite's judge: label, calibrate and attack."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import suite_options


@click.group()
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
