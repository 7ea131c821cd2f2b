"""Small tasks of every kind that lm-eval knows, over made-up rows, written as its YAML files."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

WORDS = [
    "red",
    "green",
    "blue",
    "tall",
    "small",
    "round",
    "old",
    "new",
    "fast",
    "slow",
    "warm",
    "cold",
    "bright",
    "dark",
    "heavy",
]
NAMES = ["Ann", "Bob", "Cleo", "Dan", "Eve", "Finn"]


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows that all tasks read."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        words = draw.sample(WORDS, 8)
        one, other = draw.sample(NAMES, 2)
        made.append({
            "id": number,
            "question": f"Which word is not like {words[0]}, {words[1]} and {words[2]}?",
            "choices": words[3:7],
            "endings": [" ".join(draw.sample(WORDS, draw.randint(2, 6))) for _ in range(4)],
            "label": draw.randrange(4),
            "passage": " ".join(draw.choice(WORDS) for _ in range(draw.randint(5, 30))),
            "sentence": f"{one} thanked {other} because _ had been {words[7]} to them.",
            "options": [one, other],
            "target": words[0],
            "number": draw.randrange(100),
        })  # fmt: skip
    return made


CHOICE = {
    "output_type": "multiple_choice",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
WRITTEN = {"output_type": "generate_until"}
EXACT = {"metric": "exact_match", "ignore_case": True, "ignore_punctuation": True}

TASKS: Mapping[str, Mapping[str, Any]] = {
    "letters": {
        **CHOICE, "doc_to_choice": ["A", "B", "C", "D"], "doc_to_target": "label",
        "doc_to_text": "{{question}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\n"
        "D. {{choices[3]}}\nAnswer:",
        "description": "The following are questions about words.\n\n",
        "num_fewshot": 3, "fewshot_config": {"sampler": "first_n"},
    },
    "endings": {**CHOICE, "doc_to_text": "{{passage}}", "doc_to_target": "label",
                "doc_to_choice": "endings"},
    "endings_fewshot": {**CHOICE, "doc_to_text": "Go on: {{passage}}", "doc_to_target": "label",
                        "doc_to_choice": "endings", "num_fewshot": 2},
    "no_context": {**CHOICE, "doc_to_text": "", "doc_to_target": "label",
                   "doc_to_choice": "choices", "target_delimiter": ""},
    "winogrande": {
        **CHOICE, "doc_to_text": "{{0}}", "doc_to_target": "{{sentence.split('_')[1].strip()}}",
        "doc_to_choice": "{{[sentence.split('_')[0] + options[0], sentence.split('_')[0] +"
        " options[1]]}}", "metric_list": [{"metric": "acc"}],
    },
    "mutual_information": {**CHOICE, "doc_to_text": "{{question}} ", "doc_to_target": "label",
                           "doc_to_choice": "choices",
                           "metric_list": [{"metric": "acc"}, {"metric": "acc_mutual_info"}]},
    "f1_mcc": {**CHOICE, "doc_to_text": "{{passage}}\nIs it long?",
               "doc_to_choice": ["no", "yes"], "doc_to_target": "{{label % 2}}",
               "metric_list": [{"metric": "f1"}, {"metric": "mcc"}, {"metric": "acc"}]},
    "last_word": {
        "output_type": "loglikelihood", "doc_to_text": "{{passage}}", "doc_to_target": "{{target}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling", "doc_to_text": "",
        "doc_to_target": "{{passage}} {{question}} {{passage}} {{sentence}} {{passage}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"},
                        {"metric": "bits_per_byte"}],
    },
    "written": {
        **WRITTEN, "doc_to_text": "{{question}}\nAnswer:", "doc_to_target": "{{target}}",
        "generation_kwargs": {"until": ["\n", "e", "##", "a b"], "max_gen_toks": 12},
        "metric_list": [EXACT],
    },
    "written_fewshot": {
        **WRITTEN, "doc_to_text": "Q: {{passage}} {{number}}\nA:", "doc_to_target": "{{number}}",
        "num_fewshot": 2, "fewshot_config": {"sampler": "first_n"},
        "generation_kwargs": {"until": ["Q:", "</s>"], "max_gen_toks": 16, "do_sample": False,
                              "temperature": 0.0},
        "metric_list": [EXACT],
        "filter_list": [
            {"name": "strict-match", "filter": [
                {"function": "regex", "regex_pattern": "([0-9]+)"}, {"function": "take_first"}]},
            {"name": "flexible-extract", "filter": [
                {"function": "regex", "group_select": -1, "regex_pattern": "([a-z]+)"},
                {"function": "take_first"}]},
        ],
    },
    "translated": {
        **WRITTEN, "doc_to_text": "{{passage}} =", "doc_to_target": "{{passage}}",
        "generation_kwargs": {"until": ["."], "max_gen_toks": 20},
        "metric_list": [{"metric": "bleu"}, {"metric": "chrf"}],
    },
    "many_stops": {
        **WRITTEN, "doc_to_text": "{{sentence}}", "doc_to_target": "{{options[0]}}",
        "generation_kwargs": {"until": list("abcdefgh"), "max_new_tokens": 8},
        "metric_list": [EXACT],
    },
}  # fmt: skip
GROUPS = [
    {"group": "weighted", "task": ["letters", "endings"],
     "aggregate_metric_list": [
         {"metric": "acc", "aggregation": "mean", "weight_by_size": True}]},
    {"group": "unweighted", "task": ["winogrande", "endings_fewshot"],
     "aggregate_metric_list": [
         {"metric": "acc", "aggregation": "mean", "weight_by_size": False}]},
]  # fmt: skip


def names() -> list[str]:
    """What to ask lm-eval for: the groups, and the tasks that are in none of them."""
    inside = {task for group in GROUPS for task in group["task"]}
    return [*(group["group"] for group in GROUPS), *(t for t in TASKS if t not in inside)]


def write(folder: Path, count: int = 6, data: Path | None = None) -> Path:
    """Task files over `count` test rows in a folder.

    Args:
        data: the folder of the rows; default: that of the tasks.
    """
    data = data or folder
    for split, seed in (("test", 0), ("train", 1)):
        lines = [json.dumps(row) for row in rows(count if split == "test" else 8, seed)]
        (data / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, fields in TASKS.items():
        task = {
            "task": name, "dataset_path": "json",
            "dataset_kwargs": {"data_files": {
                split: str(data / f"{split}.jsonl") for split in ("train", "test")
            }},
            "test_split": "test", "training_split": "train", "fewshot_split": "train", **fields,
        }  # fmt: skip
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    for group in GROUPS:
        (folder / f"{group['group']}.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")
    return folder
