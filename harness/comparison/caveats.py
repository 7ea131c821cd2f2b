"""What limits a verdict on a claim: seeds, margins, and where its doubt comes from."""

from __future__ import annotations

from harness.comparison.contrasts import Contrast
from harness.comparison.groups import Group, partner
from harness.comparison.intervals import CONFIDENCE, infer
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
    p = infer(base.runs, base.independent).p
    sure = p is not None and p < 1 - CONFIDENCE
    return "" if sure else "its margin is a share of a value that may be 0"


def noise_of(
    contrast: Contrast, group: Group, base: Group | float, ratio: float = 1.0
) -> Noise | None:
    """The shares of the difference's variance that examples, drawn answers and seeds cause; None if
    only one source is known (the three of arXiv:2512.21326).

    What drawing the answers of several runs anew would change is a part of how the runs differ; for
    a single run it is a part of how the examples do.

    Args:
        ratio: how many times the base's value is subtracted.
    """
    sides = [(group, 1.0)]
    if isinstance(base, Group):
        sides.append((partner(group, base)[0], ratio**2))
    error, fixed = contrast.error(), contrast.fixed()
    drawn = [
        (side.runs.several, times * part)
        for side, times in sides
        if (part := _drawn(side)) is not None
    ]
    known = len(drawn) == len(sides)
    if not error or not (fixed or known):
        return None
    total = max(error**2, fixed)
    if not known:
        return Noise(1 - fixed / total, None, fixed / total)
    of_seeds = min(sum(part for several, part in drawn if several), fixed)
    of_examples = min(sum(part for several, part in drawn if not several), total - fixed)
    return Noise(
        (total - fixed - of_examples) / total,
        (of_seeds + of_examples) / total,
        (fixed - of_seeds) / total if fixed else None,
    )


def _drawn(group: Group) -> float | None:
    """The variance of a variant's mean that drawing its answers anew would cause; None where it is
    not known."""
    parts = [run.drawn for run in group.scores.values()]
    if any(part is None for part in parts):
        return None
    count = group.first.sample.n * len(parts)
    return float(sum(part.sum() for part in parts if part is not None)) / count**2
