"""False alarms, coverage and power of the verdicts on claims, by simulation.

    python tests/benchmarks/claims.py --runs 2000 --write docs/claims-simulation.md

Each experiment draws two variants whose true difference is known and asks for the verdict, as a
suite or `harness check` would. Where the truth lies exactly at the claim's limit, any verdict but
*inconclusive* is a false alarm.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import stats

from harness.comparison.aligned import scores_of
from harness.comparison.claims import ClaimVerdict, Question, decide
from harness.comparison.power import equal_power, mcnemar_power, t_power
from harness.suite.claims import Claim, parse_claim

RNG = np.random.Generator
Sides = tuple[np.ndarray, np.ndarray]
"""The values of both variants, each of shape (seeds, n)."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Experiment:
    """What is drawn, and the claim that is decided.

    Attributes:
        truth: the true difference.
        power: how likely the formula says that the claim is supported; None where no formula is
            asked.
        groups: clusters that the examples lie in, evenly; 0: none.
        few: so few seeds, or examples of such a shape, that the table shows what happens and does
            not promise it.
    """

    name: str
    n: int
    line: str
    draw: Callable[[RNG], Sides]
    truth: float
    power: float | None = None
    groups: int = 0
    few: bool = False


def shares(n: int, changed: float, gain: float) -> Callable[[RNG], Sides]:
    """Right or wrong answers, of which a share is right on one side alone."""
    chances = [(changed + gain) / 2, (changed - gain) / 2, (1 - changed) / 2]

    def draw(rng: RNG) -> Sides:
        kind = rng.choice(4, n, p=[*chances, 1 - sum(chances)])
        return (np.isin(kind, (0, 2))[None].astype(float),
                np.isin(kind, (1, 2))[None].astype(float))  # fmt: skip

    return draw


TAILS: dict[str, Callable[[RNG, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy tails (t, 3 df)": lambda rng, n: rng.standard_t(3, size=n),
    "skewed (exponential)": lambda rng, n: rng.exponential(size=n) - 1,
}


def means(n: int, tail: str, gain: float) -> Callable[[RNG], Sides]:
    """Values whose differences have this distribution around the gain."""

    def draw(rng: RNG) -> Sides:
        base = rng.normal(size=n)
        return (base + gain + TAILS[tail](rng, n))[None], base[None]

    return draw


def ratios(n: int) -> Callable[[RNG], Sides]:
    """Hits in texts of unequal lengths, two texts of one length alike: `ratio` sums both."""

    def draw(rng: RNG) -> Sides:
        lengths = rng.geometric(0.1, n) + 2.0
        rate = rng.beta(2, 2, n)
        hits = [rng.binomial(lengths.astype(int), rate).astype(float) for _ in range(2)]
        return np.stack([hits[0], lengths]), np.stack([hits[1], lengths])

    return draw


def clustered(n: int, groups: int, gain: float) -> Callable[[RNG], Sides]:
    """Differences of which those of one cluster are alike (an intraclass correlation of a half)."""

    def draw(rng: RNG) -> Sides:
        shared = rng.normal(size=groups)[np.arange(n) % groups]
        base = rng.normal(size=n)
        return (base + gain + (shared + rng.normal(size=n)) / np.sqrt(2))[None], base[None]

    return draw


def seeded(n: int, seeds: int, between: float, gain: float) -> Callable[[RNG], Sides]:
    """Paired training runs, whose differences spread between seeds, between examples (0.5), and
    between both together (0.2)."""

    def draw(rng: RNG) -> Sides:
        base = rng.normal(size=n) + np.zeros((seeds, 1))
        apart = rng.normal(0, 0.5, n) + rng.normal(0, between, (seeds, 1))
        return base + gain + apart + rng.normal(0, 0.2, (seeds, n)), base

    return draw


def experiments() -> Iterator[tuple[str, list[Experiment]]]:
    """The tables, each with its title."""
    yield "No difference, `a better b`", list(_without_difference())
    yield "A difference exactly at the margin", list(_at_the_margin())
    yield "Power", list(_power())


def _without_difference() -> Iterator[Experiment]:
    line = "a better b on m"
    for n in (20, 50, 320):
        yield Experiment("right or wrong, 0.3 change", n, line, shares(n, 0.3, 0.0), 0.0)
    for tail in TAILS:
        for n in (20, 50, 320):
            few = tail.startswith("skewed") and n < 50
            yield Experiment(tail, n, line, means(n, tail, 0.0), 0.0, few=few)
    yield Experiment("ratio of sums, as corpus metrics", 100, line, ratios(100), 0.0)
    for groups in (10, 50):
        draw = clustered(100, groups, 0.0)
        yield Experiment(f"{groups} clusters", 100, line, draw, 0.0, groups=groups)
    for seeds in (2, 3, 5, 8):
        draw = seeded(80, seeds, 0.3, 0.0)
        yield Experiment(f"{seeds} seeds", 80, line, draw, 0.0, few=seeds < 5)


def _at_the_margin() -> Iterator[Experiment]:
    for line in ("a not_worse b on m by 0.1", "a equals b on m within 0.1"):
        for n in (50, 320):
            yield Experiment("right or wrong, 0.3 change", n, line, shares(n, 0.3, -0.1), -0.1)
        for tail in TAILS:
            yield Experiment(tail, 320, line, means(320, tail, -0.1), -0.1)
        yield Experiment("50 clusters", 100, line, clustered(100, 50, -0.1), -0.1, groups=50)
        yield Experiment("5 seeds", 80, line, seeded(80, 5, 0.1, -0.1), -0.1)


def _power() -> Iterator[Experiment]:
    better, margin = "a better b on m", "a not_worse b on m by 0.1"
    for n, changed, gain in ((50, 0.3, 0.2), (320, 0.2, 0.07), (1000, 0.1, 0.03)):
        yield Experiment(f"right or wrong, {changed:g} change, gain {gain:g}", n, better,
                         shares(n, changed, gain), gain,
                         mcnemar_power(n, changed, gain, 0.05))  # fmt: skip
    for n, changed in ((320, 0.2), (320, 0.3)):
        error = np.sqrt(changed / n)
        yield Experiment(f"right or wrong, {changed:g} change, no difference", n, margin,
                         shares(n, changed, 0.0), 0.0, t_power(0.1, error, 1e9, 0.05))  # fmt: skip
    for n, gain in ((20, 0.7), (50, 0.4), (320, 0.15)):
        power = t_power(gain, 1 / np.sqrt(n), n - 1, 0.05)
        yield Experiment(f"normal, gain {gain:g}", n, better, means(n, "normal", gain), gain, power)
    power = equal_power(0.2, 0.0, 1 / np.sqrt(320), 0.05)
    yield Experiment("normal, no difference", 320, "a equals b on m within 0.2",
                     means(320, "normal", 0.0), 0.0, power)  # fmt: skip
    error = np.sqrt((0.5 + 0.5 / 5) / 20)
    power = t_power(0.5, error, 19, 0.05)
    yield Experiment("20 clusters of 5, gain 0.5", 100, better, clustered(100, 20, 0.5), 0.5,
                     power, groups=20)  # fmt: skip
    error = np.sqrt(0.3**2 / 8 + 0.25 / 80 + 0.04 / 640)
    power = t_power(0.4, error, 7 * (error**2 / (0.09 / 8 + 0.04 / 640)) ** 2, 0.05)
    yield Experiment("8 seeds, gain 0.4", 80, better, seeded(80, 8, 0.3, 0.4), 0.4, power)


@lru_cache
def _claim(line: str) -> Claim:
    return parse_claim(line)


def verdict(experiment: Experiment, rng: RNG) -> ClaimVerdict:
    """The verdict of one experiment."""
    names = [str(i) for i in range(experiment.n)]
    groups = experiment.groups
    clusters = [str(i % groups) for i in range(experiment.n)] if groups else None
    one, other = (
        {0: scores_of(names, dict(zip(("numerator", "denominator"), side, strict=True)),
                      aggregate="ratio")}
        if experiment.name.startswith("ratio")
        else {seed: scores_of(names, {"value": row}, clusters=clusters)
              for seed, row in enumerate(side)}
        for side in experiment.draw(rng)
    )  # fmt: skip
    return decide([Question(_claim(experiment.line), "a", "b", "m", "", one, other)])[0]


@dataclass(frozen=True)
class Rates:
    """Shares of the runs."""

    held: float
    supported: float
    refuted: float

    @property
    def decided(self) -> float:
        """Any verdict but inconclusive."""
        return self.supported + self.refuted


def rates(experiment: Experiment, runs: int, seed: int = 0) -> Rates:
    """How often the interval held the truth, and how often each verdict was given."""
    rng = np.random.default_rng(seed)
    held = supported = refuted = 0
    for _ in range(runs):
        told = verdict(experiment, rng)
        difference = told.difference
        assert difference is not None
        if difference.low is not None and difference.high is not None:
            held += difference.low <= experiment.truth <= difference.high
        supported += told.verdict == "supported"
        refuted += told.verdict == "refuted"
    return Rates(held / runs, supported / runs, refuted / runs)


def looked(runs: int, looks: str, seed: int = 0) -> float:
    """How often at least one of 49 looks, after every tenth of 500 examples from 20 on, shows a
    difference that is not there."""
    rng, claim = np.random.default_rng(seed), _claim("a better b on m")
    claim = claim.model_copy(update={"looks": looks})
    names, alarms = [str(i) for i in range(500)], 0
    for _ in range(runs):
        values = rng.normal(size=500)
        for n in range(20, 501, 10):
            one = {0: scores_of(names[:n], {"value": values[:n]})}
            other = {0: scores_of(names[:n], {"value": np.zeros(n)})}
            told = decide([Question(claim, "a", "b", "m", "", one, other)])[0]
            if told.verdict != "inconclusive":
                alarms += 1
                break
    return alarms / runs


def bca(n: int, tail: str, runs: int, seed: int = 0) -> float:
    """How often scipy's BCa bootstrap interval of 999 resamples holds the truth (Efron, 1987)."""
    rng, held = np.random.default_rng(seed), 0
    for _ in range(runs):
        found = stats.bootstrap(
            (TAILS[tail](rng, n),), np.mean, n_resamples=999, method="BCa", rng=rng
        ).confidence_interval
        held += found.low <= 0 <= found.high
    return held / runs


def _row(task: tuple[int, int, int]) -> str:
    """One row of a table: (number of the table, of the experiment, runs)."""
    number, place, runs = task
    experiment = list(experiments())[number][1][place]
    found = rates(experiment, runs)
    name = f"{experiment.name} (shown, not promised)" if experiment.few else experiment.name
    cells = [name, f"{experiment.n}", f"`{experiment.line}`"]
    percent = [found.held, found.supported, found.refuted]
    cells += [f"{100 * share:.1f}" for share in percent]
    cells.append("" if experiment.power is None else f"{100 * experiment.power:.1f}")
    return f"| {' | '.join(cells)} |"


HEAD = ("case", "n", "claim", "interval holds", "supported", "refuted", "power by formula")


def lines(runs: int, workers: int) -> Iterator[str]:
    """The page in Markdown."""
    noise = 100 * 1.96 * np.sqrt(0.05 * 0.95 / runs)
    yield "# Claims by simulation\n"
    yield (
        f"`python tests/benchmarks/claims.py --runs {runs} --write docs/claims-simulation.md` made"
        f" these tables; the file explains each case. Numbers are percentages of {runs:,}"
        f" experiments; those near 95 or 5 vary by {noise:.1f} by chance. Where the truth lies at"
        " the limit of the claim, `supported` and `refuted` are false alarms: together 5 or less."
        " The interval should hold the truth in 93.5 to 96.5; McNemar's exact test of few rows is"
        " more cautious than that, as it must be.\n"
    )
    with ProcessPoolExecutor(workers) as pool:
        for number, (title, listed) in enumerate(experiments()):
            yield f"## {title}\n"
            yield f"| {' | '.join(HEAD)} |"
            yield "|" + " --- |" * len(HEAD)
            yield from pool.map(_row, [(number, place, runs) for place in range(len(listed))])
            yield ""
    yield "## Repeated looks\n"
    yield "How often at least one of 49 looks shows a difference that is not there.\n"
    yield "| `looks` | false alarms |\n| --- | --- |"
    few = max(50, runs // 10)
    for looks in ("once", "repeated"):
        yield f"| {looks} | {100 * looked(few, looks):.1f} (of {few}) |"
    yield "\n## Beside BCa\n"
    yield "How often the interval holds the truth: ours, and scipy's BCa bootstrap.\n"
    yield "| case | n | ours | BCa |\n| --- | --- | --- | --- |"
    few = max(50, runs // 2)
    for tail in TAILS:
        for n in (8, 20, 50):
            case = Experiment(tail, n, "a better b on m", means(n, tail, 0.0), 0.0)
            ours = rates(case, few).held
            yield f"| {tail} | {n} | {100 * ours:.1f} | {100 * bca(n, tail, few):.1f} |"


def main() -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    written = []
    for line in lines(asked.runs, asked.workers):
        print(line, flush=True)
        written.append(line)
    if asked.write is not None:
        asked.write.write_text("\n".join(written) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
