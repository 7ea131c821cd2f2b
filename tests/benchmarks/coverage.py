"""How often a 95% interval over seeds holds the true difference, by simulation.

    python tests/benchmarks/coverage.py                 # the table
    python tests/benchmarks/coverage.py --runs 200      # quicker, and less sure

Each experiment draws a true difference's noise anew: of the seeds (training runs), of the examples
(the same for all seeds), and of their interaction, in three proportions; then the interval is made
as the report makes it. The naive interval resamples the few seeds with replacement, as is often
done. The share that holds the truth should be 95%.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from harness.compare.statistics import Resampler, Sample, infer

TRUTH, EXAMPLES = 0.2, 80
NOISE = {"seeds alike": (0.02, 0.5), "both": (0.1, 0.5), "seeds differ most": (0.3, 0.2)}
"""Standard deviations between seeds, and between examples."""


def covered(seeds: int, spread: tuple[float, float], runs: int) -> tuple[float, float]:
    """Share of the runs in which our interval, and the naive one, holds the truth."""
    rng = np.random.default_rng(seeds)
    weights = Resampler([str(i) for i in range(EXAMPLES)])
    hits = naive = 0
    for _ in range(runs):
        own = rng.normal(0, spread[1], EXAMPLES)
        offsets = rng.normal(0, spread[0], (seeds, 1))
        values = TRUTH + own + offsets + rng.normal(0, 0.2, (seeds, EXAMPLES))
        samples = [Sample("mean", {"value": row}) for row in values]
        points = [float(row.mean()) for row in values]
        found = infer(points, list(weights.resampled(samples)), EXAMPLES)
        hits += (
            found.low is not None and found.high is not None and (found.low <= TRUTH <= found.high)
        )
        drawn = np.asarray(points)[rng.integers(0, seeds, (500, seeds))].mean(1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        naive += bool(low <= TRUTH <= high)
    return hits / runs, naive / runs


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args().runs
    print(f"{EXAMPLES} examples, {runs} runs; share of 95% intervals that hold the true difference")
    print(f"{'seeds':>5}  {'noise':<18} {'ours':>7} {'resampled seeds':>16}")
    for seeds in (2, 3, 5, 8):
        for name, spread in NOISE.items():
            ours, naive = covered(seeds, spread, runs)
            print(f"{seeds:>5}  {name:<18} {ours:>7.1%} {naive:>16.1%}", flush=True)


if __name__ == "__main__":
    main()
