"""The claims of a check: those of a file, or that no shared metric is worse by more than a
margin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from harness.comparison.gate import CANDIDATE, Settings, Side
from harness.comparison.measured import Measured
from harness.core.errors import HarnessError, near, unknown
from harness.planning.claims import cost_key
from harness.suite.claims import BASELINE, CHANCE, COSTS, Claim

SHARE_MARGIN, RELATIVE_MARGIN = 0.02, "5%"
"""The default margins: of metrics between 0 and 1, and as a share of the baseline's value."""


def default_claims(
    ours: Mapping[str, Mapping[int, Measured]],
    theirs: Mapping[str, Mapping[int, Measured]],
    settings: Settings,
) -> Iterator[tuple[Claim, str]]:
    """Each shared metric is not worse by more than its margin. So is each metric of the baseline
    that the candidate lacks on an evaluation that it has: that cannot be judged, and is no pass."""
    patterns = [pattern for pattern in settings.margins if pattern]
    measured = {metric.evaluation for by_seed in ours.values() for metric in by_seed.values()}
    names = [
        name
        for name, by_seed in theirs.items()
        if name in ours
        or ("missing" not in settings.allow
            and next(iter(by_seed.values())).evaluation in measured)
    ]  # fmt: skip
    if not any(name in ours for name in names):
        return
    for pattern in patterns:
        if not any(_means(pattern, theirs[name]) for name in names):
            raise HarnessError(unknown("metric", pattern, names, where="--margin"))
    for name in names:
        margin = next((settings.margins[p] for p in patterns if _means(p, theirs[name])),
                      settings.margins.get("", None))  # fmt: skip
        if margin is None:
            margin = _margin(ours.get(name, {}), theirs[name])
        yield Claim(metric=name, variant=CANDIDATE, relation="not_worse", margin=margin,
                    confidence=settings.confidence), name  # fmt: skip


def _margin(ours: Mapping[int, Measured], theirs: Mapping[int, Measured]) -> float | str:
    """2 points of a share, else 5% of the baseline's value."""
    every = [*ours.values(), *theirs.values()]
    return SHARE_MARGIN if all(map(_is_share, every)) else RELATIVE_MARGIN


def _is_share(metric: Measured) -> bool:
    if metric.bounds == (0.0, 1.0):
        return True
    if metric.examples is None:
        return False
    values = metric.columns.get("value")
    return metric.aggregate == "mean" and values is not None and bool(
        ((values == 0) | (values == 1)).all()
    )  # fmt: skip


def _means(pattern: str, metrics: Mapping[int, Measured]) -> bool:
    """Whether a pattern names a metric: `rougeL`, `rougeL/tasks`, `rouge/rougeL`, `acc*`."""
    metric = next(iter(metrics.values()))
    names = (metric.name, metric.metric, f"{metric.evaluation}/{metric.metric}", metric.evaluation)
    scorer, _, rest = pattern.partition("/")
    return any(name and fnmatchcase(name, pattern) for name in names) or (
        bool(scorer) and rest == metric.metric
    )


def asked_claims(
    claims: Sequence[Claim], candidate: Side, baseline: Side
) -> Iterator[tuple[Claim, str]]:
    """Each claim with each metric that it names.

    Raises:
        HarnessError: it names no metric of either side, or another variant.
    """
    every = {**baseline.metrics, **candidate.metrics}
    for claim in claims:
        _require_sides(claim, candidate, baseline)
        names = [name for name, metrics in every.items() if _means(claim.metric, metrics)]
        if not names and (cost := cost_key(claim.metric)):
            if claim.than == CHANCE:
                raise HarnessError(f"nobody guesses a {COSTS[cost]}", where=claim.title)
            names = [cost]
        if not names:
            known = {*every, *COSTS}
            raise HarnessError(unknown("metric", claim.metric, known, where=claim.title))
        than = BASELINE if isinstance(claim.than, str) and claim.than != CHANCE else claim.than
        for name in names:
            yield claim.model_copy(update={"than": than}), name


def _require_sides(claim: Claim, candidate: Side, baseline: Side) -> None:
    ours, theirs = (CANDIDATE, candidate.variant), (BASELINE, baseline.variant, CHANCE)
    for selector, known in ((claim.variant, ours), (claim.than, theirs)):
        if isinstance(selector, int | float):
            continue
        if not isinstance(selector, str) or not any(fnmatchcase(n, selector) for n in known):
            guess = near(str(selector), known)
            meant = f"; did you mean '{guess}'?" if guess else ""
            raise HarnessError(
                f"{selector!r} is no side of this check{meant}",
                where=claim.title,
                fix=f"write `{CANDIDATE} not_worse {BASELINE} on METRIC by 0.01`; this candidate is"
                f" {candidate.variant}, and this baseline {baseline.variant}",
            )  # fmt: skip
