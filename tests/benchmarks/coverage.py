"""How often 95% intervals hold the truth, and how often tests see what is not there, by simulation.

    python tests/benchmarks/coverage.py                    # the tables, to the terminal
    python tests/benchmarks/coverage.py --runs 200         # quicker, and less sure
    python tests/benchmarks/coverage.py --write docs/coverage.md
    python tests/benchmarks/coverage.py --paired-shares    # the table that needs no simulation

Each experiment draws its examples, clusters and training runs anew; the interval and the verdict
are then made as the report makes them, through `rows_of`. *Before* is the procedure of version
0.1.0: a percentile bootstrap beside a t test of its standard error for one run; for several the
sum of both variances with Satterthwaite's degrees of freedom. *Wider than need be* compares the
mean width with that of whoever knows every variance beforehand.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy import special

from harness.comparison.rows import rows_of
from harness.comparison.scores import Keys, Scores
from harness.comparison.share_contrasts import PairedShares
from harness.comparison.statistics import Sample

RNG = np.random.Generator
Draw = Callable[[RNG], tuple[np.ndarray, np.ndarray]]
"""One experiment: a variant's values and its baseline's, each of shape (S, n)."""
_RESAMPLES = 1000


@dataclass(frozen=True)
class Found:
    """Of one procedure: (low, high) of the estimate and of the difference, and the latter's p."""

    estimate: tuple[float, float] | None
    difference: tuple[float, float] | None
    p: float | None


@dataclass(frozen=True)
class Case:
    """What is simulated.

    Attributes:
        truth: the variant's true mean. effect: its true difference from the baseline.
        ideal: width of the difference's interval for whoever knows every variance; NaN: not told.
        groups: clusters that the examples lie in, evenly.
    """

    name: str
    n: int
    draw: Draw
    truth: float
    effect: float = 0.0
    ideal: float = float("nan")
    groups: int = 0

    def keys(self) -> Keys:
        """The examples."""
        names = tuple(map(str, range(self.n)))
        clusters = tuple(str(i % self.groups) for i in range(self.n)) if self.groups else names
        return Keys(names, clusters, ("",) * self.n)


def now(keys: Keys, own: np.ndarray, base: np.ndarray) -> Found:
    """As the report has it."""
    made = {
        name: {
            seed: {("m", "e"): Scores(keys, Sample("mean", {"value": row}), True, "", "v")}
            for seed, row in enumerate(values)
        }
        for name, values in (("own", own), ("base", base))
    }
    row = next(row for row in rows_of(made, "base") if row.group == "own")
    ends = [
        None if e is None or e.low is None or e.high is None else (e.low, e.high)
        for e in (row.estimate, row.difference)
    ]
    return Found(ends[0], ends[1], row.p)


@lru_cache
def _weights(clusters: int) -> np.ndarray:
    shares = np.full(clusters, 1 / clusters)
    drawn = np.random.default_rng(0).multinomial(clusters, shares, size=_RESAMPLES)
    return drawn.astype(float)


def before(keys: Keys, own: np.ndarray, base: np.ndarray) -> Found:
    """As it was in version 0.1.0."""
    clusters = keys.together
    weights = _weights(clusters.count)
    sizes = weights @ clusters.sums(np.ones((len(clusters.index), 1)))

    def told(values: np.ndarray) -> tuple[tuple[float, float], float]:
        draws = (weights @ clusters.sums(values.T)) / sizes
        points, resampled = values.mean(axis=1), draws.mean(axis=1)
        value, items = float(points.mean()), float(resampled.var(ddof=1))
        if len(points) == 1:
            error, freedom = np.sqrt(items), float(clusters.count - 1)
            low, high = np.quantile(resampled, [0.025, 0.975])
        else:
            seeds = float(points.var(ddof=1)) / len(points)
            error = np.sqrt(items + seeds)
            bottom = items**2 / (clusters.count - 1) + seeds**2 / (len(points) - 1)
            freedom = (items + seeds) ** 2 / bottom if bottom > 0 else float(len(points) - 1)
            half = special.stdtrit(freedom, 0.975) * error
            low, high = value - half, value + half
        if error <= 1e-12:
            p = 1.0 if abs(value) <= 1e-12 else min(1.0, 2 * 0.5**clusters.count)
        else:
            p = 2 * float(special.stdtr(freedom, -abs(value) / error))
        return (float(low), float(high)), p

    difference, p = told(own - base)
    return Found(told(own)[0], difference, p)


def rates(case: Case, runs: int, made: Callable[..., Found] = now, seed: int = 0) -> list[float]:
    """Shares of the runs: the estimate's interval held the truth, the difference's held the effect,
    p was below 0.05; the share that had intervals; the mean width over the ideal one."""
    rng, keys, found = np.random.default_rng(seed), case.keys(), []
    for _ in range(runs):
        found.append(made(keys, *case.draw(rng)))
    told = [f.estimate for f in found if f.estimate is not None]
    moved = [f.difference for f in found if f.difference is not None]
    return [
        _share([low <= case.truth <= high for low, high in told]),
        _share([low <= case.effect <= high for low, high in moved]),
        float(np.mean([f.p is not None and f.p < 0.05 for f in found])),
        len(moved) / runs,
        float(np.mean([high - low for low, high in moved])) / case.ideal,
    ]


def _share(hits: list[bool]) -> float:
    return float(np.mean(hits)) if hits else float("nan")


SIZES = (5, 8, 12, 20, 50, 320)


def shares(n: int, right: float, changed: float = 0.2) -> Case:
    """Right or wrong answers, a share of which changes, as often one way as the other."""
    flip_up = changed / 2 / (1 - right)
    flip_down = changed / 2 / right

    def draw(rng: RNG) -> tuple[np.ndarray, np.ndarray]:
        base = rng.random((1, n)) < right
        chance = rng.random((1, n))
        own = np.where(base, chance >= flip_down, chance < flip_up)
        return own.astype(float), base.astype(float)

    return Case(f"share {right:g}, {changed:g} change", n, draw, right)


def rare(n: int, right: float) -> Case:
    """Rare right answers of two variants that have nothing to do with each other."""
    return Case(
        f"share {right:g}, independent", n,
        lambda rng: tuple((rng.random((2, 1, n)) < right).astype(float)), right,
    )  # fmt: skip


_TAILS: dict[str, tuple[Callable[[RNG, tuple[int, ...]], np.ndarray], float]] = {
    "normal": (lambda rng, shape: rng.normal(size=shape), 0.0),
    "heavy tails (t, 3 df)": (lambda rng, shape: rng.standard_t(3, size=shape), 0.0),
    "skewed (exponential)": (lambda rng, shape: rng.exponential(size=shape), 1.0),
    "skewed, heavy (lognormal)": (lambda rng, shape: rng.lognormal(size=shape), np.exp(0.5)),
}


def means(n: int, tail: str) -> Case:
    """A variant whose distance from its baseline has this distribution, less its mean."""
    made, mean = _TAILS[tail]

    def draw(rng: RNG) -> tuple[np.ndarray, np.ndarray]:
        own = made(rng, (1, n))
        return own, np.full((1, n), mean)

    return Case(tail, n, draw, mean)


def clustered(groups: int, n: int = 100, binary: bool = False) -> Case:
    """Examples of which those of one cluster are alike (an intraclass correlation of a half)."""

    def draw(rng: RNG) -> tuple[np.ndarray, np.ndarray]:
        shared = rng.normal(size=(2, groups))[:, np.arange(n) % groups]
        values = (shared + rng.normal(size=(2, n))) / np.sqrt(2)
        found = values > special.ndtri(0.7) if binary else values
        return found[:1].astype(float), found[1:].astype(float)

    name = f"{groups} clusters" + (", share 0.3" if binary else "")
    return Case(name, n, draw, 0.3 if binary else 0.0, groups=groups)


def seeded(seeds: int, between: float, items: float, n: int = 80) -> Case:
    """Paired training runs: noise between seeds, between examples, and of both together (0.2)."""

    def draw(rng: RNG) -> tuple[np.ndarray, np.ndarray]:
        moved = rng.normal(0, items, n) + rng.normal(0, between, (seeds, 1))
        base = rng.normal(0, 1, n) + np.zeros((seeds, 1))
        return base + moved + rng.normal(0, 0.2, (seeds, n)), base

    width = 2 * 1.96 * np.sqrt(between**2 / seeds + items**2 / n + 0.04 / (seeds * n))
    name = f"{seeds} seed{'s' if seeds > 1 else ''}, between {between:g}, examples {items:g}"
    return Case(name, n, draw, 0.0, 0.0, float(width))


def misread(seeds: int = 3, n: int = 80) -> Case:
    """One run against a baseline of several, methods being equal, read as about the method."""

    def draw(rng: RNG) -> tuple[np.ndarray, np.ndarray]:
        base = rng.normal(0, 0.3, (seeds, 1)) + rng.normal(0, 0.2, (seeds, n))
        return rng.normal(0, 0.3) + rng.normal(0, 0.2, (1, n)), base

    return Case(f"1 seed against {seeds}, read as about the method", n, draw, 0.0)


def _first_alone(made: Callable[..., Found]) -> Callable[..., Found]:
    """Version 0.1.0 held a lone run against the baseline's run of the same seed."""
    return lambda keys, own, base: made(keys, own, base[: len(own)])


def cases() -> Iterator[tuple[str, list[Case]]]:
    """The tables, each with its title."""
    yield "Shares", [
        *(shares(n, right, changed) for right, changed in ((0.5, 0.2), (0.5, 0.5), (0.9, 0.1))
          for n in SIZES),
        *(rare(n, 0.02) for n in SIZES),
    ]  # fmt: skip
    yield "Means", [means(n, tail) for tail in _TAILS for n in SIZES]
    yield "Clusters", [clustered(g, binary=b) for b in (False, True) for g in (5, 10, 50)]
    spreads = ((0.0, 0.0), (0.02, 0.0), (0.1, 0.0), (0.0, 0.5), (0.1, 0.5), (0.3, 0.5), (0.3, 0.2))
    yield "Seeds", [
        *(seeded(seeds, *spread) for seeds in (2, 3, 5, 8) for spread in spreads),
        seeded(1, 0.0, 0.5), misread(),
    ]  # fmt: skip


PAIRED = """## Differences of shares on the same rows

No simulation: the chances of all outcomes are summed, over every pair of shares from 5% to 95% that
are at most 20 points apart, for each correlation of the two variants' answers. Before → now:
Newcombe's exact interval (2011), which reports had, and Tango's score interval with McNemar's exact
test at zero, which claims had and both have now. It is the narrower one, and still holds the truth
as often as it should. Only where nearly all of a few rows change does it fall below 94% (to 91.4%
at 12 rows that all change, with a true difference of one half).

| correlation | n | holds, on average | holds, at least | mean width |
| --- | --- | --- | --- | --- |"""
_SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_ANGLES = np.linspace(0.0, np.pi / 2, 61)
Ends = tuple[float, float]


@cache
def newcombe(up: int, down: int, rows: int) -> Ends:
    """The farthest products of two exact intervals: of the share of rows that changed, and of how
    far the changes lean one way; the error is divided between them in every way (Newcombe, 2011,
    Communications in Statistics 40:3154)."""
    few, many = _exact(up + down, rows, special.ndtr(-1.96 * np.cos(_ANGLES)))
    least, most = (
        2 * end - 1 for end in _exact(up, up + down, special.ndtr(-1.96 * np.sin(_ANGLES)))
    )
    low = np.minimum(few * least, many * least).min()
    return float(low), float(np.maximum(few * most, many * most).max())


def _exact(count: int, rows: int, tails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low = special.betaincinv(count, rows - count + 1, tails) if count > 0 else 0 * tails
    high = special.betaincinv(count + 1, rows - count, 1 - tails) if count < rows else 0 * tails + 1
    return low, high


@cache
def as_now(up: int, down: int, rows: int) -> Ends:
    """As reports and claims have it."""
    ends = PairedShares(up, down, rows).interval(0.05)
    assert ends is not None
    return ends


def summed(rows: int, gained: float, lost: float, ends: Callable[..., Ends]) -> tuple[float, float]:
    """How often the interval holds the true difference, and its mean width, over all outcomes with
    a chance of more than 1e-7."""
    ups, downs = (each.ravel() for each in np.indices((rows + 1, rows + 1)))
    ups, downs = ups[ups + downs <= rows], downs[ups + downs <= rows]
    rest = rows - ups - downs
    logs = (
        special.gammaln(rows + 1) - special.gammaln(ups + 1) - special.gammaln(downs + 1)
        - special.gammaln(rest + 1) + special.xlogy(ups, gained) + special.xlogy(downs, lost)
        + special.xlogy(rest, 1 - gained - lost)
    )  # fmt: skip
    truth, held, width = gained - lost, 0.0, 0.0
    for place in np.flatnonzero(logs > np.log(1e-7)):
        low, high = ends(int(ups[place]), int(downs[place]), rows)
        chance = float(np.exp(logs[place]))
        held += chance * (low - 1e-9 <= truth <= high + 1e-9)
        width += chance * (high - low)
    return held, width


def pairs_of_shares(correlation: float) -> Iterator[tuple[float, float]]:
    """The chances that a row is gained, and lost, for all pairs of shares that can have it."""
    for one, other in itertools.product(_SHARES, repeat=2):
        both = one * other + correlation * np.sqrt(one * (1 - one) * other * (1 - other))
        if abs(one - other) < 0.201 and both <= min(one, other) + 1e-12:
            yield max(one - both, 0.0), max(other - both, 0.0)


def paired_shares() -> Iterator[str]:
    """The table of paired shares in Markdown."""
    yield PAIRED
    for correlation, rows in itertools.product((0.0, 0.3, 0.6, 0.9), SIZES):
        cells = []
        for ends in (newcombe, as_now):
            sums = [summed(rows, *chances, ends) for chances in pairs_of_shares(correlation)]
            held, widths = np.asarray(sums).T
            cells.append((100 * held.mean(), 100 * held.min(), widths.mean()))
        (mean, least, width), (mean_now, least_now, width_now) = cells
        yield (
            f"| {correlation:g} | {rows} | {mean:.1f} → {mean_now:.1f} |"
            f" {least:.1f} → {least_now:.1f} | {width:.3f} → {width_now:.3f} |"
        )
    yield ""


HEAD = (
    "case", "n", "estimate holds", "difference holds", "false alarms", "has an interval",
    "wider than need be",
)  # fmt: skip


def lines(runs: int, title: str, listed: list[Case]) -> Iterator[str]:
    """A table in Markdown: each cell before -> now."""
    yield f"## {title}\n"
    yield f"| {' | '.join(HEAD)} |"
    yield "|" + " --- |" * len(HEAD)
    for case in listed:
        old = _first_alone(before) if case.name.startswith("1 seed against") else before
        was, found = rates(case, runs, old), rates(case, runs)
        cells = [f"{100 * a:.1f} → {100 * b:.1f}" for a, b in zip(was[:4], found[:4], strict=True)]
        wide = "" if np.isnan(case.ideal) else f"{was[4]:.2f} → {found[4]:.2f}"
        yield f"| {case.name} | {case.n} | {' | '.join(cells)} | {wide} |"
    yield ""


def head(runs: int) -> list[str]:
    """What stands above the tables."""
    noise = 100 * 1.96 * np.sqrt(0.05 * 0.95 / runs)
    return [
        "# Coverage and false alarms\n",
        f"`python tests/benchmarks/coverage.py --runs {runs}` made these tables; the file explains"
        " each case. Numbers are percentages, before → now; those near 95% or 5% vary by"
        f" {noise:.1f} by chance. The intervals of the estimate and of the difference should"
        " contain the truth in 95% of the experiments or a little more, and false alarms should be"
        " 5% or less.\n",
        "- *Seeds*: `between` is the standard deviation between seeds, and `examples` that of the"
        " differences between examples; the interaction of seed and example has 0.2. If examples"
        " do not differ, S runs are only S numbers. The interval of Student's t over them is 1.9"
        " times as wide for three runs, and 5 times for two, as if one knew that seeds do not"
        " differ. A narrower interval (as before) raises false alarms when they do differ.\n"
        "- *Skewed*: with fewer than 20 examples, the intervals still contain the truth too"
        " seldom. So few examples do not show how long the tail is.\n"
        "- *1 seed against 3*: the interval is valid for this checkpoint; it cannot be valid for"
        " the method.\n",
    ]


def main() -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--paired-shares", action="store_true")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    if given.paired_shares:
        for line in paired_shares():
            print(line, flush=True)
        return
    told = head(given.runs)
    for line in told:
        print(line)
    for title, listed in cases():
        for line in lines(given.runs, title, listed):
            print(line, flush=True)
            told.append(line)
    for line in paired_shares():
        print(line, flush=True)
        told.append(line)
    if given.write is not None:
        given.write.write_text("\n".join(told), encoding="utf-8")


if __name__ == "__main__":
    main()
