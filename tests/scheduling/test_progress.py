"""What a person sees while a run goes on."""

from __future__ import annotations

import io

from harness.scheduling.progress import ConsoleReporter
from harness.store.stage import Stage


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
