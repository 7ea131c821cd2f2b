"""Is a model read and asked faster by shared prefixes and continuous batching than row by row?

    python tests/benchmarks/engine_speed.py [--case greedy ...] [--model pocket/models/pocket-1m]
        [--adapter FOLDER] [--rows 200] [--rounds 5] [--threads 1]

Each case runs both ways in one process, in turn: as the stages do where a model allows it, and as
they do where it does not (transformers' `generate`, and padded batches). Printed are the medians of
the seconds that cores computed, their ratio, and the seconds of the check that finds out what a
model allows, which is made once for a model. A figure is void, and the exit status 1, where an
answer differs, or a log-likelihood by more than 1e-4 nats.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from harness.core.locate import package_suites  # noqa: E402
from harness.data.render import prompt_ids  # noqa: E402
from harness.inference import decoding, token_scores  # noqa: E402
from harness.inference.generate import generate  # noqa: E402
from harness.inference.likelihood import log_likelihoods  # noqa: E402
from harness.inference.sampling import seed_of  # noqa: E402
from harness.inference.sharing import Sharing, find_sharing  # noqa: E402

CLOSE = 1e-4
ASKED: Mapping[str, Mapping[str, Any]] = {
    "greedy": {"until": []},
    "stop strings": {"until": ["\n\n"], "apply_chat_template": False},
    "4 examples": {"until": ["\n\n"], "apply_chat_template": False, "num_fewshot": 4},
    "4 samples": {"until": [], "samples": 4},
}
OPTIONS = {
    "apply_chat_template": True, "fewshot_delimiter": "\n\n", "target_delimiter": "\n",
    "num_fewshot": 0, "max_new_tokens": 48, "batch_tokens": 16384, "temperature": 0.8,
    "top_p": 0.95, "thinking": "auto", "samples": 0,
}  # fmt: skip
Run = Callable[[], list[Any]]


def rows_of(split: str, count: int | None = None) -> list[dict[str, Any]]:
    """Rows of the pocket's tasks, with the keys that stages give them."""
    path = package_suites() / "pocket" / "instruct" / f"{split}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()[:count]
    return [
        {"id": str(i), "cluster": "", "group": "", **json.loads(line)}
        for i, line in enumerate(lines)
    ]


def answering(model: Any, tokenizer: Any, count: int, case: Mapping[str, Any]) -> Run:
    """The answers of a case."""
    options, pool = {**OPTIONS, **case}, rows_of("train")
    prompts, seeds = [], []
    for row in rows_of("test", count):
        alike = [shot for shot in pool if shot["kind"] == row["kind"]]
        ids = prompt_ids(tokenizer, row, alike[: options["num_fewshot"]], options)
        for number in range(options["samples"] or 1):
            prompts.append(ids)
            seeds.append(seed_of(0, row["id"], number))
    return lambda: generate(
        model, tokenizer, prompts, options, lambda *_: None,
        seeds=seeds if options["samples"] else None, chats=options["apply_chat_template"],
    )  # fmt: skip


def scoring(model: Any, tokenizer: Any, count: int) -> Run:
    """The log-likelihoods of the rows' answers."""
    rows = rows_of("test", count)
    return lambda: [
        row["nll"]
        for row in log_likelihoods(model, tokenizer, rows, 1024, 512, 8192, lambda *_: None)
    ]


@contextmanager
def read_as(sharing: Sharing) -> Iterator[None]:
    """Within it the stages' reading and answering take this for what was found out."""
    with (
        mock.patch.object(decoding, "sharing_of", return_value=sharing),
        mock.patch.object(token_scores, "sharing_of", return_value=sharing),
    ):
        yield


def differ(ours: list[Any], theirs: list[Any]) -> int:
    """How many answers or log-likelihoods are not the same."""
    return sum(
        abs(one - other) > CLOSE if isinstance(one, float) else one != other
        for one, other in zip(ours, theirs, strict=True)
    )


def measure(run: Run, ways: Mapping[str, Sharing], rounds: int) -> tuple[list[float], int, int]:
    """The median seconds of each way, how many results there are, and how many are not the same."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    results: dict[str, list[Any]] = {}
    for number in range(rounds):
        for way in list(ways)[:: 1 if number % 2 else -1]:
            with read_as(ways[way]):
                began = time.process_time()
                results[way] = run()
                seconds[way].append(time.process_time() - began)
    one, other = results.values()
    return [statistics.median(each) for each in seconds.values()], len(one), differ(one, other)


def main() -> int:
    """Run the cases and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = [*ASKED, "likelihoods"]
    parser.add_argument("--case", choices=names, nargs="+", default=names)
    parser.add_argument("--model", type=Path, default=package_suites() / "pocket/models/pocket-1m")
    parser.add_argument("--adapter", type=Path, help="a PEFT checkpoint on it")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    import torch
    from peft import PeftModel

    from harness.methods._peft import bottleneck  # noqa: F401, registers itself with PEFT
    from harness.models.files import ModelRef

    torch.set_num_threads(options.threads)
    ref = ModelRef(str(options.model), "float32", "cpu")
    model, tokenizer = ref.load(), ref.tokenizer()
    if options.adapter:
        model = PeftModel.from_pretrained(model, options.adapter).eval()
    began = time.process_time()
    found = find_sharing(model)
    answers = found.shares and found.can_answer(model)
    check = time.process_time() - began
    print("| case | results | row by row s | engine s | times as fast | differ |")
    print("|---|---|---|---|---|---|")
    void = False
    for name in options.case:
        if name == "likelihoods":
            run = scoring(model, tokenizer, options.rows)
        else:
            run = answering(model, tokenizer, options.rows, ASKED[name])
        ways = {"row by row": Sharing(False), "engine": found}
        (slow, fast), count, wrong = measure(run, ways, options.rounds)
        ratio = "void" if wrong else f"{slow / fast:.2f}"
        print(f"| {name} | {count} | {slow:.2f} | {fast:.2f} | {ratio} | {wrong} |", flush=True)
        void = void or bool(wrong)
    allowed = "allows it" if answers else f"does not allow it: {found.why}"
    print(f"\nthe check took {check:.2f} s: the model {allowed}")
    return 1 if void else 0


if __name__ == "__main__":
    sys.exit(main())
