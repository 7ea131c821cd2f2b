"""What a person sees while a run goes on."""

from __future__ import annotations

import io

from harness.commands.run import run_stages
from harness.scheduling.progress import ConsoleReporter
from harness.store.stage import Record, Stage
from tests.conftest import Workspace

SFT = {"sft": {"max_steps": 1, "learning_rate": 1e-2, "max_length": 64}}


def stage() -> Stage:
    return Stage(kind="train", label="lora-sft", config={}, inputs={})


def test_without_a_terminal_a_long_stage_writes_a_line_a_minute() -> None:
    stream, now = io.StringIO(), [0.0]
    reporter = ConsoleReporter(stream, clock=lambda: now[0])
    reporter.begin([stage()], cached=0)
    reporter.started(stage())
    for step in range(1, 91):
        now[0] = 2.0 * step
        reporter.progress(stage(), step, 100, "loss 1.500")
    lines = [line.strip() for line in stream.getvalue().splitlines()[1:]]
    assert lines == [
        "train lora-sft: 30/100 loss 1.500, 2 min 20 s left",
        "train lora-sft: 60/100 loss 1.500, 80 s left",
        "train lora-sft: 90/100 loss 1.500, 20 s left",
    ]


def test_a_short_stage_writes_nothing_before_it_ends() -> None:
    stream = io.StringIO()
    reporter = ConsoleReporter(stream, clock=lambda: 5.0)
    reporter.begin([stage()], cached=0)
    reporter.started(stage())
    reporter.progress(stage(), 1, 2, "loss 1.500")
    assert len(stream.getvalue().splitlines()) == 1


def test_one_counter_goes_through_all_parts_of_a_run(workspace: Workspace) -> None:
    """Reading rows, measuring them, and all else: no part counts from the beginning again."""
    stream = io.StringIO()
    workspace.write(scorers=["exact_match"], matrix={"method": ["full"], "objective": [SFT]})
    run_stages(workspace.open(), ConsoleReporter(stream))
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if "to run" in line] == lines[:1]
    total = int(lines[0].split()[0])
    counted = [line[: line.index("]") + 1] for line in lines[1:]]
    assert counted == [f"[{n:>{len(str(total))}}/{total}]" for n in range(1, total + 1)]


def test_stages_that_come_to_be_known_are_added_to_the_counter() -> None:
    stream = io.StringIO()
    reporter = ConsoleReporter(stream, clock=lambda: 0.0)
    first, later = (Stage("train", {"n": n}, label=str(n)) for n in range(2))
    for part in (first, later):
        reporter.begin([part], cached=3)
        reporter.started(part)
        metrics = {"steps": 1}
        record = Record(key=part.key, kind="train", status="ok", config={}, metrics=metrics)
        reporter.finished(part, record)
    reporter.begin([], cached=5)
    told, one, more, two = stream.getvalue().splitlines()
    assert (told, more) == (
        "1 stage to run: 1 train; 3 cached", "1 more stage to run: 1 train; 2 in all",
    )  # fmt: skip
    assert (one[:5], two[:5]) == ("[1/1]", "[2/2]")
