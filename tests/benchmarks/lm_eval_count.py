"""What both sides of lm_eval_speed.py have to compute, counted without a model: seconds, not hours.

    python tests/benchmarks/lm_eval_count.py [--documents 50] [--folder build/lm_eval_speed]

lm-eval's side is taken at its least: no padding, and choices of one token after one context read
once, as its own model does. Weights are those of the model's shape; attention is not counted.
Answers are counted at their full length. The ratio is an upper bound of how much faster the same
hardware can be, but for what attention adds: where many documents share a long prompt, each of
their tokens still attends to all of it.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from harness.inference.lm_text import Encoder  # noqa: E402
from harness.inference.trie import Trie  # noqa: E402
from tests.benchmarks.lm_eval_cases import CASES, model_folder, write_tasks  # noqa: E402
from tests.benchmarks.lm_eval_table import line  # noqa: E402


@dataclass(frozen=True)
class Count:
    """Tokens through a model's layers, and through its head."""

    layers: int
    head: int


def count_scored(pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[Count, Count]:
    """What lm-eval's own model and ours read of contexts and continuations."""
    asked = [((*context, *rest)[:-1], len(rest)) for context, rest in pairs]
    single = {row for row, count in asked if count == 1}
    theirs = [*single, *(row for row, count in asked if count > 1)]
    rows = list(dict.fromkeys(row for row, _ in asked))
    number = {row: i for i, row in enumerate(rows)}
    trie = Trie(rows)
    places = {
        int(place) for row, count in asked for place in trie.places(number[row], len(row) - count)
    }
    read = sum(map(len, theirs))
    return Count(read, read), Count(trie.size, len(places))


def count_answered(prompts: Sequence[Sequence[int]], room: int) -> tuple[Count, Count]:
    """What both read of prompts, and of answers of `room` tokens each."""
    answers = room * len(prompts)
    trie = Trie(list(dict.fromkeys(map(tuple, prompts))))
    # The last token of an answer is read by neither.
    read = sum(map(len, prompts)) + answers - len(prompts)
    return Count(read, answers), Count(trie.size + answers - len(prompts), answers)


def main() -> None:
    """Print the table."""
    import torch
    from lm_eval.tasks import TaskManager
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "lm_eval_speed")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)
    source = model_folder("smollm2", options.folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source))
    head = model.get_output_embeddings().weight.numel()
    layers = model.num_parameters() - head
    tokenizer = AutoTokenizer.from_pretrained(source)
    encoder = Encoder(tokenizer, tokenizer.bos_token_id, None)
    columns = ("case", "rows", "lm-eval's tokens", "ours", "lm-eval's through the head", "ours",
               "weights counted", "floor")  # fmt: skip
    print(line(columns), "|" + "---|" * len(columns), sep="\n")
    for name, case in CASES.items():
        folder = options.folder / "tasks" / f"{name}-{options.documents}"
        names = write_tasks(case, options.documents, folder)
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        asked: list[Any] = []
        for task in manager.load(names)["tasks"].values():
            task.set_fewshot_seed(seed=1234)  # as simple_evaluate does
            task.build_all_requests()
            asked += [request.args for request in task.instances]
        if case.task["output_type"] == "generate_until":
            encoded = encoder.contexts(text for text, _ in asked)
            room = case.task["generation_kwargs"]["max_gen_toks"]
            theirs, ours = count_answered([encoded[text] for text, _ in asked], room)
        else:
            theirs, ours = count_scored(encoder.pairs(asked))
        weights = [each.layers * layers + each.head * head for each in (theirs, ours)]
        print(line([
            name, len(asked), theirs.layers, ours.layers, theirs.head, ours.head,
            f"{weights[0] / weights[1]:.1f}", case.floor,
        ]))  # fmt: skip


if __name__ == "__main__":
    main()
