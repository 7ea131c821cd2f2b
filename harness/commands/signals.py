"""SIGTERM and SIGHUP end a command in the same way as Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_ASKED = (signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end.

    Attributes:
        number: the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def as_interrupts() -> Iterator[None]:
    """A context in which SIGTERM and SIGHUP raise `Stopped`.

    After the first of them, only Ctrl-C can interrupt the cleaning up. A signal that the process
    ignores (SIGHUP under nohup) stays ignored. Only the main thread can handle signals; in another
    thread the context does nothing.
    """
    heard = [number for number in _ASKED if signal.getsignal(number) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        heard = []

    def stop(number: int, frame: FrameType | None) -> None:
        for each in heard:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    for number in heard:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_DFL)


def exit_status(error: KeyboardInterrupt) -> int:
    """The exit status after an interrupt: 128 plus the signal's number, as in shells."""
    return 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)
