"""How much faster than rouge-score is the rouge scorer?

    python tests/benchmarks/rouge_speed.py [--pairs 10000]

Both sides score the same pairs with stemming: texts of the pocket suite, each against one drawn at
random or against itself with words dropped. RAYON_NUM_THREADS=1 keeps ours to one thread. The ratio
is void, and the exit status 1, where a single score differs in a single bit.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

from rouge_score.rouge_scorer import RougeScorer

from harness.scorers.base import Prediction
from harness.scorers.rouge import TYPES, Rouge

INSTRUCT = Path(__file__).parents[2] / "suites" / "pocket" / "instruct"


def make_pairs(count: int) -> list[tuple[str, str]]:
    """(reference, output), half of them near copies, so that long common sequences occur too."""
    texts = [
        message["content"]
        for file in sorted(INSTRUCT.glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
        for message in json.loads(line)["messages"]
    ]
    rng, pairs = random.Random(0), []
    for number in range(count):
        reference = rng.choice(texts)
        kept = " ".join(word for word in reference.split(" ") if rng.random() > 0.2)
        pairs.append((reference, kept if number % 2 else rng.choice(texts)))
    return pairs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10_000)
    pairs = make_pairs(parser.parse_args().pairs)
    predictions = [Prediction(str(i), "", "", "", t, (r,)) for i, (r, t) in enumerate(pairs)]
    start = time.perf_counter()
    ours = Rouge().score_all(predictions)
    fast = time.perf_counter() - start
    oracle = RougeScorer(list(TYPES), use_stemmer=True)
    start = time.perf_counter()
    theirs = [oracle.score(reference, text) for reference, text in pairs]
    slow = time.perf_counter() - start
    differ = sum(
        any(own[name] != other[name].fmeasure for name in TYPES)
        for own, other in zip(ours, theirs, strict=True)
    )
    print(f"{len(pairs):,} pairs: rouge-score {slow:.2f} s, rouge {fast:.3f} s")
    if differ:
        print(f"void: {differ} pairs differ")
        return 1
    print(f"ratio {slow / fast:.0f}, every score equal to the last bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
