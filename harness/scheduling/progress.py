"""The progress of a run for a person: plain lines, and one live line on a terminal."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import TextIO

from harness.core import text as safe
from harness.core.text import number_of
from harness.store.kind import kind_of
from harness.store.rows_used import rows_used
from harness.store.stage import Record, Stage

PLAIN_SECONDS = 60.0
"""Without a terminal, a running stage writes a line every so many seconds."""


class ConsoleReporter:
    """Writes one line for each finished stage, with its headline number and cost. While a stage
    runs, it shows a live line on a terminal, or else writes a plain line every minute. All lines
    begin with one counter, `[stages ended/stages of the run]`.

    Args:
        clock: a monotonic clock in seconds; tests pass their own.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.total = self.done = 0
        self._clock = clock
        self._pending: dict[str, Stage] = {}
        self._known: set[str] = set()
        self._took: dict[str, list[float]] = {}
        self._began: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._noted: dict[str, tuple[str, float]] = {}

    def begin(self, pending: list[Stage], cached: int) -> None:
        """Say how many stages of each kind will run. A run of several parts says it once; later
        what came to be known since, as after trials. The counter goes on."""
        self.total = self.done + len(pending)
        self._pending = {s.key: s for s in pending}
        new = [s for s in pending if s.key not in self._known]
        self._known.update(s.key for s in new)
        kinds = Counter(stage.kind for stage in new)
        parts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        if self.done:
            if new:
                more = number_of(len(new), "more stage")
                self._line(f"{more} to run: {parts}; {self.total} in all")
        elif new:
            reused = f"; {cached} cached" if cached else ""
            self._line(f"{number_of(len(new), 'stage')} to run: {parts}{reused}")
        elif not pending:
            self._line(f"everything is cached ({number_of(cached, 'stage')})")

    def started(self, stage: Stage) -> None:
        """Show on the live line that a stage begins."""
        self._began[stage.key] = self._told[stage.key] = self._clock()
        self._live(f"{stage.kind} {stage.label}")

    def progress(self, stage: Stage, done: int, total: int, note: str) -> None:
        """Show how far a stage is, and how much time it and the run have left."""
        share = done / total if total else 0.0
        now = self._clock()
        spent = now - self._began[stage.key]
        left = f", {_time(spent / share - spent)} left" if share > 0.02 else ""
        text = f"{stage.kind} {stage.label}: {done}/{total} {note}{left}"
        if self.live:
            self._live(text)
        elif now - self._told[stage.key] >= PLAIN_SECONDS:
            self._told[stage.key] = now
            self._line(f"{' ' * len(self._count())} {text}")

    def note(self, stage: Stage, text: str) -> None:
        """Write a message of a running stage at once; if it is repeated, write it again at most
        once a minute."""
        now, (known, when) = self._clock(), self._noted.get(stage.key, ("", 0.0))
        if text != known or now - when >= PLAIN_SECONDS:
            self._noted[stage.key] = text, now
            self._line(f"{' ' * len(self._count())} {stage.kind} {stage.label}: {text}")

    def finished(self, stage: Stage, record: Record) -> None:
        """Write the line of a finished stage."""
        self.done += 1
        self._pending.pop(stage.key, None)
        if record.ok:
            self._took.setdefault(stage.kind, []).append(record.cost.get("seconds", 0.0))
        count = self._count()
        if record.ok:
            seconds = _time(record.cost.get("seconds", 0.0))
            headline = (kind_of(record.kind).headline(record), _rows(record))
            summary = "; ".join(filter(None, headline))
            self._line(f"{count} {stage.kind:<13} {stage.label:<36} {summary}  {seconds}")
            return
        error = record.error or {}
        if error.get("skipped"):  # the failure itself was told where it happened
            self._line(f"{count} {stage.kind:<13} {stage.label:<36} {error['skipped']}")
            return
        message = error.get("message", "").split("\n")
        self._line(f"{count} {stage.kind:<13} {stage.label:<36} FAILED: {message[0]}")
        for line in message[1:]:
            self._line(f"      {line.strip()}")

    def _count(self) -> str:
        return f"[{self.done:>{len(str(self.total))}}/{self.total}]"

    def _live(self, text: str) -> None:
        if self.live:
            shown = f"{self._count()} {text}  ({self._left()})"
            self.stream.write(f"\r\033[K{safe.line(shown)[:118]}")
            self.stream.flush()

    def _left(self) -> str:
        """How much time the run has left, by the predictions, or else by the median of the stages
        of the same kind that have finished in this run."""
        seconds, unknown = 0.0, 0
        for stage in self._pending.values():
            took = self._took.get(stage.kind)
            expected = stage.expected_seconds or (median(took) if took else None)
            seconds += expected or 0.0
            unknown += expected is None and kind_of(stage.kind).long
        if unknown:
            return "whole run: time not known yet"
        return f"whole run: about {_time(seconds)} left"

    def _line(self, text: str) -> None:
        if self.live:
            self.stream.write("\r\033[K")
        self.stream.write(f"{safe.visible(text.rstrip())}\n")
        self.stream.flush()


def _rows(record: Record) -> str:
    """How many rows were used and why the others were not; empty if all of them were used."""
    used = rows_used(record)
    missing = used is not None and (used.used < used.given or used.cut)
    return used.told() if used is not None and missing else ""


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 90:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
