"""`harness gc`: removes stages that no suite uses, and checkpoints of stages that are kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from harness.core.errors import HarnessError
from harness.core.text import number_of
from harness.planning.gguf import converted_in
from harness.planning.planner import plan
from harness.store.stage import read_record
from harness.store.store import Store
from harness.suite.suite import load_suite


def collect(
    suites: Sequence[str],
    root: Path,
    older_than: float | None,
    checkpoints: bool,
    *,
    dry_run: bool,
) -> str:
    """Remove stages, and models converted from GGUF, that none of these suites uses.

    A stage that another run has locked is kept.

    Args:
        older_than: remove only stages that finished more than this many days ago.
        checkpoints: also remove the weights of the stages that are kept.
        dry_run: only report what would be removed.

    Raises:
        HarnessError: a run is using the store; or neither a suite nor an age is given, so that
            every stage would be removed.
    """
    if not root.is_dir():
        raise HarnessError(f"there is no store at {root}")
    if not suites and older_than is None and not checkpoints:
        raise HarnessError(
            "this would remove every stage",
            fix="name the suites to keep, give --older-than DAYS, or remove the folder yourself",
        )
    store = Store(root)
    live = store.runs()
    if live and not dry_run:
        raise HarnessError(
            f"{number_of(live, 'run is', 'runs are')} using {root}; this would remove"
            " stages that they need",
            fix="wait until they have ended",
        )
    failed = store.failures()  # to plan, and so keep, also the trials that followed a failed one
    plans = [plan(load_suite(name), store, known=failed) for name in suites]
    stages = [s for planned in plans for s in (*planned.groundwork(), *planned.stages())]
    kept = {stage.path(store.root) for stage in stages}
    kept |= {Path(info.source) for planned in plans for info in planned.models.values()}
    removed = freed = released = 0
    for folder in sorted([*store.folders(), *converted_in(store)]):
        keep = folder in kept or (not suites and older_than is None)
        if not keep and _old(folder, older_than):
            removed += 1
            freed += _remove(store, folder, dry_run=dry_run)
        elif checkpoints and folder.parent.name == "train":
            size = _release(store, folder, dry_run=dry_run)
            released, freed = released + bool(size), freed + size
    store.refresh()
    verb = "would free" if dry_run else "freed"
    return (
        f"{verb} {freed / 2**20:.1f} MiB: {number_of(removed, 'stage')} removed,"
        f" {number_of(released, 'checkpoint')} released"
    )


def _old(folder: Path, older_than: float | None) -> bool:
    if older_than is None:
        return True
    record = read_record(folder)
    finished = record.provenance.get("finished", 0.0) if record else folder.stat().st_mtime
    return bool(time.time() - finished > older_than * 86400)


def _remove(store: Store, folder: Path, *, dry_run: bool) -> int:
    try:
        with FileLock(folder / "lock", timeout=0):
            size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
            return size if dry_run else store.remove(folder)
    except Timeout:
        return 0


def _release(store: Store, folder: Path, *, dry_run: bool) -> int:
    record = read_record(folder)
    if record is None or not record.ok:
        return 0
    names = [n for n, o in record.outputs.items() if n.startswith("checkpoint/") and not o.released]
    if dry_run:
        return sum(record.outputs[name].bytes for name in names)
    try:
        with FileLock(folder / "lock", timeout=0):
            return store.release(folder, names)
    except Timeout:
        return 0
