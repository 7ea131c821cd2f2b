"""What limits a verdict on a claim: seeds, margins, and where its doubt comes from."""

from __future__ import annotations

from harness.comparison.contrasts import Contrast
from harness.comparison.groups import Group
from harness.comparison.intervals import infer
from harness.comparison.result import Noise
from harness.suite.claims import Claim


def about_seeds(group: Group, base: Group | float) -> str:
    """What the number of training runs keeps the verdict from saying; empty if nothing."""
    sides = [group] if isinstance(base, float) else [group, base]
    lone = [side for side in sides if side.first.trained and not side.runs.several]
    if not lone:
        few = any(len(side.scores) == 2 for side in sides)
        return "only 2 seeds" if few else ""
    if len(lone) == len([side for side in sides if side.first.trained]):
        return "about one checkpoint only, not the method: one seed"
    which = "the variant" if lone[0] is group else "the other side"
    return f"{which} is one checkpoint: another seed of it may differ"


def about_margin(claim: Claim, base: Group | float) -> str:
    """What a margin that is a share of the other's value is worth; empty if nothing limits it."""
    if not claim.relative or isinstance(base, float):
        return ""
    other = infer(base.runs, base.independent)
    sure = other.low is not None and other.high is not None and not other.low <= 0 <= other.high
    return "" if sure else "its margin is a share of a value that may be 0"


def noise_of(contrast: Contrast, group: Group, base: Group | float) -> Noise | None:
    """The shares of the difference's variance that examples, drawn answers and seeds cause."""
    error, sides = contrast.error(), [group] if isinstance(base, float) else [group, base]
    drawn = [_drawn(side) for side in sides]
    seeds = contrast.fixed()
    if not error or not (seeds or any(part is not None for part in drawn)):
        return None
    total = max(error**2, seeds)
    answers = None
    if all(part is not None for part in drawn):
        answers = min(sum(part or 0.0 for part in drawn), total - seeds) / total
    elif not seeds:
        return None
    examples = 1 - seeds / total - (answers or 0.0)
    return Noise(examples, answers, seeds / total if seeds else None)


def _drawn(group: Group) -> float | None:
    """The variance of a variant's mean that drawing its answers anew would cause; None where it is
    not known."""
    parts = [run.drawn for run in group.scores.values()]
    if any(part is None for part in parts):
        return None
    count = group.first.sample.n * len(parts)
    return float(sum(part.sum() for part in parts if part is not None)) / count**2
