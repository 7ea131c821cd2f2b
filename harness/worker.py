"""The work half's only door: `python -m harness.worker FOLDER`, or `--serve` for many.

A folder holds stage.json; the worker runs what it says and commits record.json, whatever happens
in between: a failure is data in the record.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from harness import __version__
from harness.core.determinism import float32_restored, set_deterministic
from harness.core.errors import HarnessError, boundary, why
from harness.core.files import digest_file
from harness.core.measure import freed_at_the_end, machine
from harness.stages.base import WORK, Job
from harness.store.lock import HOLDER, LOCK, locked
from harness.store.made_by import CODE, code_behind
from harness.store.stage import RECORD, SPEC, Output, Record, read_record, write_record


def run_stage(folder: Path, emit: Any, run: int | None = None) -> Record:
    """Run the stage in `folder` under its lock, unless another run has just finished it.

    Args:
        emit: receives progress events, as JSON-like mappings.
        run: process id of the run that asked for it; default: this process.
    """

    def waiting(text: str) -> None:
        emit({"event": "note", "text": text})

    with locked(folder, run or os.getpid(), waiting):
        record = read_record(folder)
        if record is not None and record.ok and _whole(folder, record):
            return record  # another run has finished it since this one was planned
        with freed_at_the_end():
            return _run(folder, emit)


def _whole(folder: Path, record: Record) -> bool:
    """Whether every output is there as recorded."""
    return all(
        (folder / name).is_file() and digest_file(folder / name) == output.sha256
        for name, output in record.outputs.items()
    )


def _run(folder: Path, emit: Any) -> Record:
    _clear(folder)
    job = Job(folder, emit)
    started, clock = time.time(), time.monotonic()
    set_deterministic(job.resources.deterministic)
    error: dict[str, str] | None = None
    metrics: dict[str, Any] = {}
    try:
        with float32_restored(), boundary(f"{job.spec['kind']} {job.spec['label']}".strip()):
            metrics = job.config.run(job)
            with job.ledger.phase("commit"):
                outputs = _digests(folder)
    except HarnessError as failure:
        with contextlib.suppress(OSError):  # the log may lie on the disk that is full
            traceback.print_exc()
        error = {"reason": failure.reason, "message": str(failure)}
        trace = "".join(traceback.format_exception(failure.__cause__ or failure))
        error["trace"] = trace[-4000:]
        outputs = {}
    record = Record(
        key=job.spec["key"],
        kind=job.spec["kind"],
        label=job.spec["label"],
        status="failed" if error else "ok",
        config=job.spec["config"],
        inputs={role: source["key"] for role, source in job.spec["inputs"].items()},
        outputs=outputs,
        metrics=metrics,
        cost={
            "peak_memory": job.ledger.peak(),
            **job.cost,
            "seconds": time.monotonic() - clock,
            "phases": job.ledger.phases,
            **({"joules": job.ledger.joules} if job.ledger.joules else {}),
            "peaks": job.ledger.peaks,
            "predicted": job.spec["predicted"],
        },
        provenance={
            **job.provenance,
            **machine(),
            CODE: code_behind(job.spec["kind"], job.spec["config"]),
            "waited": job.ledger.waited(),
            "harness": __version__,
            "started": started,
            "finished": time.time(),
        },
        error=error,
    )
    if not error:
        shutil.rmtree(folder / WORK, ignore_errors=True)
    write_record(folder, record)
    return record


def _clear(folder: Path) -> None:
    """Remove what an earlier, unfinished try left, but for its checkpoints."""
    for path in folder.iterdir():
        if path.name in (SPEC, WORK, LOCK, HOLDER) or path.suffix == ".tmp":
            continue  # .tmp: another run is just writing stage.json
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _digests(folder: Path) -> dict[str, Output]:
    """Digest every output; files of the folder that are not outputs are left out."""
    outputs = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        internal = (
            name in (SPEC, RECORD, LOCK, HOLDER) or name.startswith(WORK) or path.suffix == ".tmp"
        )
        if path.is_file() and not internal:
            outputs[name] = Output(sha256=digest_file(path), bytes=path.stat().st_size)
    return outputs


@contextlib.contextmanager
def _own_stdout() -> Iterator[TextIO]:
    """Keep the real stdout for events; whatever libraries print goes to stderr (the run's log)."""
    events = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    yield events


def serve(source: TextIO, events: TextIO) -> None:
    """Run the stages whose folders come in, a line each, until the input ends."""
    run = os.getppid()
    for line in source:
        folder = Path(line.strip())

        def emit(event: Mapping[str, Any], folder: Path = folder) -> None:
            # Whoever listened may have been killed; the stage goes on, and its record stays true.
            with contextlib.suppress(BrokenPipeError):
                events.write(json.dumps({**event, "folder": str(folder)}) + "\n")

        ok, error = False, None
        try:
            ok = run_stage(folder, emit, run).ok
        except OSError as failure:  # no record could be written: a full disk, a folder taken away
            full = failure.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "disk full" if full else "record not written"
            error = {"reason": reason, "message": f"{folder}: {why(failure)}"}
        emit({"event": "finished", "ok": ok, "error": error})


def _guard(alive: int) -> subprocess.Popen[bytes]:
    """A process beside this one that kills this one's whole process group, itself included, once
    the other end of a pipe is closed: as the run ends, even by SIGKILL.

    A thread here would have to wait while C code holds Python's lock, and the kernel's own way
    (prctl) is Linux's alone and leaves what this process started.

    Args:
        alive: the pipe's end to read from.
    """
    command = ["/bin/sh", "-c", "read _; kill -9 0"]
    guard = subprocess.Popen(
        command, stdin=alive, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(alive)
    return guard


def main(arguments: list[str] | None = None) -> int:
    """Command line of a worker."""
    parser = argparse.ArgumentParser(prog="python -m harness.worker", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="a stage's folder, with stage.json")
    parser.add_argument("--serve", action="store_true", help="read folders from stdin")
    parser.add_argument("--alive", type=int, metavar="FD", help="end when this pipe is closed; only"
                        " in a process group of its own")  # fmt: skip
    options = parser.parse_args(arguments)
    guard = None if options.alive is None else _guard(options.alive)  # noqa: F841, kept alive
    # A run's report of progress goes to its events; these bars would only fill the log.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with _own_stdout() as events:
        if options.serve:
            serve(sys.stdin, events)
            return 0
        if options.folder is None or not (options.folder / SPEC).is_file():
            parser.error("give a stage's folder, with stage.json in it, or --serve")
        record = run_stage(options.folder.resolve(), lambda event: None)
        return 0 if record.ok else 1


if __name__ == "__main__":
    sys.exit(main())
