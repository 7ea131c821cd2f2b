"""Credentials of judges in the store, found by what the judge is and which labels it was held to.

They lie under `<store>/credentials/<identity of the judge>/`. `harness gc` leaves them: they are
small, and labels are dear.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from harness.comparison.credentials import FORMAT, Credentials
from harness.comparison.judge_attacks import AttackRecord
from harness.core.files import write_atomic
from harness.store.places import CREDENTIALS

_LABELS, _ATTACKS = "labels", "attacks"
Kept = TypeVar("Kept", bound=BaseModel)


def keep(root: Path, identity: str, digest: str, kept: Credentials | AttackRecord) -> Path:
    """Write credentials, or the success of attacks, of a judge into a store.

    Args:
        root: the store's folder.
        identity: of the judge.
        digest: of the labels, or of the pairs that were attacked.
    """
    kind = _ATTACKS if isinstance(kept, AttackRecord) else _LABELS
    folder = _folder(root, identity)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}-{digest[:16]}.json"
    write_atomic(path, kept.model_dump_json(indent=1))
    return path


def known_credentials(root: Path, identity: str) -> list[Credentials]:
    """The credentials of a judge, those by most labels first."""
    kept = [c for c in _read(root, identity, _LABELS, Credentials) if c.format == FORMAT]
    return sorted(kept, key=lambda made: (-made.labelled, made.source))


def known_attacks(root: Path, identity: str) -> list[AttackRecord]:
    """The attacks on a judge, those on most pairs first."""
    kept = _read(root, identity, _ATTACKS, AttackRecord)
    return sorted(kept, key=lambda made: -made.pairs)


def _folder(root: Path, identity: str) -> Path:
    return root / CREDENTIALS / identity[:32]


def _read(root: Path, identity: str, kind: str, model: type[Kept]) -> list[Kept]:
    """What can be read; a file of another version of this package is as good as none."""
    kept = []
    for path in sorted(_folder(root, identity).glob(f"{kind}-*.json")):
        try:
            kept.append(model.model_validate_json(path.read_text(encoding="utf-8")))
        except ValidationError:
            continue
    return kept
