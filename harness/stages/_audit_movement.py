"""Findings on what training moved: every trainable tensor, nothing frozen, and the logits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.core.errors import StageFailed
from harness.objectives._trl.movement import ELEMENTS
from harness.objectives.base import Evidence

Check = dict[str, str]
_MOVED = "training moved every trainable tensor"
_CHANGED = "the trained model differs from its base"
FROM_START = "it differs from its start"
_MOVEMENT = (_MOVED, ELEMENTS, _CHANGED, FROM_START)


def moved(
    start: Mapping[str, str],
    end: Mapping[str, str],
    evidence: Evidence | None = None,
    *,
    rounded: bool = False,
) -> Check:
    """Every trainable tensor is another than it was, but those that no step could move yet.

    Args:
        start, end: name -> fingerprint.
        evidence: as of the step whose weights these are.
        rounded: the suite asks for training in a short format, whose rounding may hold some still.
    """
    still = sorted(name for name in end if end[name] == start.get(name))
    excuses = {name: _excuse(name, evidence) for name in still}
    wrong = [name for name in still if not excuses[name]]
    detail = f"{len(end) - len(still)} of {len(end)} trainable tensors moved"
    for reason, count in Counter(filter(None, excuses.values())).items():
        detail += f"; {count} could not: {reason}"
    if wrong:
        detail += f"; not {wrong[0]}"
    status = "failed" if wrong or len(still) == len(end) else "passed"
    if status == "passed" and _UNTOLD in excuses.values():
        status = "skipped"
    if status == "failed" and still and not wrong:
        detail += (
            ": the rates of its steps were too small, as those of a warm-up are; take more steps"
            " (max_steps, num_train_epochs), a smaller warmup_ratio or a higher learning_rate, and"
            " where an early checkpoint was kept a larger eval_steps"
        )
    if status == "failed" and rounded and len(still) < len(end):
        status, detail = "skipped", f"{detail}, which the rounding of its dtype may hold still"
    return {"check": _MOVED, "status": status, "detail": detail}


_UNTOLD = "how large its optimizer's steps are cannot be told"


def _excuse(name: str, evidence: Evidence | None) -> str:
    """Why a trainable tensor may stand still; nothing where it may not."""
    if evidence is None or name in evidence.dues:
        return ""
    if name in evidence.behind_gates:
        return "no gradient had come to them, as at LoRA's first step, where B is 0"
    if name not in evidence.reached:
        return ""
    if name in evidence.untold:
        return _UNTOLD
    return "every step was smaller than what float32 surely feels"


def changed(before: Any, after: Any, name: str = _CHANGED, *, fault: str = "") -> Check:
    """Training did something: the logits are not the base's, or the start's.

    Those of tokens that both have; one trained elsewhere may have more of them than its base.

    Args:
        fault: the likely reason where they are, for people.
    """
    width = min(before.shape[-1], after.shape[-1])
    change = float((after[..., :width] - before[..., :width]).abs().max())
    good = math.isfinite(change) and (change > 0 or after.shape != before.shape)
    detail = f"largest logit change {change:.3g}"
    return check(name, good, f"{detail}; {fault}" if fault and change == 0 and not good else detail)


def unmoved(
    start: Mapping[str, str], end: Mapping[str, str], name: str = "nothing frozen moved"
) -> Check:
    """The base, or a model beside it, is as it was when training began."""
    if not start:
        return {"check": name, "status": "skipped", "detail": "nothing is frozen"}
    moved = sorted(n for n in start.keys() | end.keys() if start.get(n) != end.get(n))
    detail = f"{len(start)} frozen tensors" + (f"; changed: {moved[0]}" if moved else "")
    return check(name, not moved, detail)


def excused(checks: Sequence[Check]) -> list[Check]:
    """Checks that something moved, skipped where no step carried a signal to move anything."""
    return [
        {**finding, "status": "skipped", "detail": f"no step carried a signal; {finding['detail']}"}
        if finding["status"] == "failed" and finding["check"] in _MOVEMENT
        else finding
        for finding in checks
    ]


def check(name: str, good: bool, detail: str) -> Check:
    """A finding that is either passed or failed."""
    return {"check": name, "status": "passed" if good else "failed", "detail": detail}


def require(audit: list[Check]) -> None:
    """Raise where a check failed: a training that isn't what it says is no result."""
    failed = [check for check in audit if check["status"] == "failed"]
    if failed:
        raise StageFailed("audit", "; ".join(f"{c['check']}: {c['detail']}" for c in failed))
