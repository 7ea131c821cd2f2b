"""What a stage's code sees of its stage."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from harness.core.errors import StageFailed
from harness.core.measure import Ledger
from harness.store.stage import FOLDER_NAME, SPEC, Record, read_record

WORK = "work"
"""Folder of a stage's own checkpoints; gone when the stage is done."""
_PROGRESS_SECONDS = 0.5


class Job:
    """What a stage's code sees: its spec, its inputs' folders, and a place for outputs.

    Attributes:
        folder: outputs are written here; everything but `work/` and the log is digested at the end.
        ledger: phases of the stage and the seconds each took.
    """

    def __init__(self, folder: Path, emit: Any) -> None:
        spec = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        self.folder, self.spec, self._emit = folder, spec, emit
        self.config: dict[str, Any] = spec["config"]
        self.locators: dict[str, str] = spec["locators"]
        self.resources: dict[str, Any] = spec["resources"]
        self.ledger = Ledger()
        self.cost: dict[str, Any] = {}
        self.provenance: dict[str, Any] = {}
        self._last = 0.0

    @property
    def work(self) -> Path:
        """A folder that outlives a kill and is removed when the stage is done."""
        path = self.folder / WORK
        path.mkdir(exist_ok=True)
        return path

    def has(self, role: str) -> bool:
        """Whether the stage has an input of this role."""
        return role in self.spec["inputs"]

    def input(self, role: str) -> Path:
        """The folder of a finished input stage."""
        source = self.spec["inputs"][role]
        return folder_of(self.folder.parents[1], source["kind"], source["key"])

    def input_record(self, role: str) -> Record:
        """The record of an input stage."""
        record = read_record(self.input(role))
        if record is None or not record.ok:
            raise StageFailed("input missing", f"input '{role}' is not there or is damaged")
        return record

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Tell how far the stage is; calls that come too fast are dropped."""
        now = time.monotonic()
        if done >= total or now - self._last > _PROGRESS_SECONDS:
            self._last = now
            self._emit({"event": "progress", "done": done, "total": total, "note": note})

    def note(self, text: str) -> None:
        """Tell a person something of the stage at once."""
        self._emit({"event": "note", "text": text})


def folder_of(root: Path, kind: str, key: str) -> Path:
    """The folder of a stage below a store's root."""
    return root / kind / key[:FOLDER_NAME]
