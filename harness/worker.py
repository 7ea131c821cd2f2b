"""The work half's only door: `python -m harness.worker FOLDER`, or `--serve` for many.

A folder holds stage.json; the worker runs what it says and commits record.json, whatever happens
in between: a failure is data in the record.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from harness import __version__
from harness.errors import HarnessError, boundary
from harness.job import WORK, Job
from harness.measure import machine, peak_memory, reset_peak
from harness.stage import RECORD, SPEC, Output, Record, digest_file, read_record, write_record


def run_stage(folder: Path, emit: Any) -> Record:
    """Run the stage in `folder` under its lock, unless another run has just finished it."""
    lock = FileLock(folder / "lock")
    while True:
        try:
            lock.acquire(timeout=2)
            break
        except Timeout:
            emit({"event": "progress", "done": 0, "total": 0, "note": "another run works on it"})
    with lock:
        record = read_record(folder)
        if record is not None and record.ok and _whole(folder, record):
            return record  # another run has finished it since this one was planned
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
    reset_peak()
    error: dict[str, str] | None = None
    metrics: dict[str, Any] = {}
    try:
        stage = importlib.import_module(f"harness.stages.{job.spec['kind']}")
        with boundary(f"{job.spec['kind']} {job.spec['label']}".strip()):
            metrics = stage.run(job)
            with job.ledger.phase("commit"):
                outputs = _digests(folder)
    except HarnessError as failure:
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
        config=job.config,
        inputs={role: source["key"] for role, source in job.spec["inputs"].items()},
        outputs=outputs,
        metrics=metrics,
        cost={
            **job.cost,
            "seconds": time.monotonic() - clock,
            "phases": job.ledger.phases,
            "peak_memory": peak_memory(),
            "predicted": job.spec["predicted"],
        },
        provenance={
            **job.provenance,
            **machine(),
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
        if path.name in (SPEC, WORK, "lock") or path.suffix == ".tmp":
            continue  # .tmp: another run is just writing stage.json
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _digests(folder: Path) -> dict[str, Output]:
    """Digest every output; files of the folder that are not outputs are left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        own = name in (SPEC, RECORD, "lock") or name.startswith(WORK) or path.suffix == ".tmp"
        if path.is_file() and not own:
            found[name] = Output(sha256=digest_file(path), bytes=path.stat().st_size)
    return found


@contextlib.contextmanager
def _own_stdout() -> Iterator[TextIO]:
    """Keep the real stdout for events; whatever libraries print goes to stderr (the run's log)."""
    events = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    yield events


def serve(source: TextIO, events: TextIO) -> None:
    """Run the stages whose folders come in, a line each, until the input ends."""
    for line in source:
        folder = Path(line.strip())

        def emit(event: Mapping[str, Any], folder: Path = folder) -> None:
            # Whoever listened may have been killed; the stage goes on, and its record stays true.
            with contextlib.suppress(BrokenPipeError):
                events.write(json.dumps({**event, "folder": str(folder)}) + "\n")

        error = None
        try:
            run_stage(folder, emit)
        except OSError as failure:  # no record could be written: a full disk, a folder taken away
            error = {"reason": "record not written", "message": f"{folder}: {failure}"}
        emit({"event": "finished", "error": error})


def main(arguments: list[str] | None = None) -> int:
    """Command line of a worker."""
    parser = argparse.ArgumentParser(prog="python -m harness.worker", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="a stage's folder, with stage.json")
    parser.add_argument("--serve", action="store_true", help="read folders from stdin")
    options = parser.parse_args(arguments)
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
