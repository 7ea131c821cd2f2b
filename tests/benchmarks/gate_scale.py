"""How long `harness check` takes for many rows, and how much memory it needs.

    python tests/benchmarks/gate_scale.py --rows 1000000

Both sides are a CSV with a right-or-wrong metric and a continuous one, in clusters with
`--clusters`; the third run judges the same candidate by a stored baseline.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd


def write(path: Path, rows: int, seed: int, clusters: int) -> Path:
    """A table of so many rows, whose candidate (seed 1) is right as often as the baseline."""
    easy = np.random.default_rng(0).random(rows)
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "example_id": [f"example-{i}" for i in range(rows)],
            "accuracy": (rng.random(rows) < easy).astype(int),
            "rougeL": np.clip(easy + rng.normal(0, 0.1, rows), 0, 1),
        }
    )
    if clusters:
        frame["cluster"] = [f"document-{i % clusters}" for i in range(rows)]
    frame.sample(frac=1, random_state=seed).to_csv(path, index=False)
    return path


def run(folder: Path, *words: str) -> tuple[float, float, float, int]:
    """(seconds, seconds of processor time, GiB at the peak, exit status) of one command."""
    code = (
        "import resource, sys\nfrom harness.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n"
        "    used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    cpu = used.ru_utime + used.ru_stime\n"
        "    print('peak', used.ru_maxrss, cpu, file=sys.stderr)\n"
    )
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    seconds = time.monotonic() - start
    if done.returncode not in (0, 1, 3):
        sys.exit(done.stderr)
    peak, used = done.stderr.rsplit("peak ", 1)[1].split()[:2]
    return seconds, float(used), int(peak) * 1024 / 2**30, done.returncode


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--clusters", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side, seed in (("base", 2), ("new", 1)):
            write(folder / f"{side}.csv", arguments.rows, seed, arguments.clusters)
        print(f"{arguments.rows:,} rows on either side, {arguments.clusters or 'no'} clusters")
        for what, words in (
            ("check CSV against CSV", ("check", "new.csv", "--baseline", "base.csv")),
            ("baseline set", ("baseline", "set", "main", "base.csv")),
            ("check CSV against a stored baseline", ("check", "new.csv", "--baseline", "main")),
        ):
            seconds, used, peak, status = run(folder, *words)
            print(
                f"{what:<36} {seconds:6.1f} s ({used:.1f} s of a processor)  {peak:5.2f} GiB"
                f"  exit {status}"
            )
        size = (folder / "baselines" / "main.json").stat().st_size / 2**20
        print(f"the stored baseline has {size:.1f} MiB")


if __name__ == "__main__":
    main()
