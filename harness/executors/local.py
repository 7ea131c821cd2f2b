"""This machine: one long-lived worker per slot."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from pydantic import Field

from harness.core.determinism import ENVIRONMENT
from harness.core.memory import of_this_machine
from harness.executors._gpus import gpus, none_shown, unusable
from harness.executors.base import Event, Executor, Finished, Handle, Note, Progress, Session
from harness.store.stage import Resources, Stage


class Local(Executor):
    """This machine. Each slot (a GPU, or a share of the CPU) keeps one worker process, so that
    torch is imported once. A stage that fails ends its own worker, and no other stage."""

    device_class: Literal["cpu", "cuda"] | None = None
    """`cpu` or `cuda`; default: cuda where CUDA_VISIBLE_DEVICES shows a GPU of this machine."""
    slots: int | None = Field(None, gt=0)
    """Stages at once; default: one a GPU, else one."""
    threads: int | None = Field(None, gt=0)
    """CPU threads of a worker; default: the cores divided by the slots."""

    def device(self) -> str:
        return self.device_class or ("cuda" if gpus() else "cpu")

    def capacity(self) -> int:
        return self.slots or (len(gpus()) if self.device() == "cuda" else 1)

    def room(self, stage: Stage, running: Collection[Stage]) -> bool:
        """A slot is free, and all together need no more GPUs or memory than there are. A stage that
        asks for more memory than the machine has runs alone."""
        if len(running) >= self.capacity():
            return False
        wanted = [each.resources for each in (stage, *running)]
        if sum(each.gpus for each in wanted) > len(gpus()):
            return False
        return not running or sum(each.memory_bytes for each in wanted) <= of_this_machine()

    def refuse(self, resources: Resources) -> str | None:
        there = min(1, len(gpus())) if self.device() == "cuda" else 0
        if self.device() == "cuda" and not there:
            return f"`device_class: cuda` asks for a GPU, and {none_shown()}"
        if self.device() == "cuda" and (reason := unusable()):
            return reason
        if resources.gpus > there:
            return f"stages ask for {resources.gpus} GPUs, and a slot of this machine has {there}"
        return None

    def start(self, log: Path) -> LocalSession:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        threads = self.threads or max(1, (cores or 1) // self.capacity())
        shown = gpus() if self.device() == "cuda" else []
        return LocalSession(self.capacity(), threads, shown, log)


class LocalSession(Session):
    """Worker processes over pipes. A line in is a stage's folder; a line out is an event."""

    def __init__(self, slots: int, threads: int, gpus: list[str], log: Path) -> None:
        self.threads, self.log = threads, log
        self._alive = os.pipe()
        """A pipe. Workers read its first end, and end when the second end is closed, as it is when
        this process ends."""
        self.slots: list[_Slot] = []
        self.events: queue.Queue[Event] = queue.Queue()
        for index in range(slots):
            self.slots.append(_Slot(index, gpus[index % len(gpus)] if gpus else None))

    def submit(self, folder: Path, resources: Resources) -> Handle:
        slot = self._idle()
        env = {**(ENVIRONMENT if resources.deterministic else {}), **resources.env}
        gone = slot.worker is None or slot.worker.poll() is not None
        if gone or slot.worn or slot.env != env:
            self._stop(slot)
            self._spawn(slot, env)
        pipe = slot.worker.stdin if slot.worker is not None else None
        # The stage may end before we return; the slot's handle is None again then.
        handle, slot.gpus = str(folder), resources.gpus
        slot.handle = handle
        try:
            if pipe is not None:
                pipe.write(f"{folder}\n")
                pipe.flush()
        except BrokenPipeError:
            pass  # the reader thread reports the worker's end
        return handle

    def wait(self, timeout: float) -> list[Event]:
        for slot in self.slots:
            if slot.worker is not None and slot.worker.poll() is not None:
                code, handle = slot.worker.returncode, self._bury(slot)
                if handle is not None:
                    self.events.put(Finished(handle, _death(code)))
        events: list[Event] = []
        try:
            events.append(self.events.get(timeout=timeout))
            while True:
                events.append(self.events.get_nowait())
        except queue.Empty:
            return events

    def close(self) -> None:
        for slot in self.slots:
            self._stop(slot)
        for end in self._alive:
            os.close(end)

    def _idle(self) -> _Slot:
        """A slot without a stage; where slots share GPUs, one whose GPU other stages need least."""
        needed = Counter[str | None]()
        for slot in self.slots:
            needed[slot.gpu] += slot.gpus if slot.handle is not None else 0
        idle = [slot for slot in self.slots if slot.handle is None]
        return min(idle, key=lambda slot: needed[slot.gpu])

    def _spawn(self, slot: _Slot, env: dict[str, str]) -> None:
        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        # A worker for the CPU sees no GPU: libraries use one that they see (PEFT loads adapters
        # to it).
        gpu = {"CUDA_VISIBLE_DEVICES": slot.gpu or ""}
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            slot.worker = subprocess.Popen(
                [sys.executable, "-m", "harness.worker", "--serve", "--alive", str(self._alive[0])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **threads, **gpu, **env},
                pass_fds=[self._alive[0]],
                process_group=0,  # with all that it starts; and a Ctrl-C is for this process alone
            )
        slot.env, slot.worn = dict(env), False
        slot.reader = threading.Thread(target=self._read, args=(slot, slot.worker), daemon=True)
        slot.reader.start()

    def _read(self, slot: _Slot, worker: subprocess.Popen[str]) -> None:
        assert worker.stdout is not None
        with worker.stdout as lines:
            for line in lines:
                self._pass_on(slot, line)

    def _pass_on(self, slot: _Slot, line: str) -> None:
        """Put an event of the slot's stage into the queue."""
        try:
            event = json.loads(line)
        except ValueError:
            return  # a library's C code that writes to stdout
        handle = slot.handle
        if handle is None or event.get("folder") != handle:
            return
        if event["event"] == "progress":
            self.events.put(Progress(handle, event["done"], event["total"], event["note"]))
        elif event["event"] == "note":
            self.events.put(Note(handle, event["text"]))
        else:
            # A failed stage may have left memory in use, or a device that no longer answers.
            slot.worn, slot.handle = not event["ok"], None
            self.events.put(Finished(handle, event.get("error")))

    def _stop(self, slot: _Slot) -> None:
        worker = slot.worker
        if worker is None:
            return
        if worker.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                worker.stdin.close()  # an idle worker ends by itself
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(timeout=5 if slot.handle is None else 0)
        self._bury(slot)

    def _bury(self, slot: _Slot) -> Handle | None:
        """End the slot's worker with every process that it started.

        Returns:
            The handle of the stage that it had not finished; None if it had finished all.
        """
        worker, slot.worker = slot.worker, None
        assert worker is not None
        # The worker's guard lives until now, so the number of its group is still its own.
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: only zombies left
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        if slot.reader is not None:
            slot.reader.join(timeout=1)  # a process that left the group may keep the pipe open
        if worker.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                worker.stdin.close()
        handle, slot.handle = slot.handle, None
        return handle


class _Slot:
    def __init__(self, index: int, gpu: str | None) -> None:
        self.index, self.gpu = index, gpu
        self.worker: subprocess.Popen[str] | None = None
        self.reader: threading.Thread | None = None
        self.handle: Handle | None = None
        self.gpus = 0
        """GPUs that its stage asked for."""
        self.env: dict[str, str] = {}
        self.worn = False
        """True if the next stage needs another worker."""


def _death(code: int) -> dict[str, str]:
    """The error of a worker that ended without a last event, from its exit status."""
    if code == -signal.SIGKILL:
        return {
            "reason": "worker killed",
            "message": "the worker was killed (SIGKILL): by someone, or by the system when host"
            " memory ran out; `dmesg` tells which",
        }
    name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return {"reason": "worker died", "message": f"the worker ended with {name}; see the run's log"}
