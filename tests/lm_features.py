"""Task files that use every field of lm-eval's, and groups of every form, over made-up rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests import lm_tasks

DATA = {
    "dataset_path": "json", "test_split": "test", "training_split": "train",
    "dataset_kwargs": {"data_files": {s: f"FOLDER/{s}.jsonl" for s in ("train", "test")}},
}  # fmt: skip
CHOICE = {
    "output_type": "multiple_choice", "doc_to_text": "{{passage[:40]}}?", "doc_to_target": "label",
    "doc_to_choice": "choices", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}  # fmt: skip
WRITTEN = {
    "output_type": "generate_until", "doc_to_text": "{{passage[:30]}}",
    "doc_to_target": "{{target}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
    "metric_list": [{"metric": "exact_match"}],
}  # fmt: skip
BLANK = {
    **CHOICE, "doc_to_text": "!function own.which", "doc_to_target": "!function own.after_blank",
    "doc_to_choice": "!function own.before_blank", "metric_list": [{"metric": "acc"}],
}  # fmt: skip
"""As winogrande asks: the choices stand in the context."""
SHOTS = {"num_fewshot": 2, "doc_to_text": "{{target}}:"}
FIRST = {"function": "take_first"}
LETTERS = {"function": "regex", "regex_pattern": "([a-z]+)"}
MEAN = {"metric": "acc", "aggregation": "mean"}
FUNCTIONS = """
from datetime import datetime

from datasets import Dataset, load_dataset
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask, Task

def choices(doc):
    return [f"{word}, {word}" for word in doc["choices"]]

def blank(doc):
    return doc["sentence"].index("_")

def which(doc):
    return doc["label"] % 2

def after_blank(doc):
    return doc["sentence"][blank(doc) + 1:].strip()

def before_blank(doc):
    return [doc["sentence"][:blank(doc)] + option for option in doc["options"]]

def rows(dataset):
    kept = dataset.filter(lambda doc: doc["id"] != 1)
    return kept.map(lambda doc: {"passage": "It is " + doc["target"]})

def shots():
    return [{"target": word, "passage": "so " + word, "label": 1, "choices": list("abcd")}
            for word in ("sun", "moon", "star")]

def counted(count=2, **rest):
    rows = [{"target": str(n), "passage": "n" * n, "label": 0, "choices": ["x", "y"]}
            for n in range(1, int(count) + 1)]
    return {"test": Dataset.from_list(rows)}

def query(doc):
    return doc["passage"]

def longest(resps, docs):
    return [[max(each, key=len)] for each in resps]

def odd_values(dataset):
    odd = {"when": datetime(2020, 1, 31), "raw": b"x", "none": None, "in": [{"a": [None, "x"]}]}
    return dataset.map(lambda doc: odd)

def varying(doc):
    return tuple(doc["choices"][: 2 + doc["id"] % 3])

def zero(doc):
    return 0

def lengths(doc, results):
    size = len(doc["passage"])
    return {"acc": float(results[0][1]), "length": size, "pair": (size, 2.0), "text": doc["target"]}

def of_pairs(items):
    return sum(one / other for one, other in items)

def joined(items):
    return len("".join(items))

def two_scores(references, predictions, **options):
    return {"one": 1.0, "length": float(len(predictions[0]))}

class Whole(Task):
    # A class of its own, which asks in three ways at once.
    VERSION, OUTPUT_TYPE = 3, "loglikelihood"

    def __init__(self, config=None):
        super().__init__(config={"metadata": {"version": 3}})

    def download(self, *arguments, **options):
        rows = {"test": "FOLDER/test.jsonl"}
        self.dataset = load_dataset("json", data_files=rows)

    def has_training_docs(self):
        return False

    has_validation_docs = has_training_docs

    def has_test_docs(self):
        return True

    def test_docs(self):
        return self.dataset["test"]

    def doc_to_text(self, doc):
        return doc["passage"][:20]

    def doc_to_target(self, doc):
        return " " + doc["target"]

    def construct_requests(self, doc, ctx, apply_chat_template=False, chat_template=None, **of):
        asked = [("generate_until", (ctx, {"until": ["e"], "max_gen_toks": 5})),
                 ("loglikelihood", (ctx, " " + doc["target"])),
                 ("loglikelihood_rolling", (doc["passage"],))]
        return [Instance(request_type=kind, doc=doc, arguments=each, idx=n, **of)
                for n, (kind, each) in enumerate(asked)]

    def process_results(self, doc, results):
        text, (_, greedy), rolling = results
        return {"length": len(text), "greedy": int(greedy), "likely": float(rolling > -200)}

    def aggregation(self):
        return {"length": mean, "greedy": mean, "likely": mean}

    def higher_is_better(self):
        return {"length": True, "greedy": True, "likely": True}

class Made(ConfigurableTask):
    # As lm-eval's own classes do it: the name is given once it is built.
    def __init__(self, config):
        kept = {k: v for k, v in config.items() if k not in ("task", "class")}
        super().__init__(config=kept)
"""

TASKS: dict[str, dict[str, Any]] = {
    "repeated": {
        **WRITTEN, "repeats": 3, "filter_list": [
            {"name": "maj@3", "filter": [LETTERS, {"function": "majority_vote"}, FIRST]},
            {"name": "maj@2", "filter": [
                {"function": "take_first_k", "k": 2}, LETTERS, {"function": "majority_vote"},
                FIRST]},
            {"name": "longest", "filter": [
                {"function": "custom", "filter_fn": "!function own.longest"}, FIRST]},
            {"name": "none", "filter": [FIRST]},
        ],
    },
    "repeated_choice": {**CHOICE, "repeats": 2},
    "clean": {**WRITTEN, "should_decontaminate": True},
    "clean_by_field": {**WRITTEN, "should_decontaminate": True,
                       "doc_to_decontamination_query": "passage"},
    "clean_by_function": {**CHOICE, "should_decontaminate": True,
                          "doc_to_decontamination_query": "!function own.query"},
    "inputs": BLANK,
    "inputs_with_shots": {
        **BLANK, "num_fewshot": 2, "description": "Who was it?\n", "fewshot_delimiter": "\n--\n",
    },
    "choices_by_function": {**CHOICE, "doc_to_choice": "!function own.choices"},
    "choices_by_name": {**CHOICE, "doc_to_choice": {"a": "yes", "b": "no", "c": "so", "d": "oh"}},
    "several_right": {**CHOICE, "doc_to_target": "{{[label, 0]}}"},
    "delimiters": {**CHOICE, **SHOTS, "target_delimiter": "\n", "fewshot_delimiter": "\n###\n"},
    "no_delimiter": {**CHOICE, **SHOTS, "target_delimiter": "", "fewshot_delimiter": " "},
    "wide_delimiter": {**CHOICE, **SHOTS, "target_delimiter": " -> "},
    "described": {**CHOICE, **SHOTS, "description": "About {{target}}.\n\n"},
    "prefixed": {**CHOICE, **SHOTS, "gen_prefix": "It is"},
    "prefixed_by_row": {**WRITTEN, **SHOTS, "gen_prefix": "The {{target}}"},
    "prefixed_by_field": {**WRITTEN, "gen_prefix": "target"},
    "first_shots": {**CHOICE, **SHOTS, "fewshot_config": {"sampler": "first_n"}},
    "own_shots": {
        **CHOICE, **SHOTS, "fewshot_split": None, "training_split": None,
        "fewshot_config": {"sampler": "first_n", "samples": [
            {"target": "one", "label": 0, "choices": ["x", "y"]},
            {"target": "two", "label": 1, "choices": ["v", "w"]}]},
    },
    "shots_by_function": {
        **CHOICE, **SHOTS, "fewshot_split": None, "training_split": None,
        "fewshot_config": {"samples": "!function own.shots"},
    },
    "shots_of_their_own_form": {
        **WRITTEN, **SHOTS, "fewshot_config": {
            "sampler": "first_n", "doc_to_text": "So: {{target}}", "doc_to_target": "{{number}}!",
            "fewshot_delimiter": "\n\n\n", "target_delimiter": "=", "gen_prefix": ""},
    },
    "shots_of_the_test": {**CHOICE, **SHOTS, "fewshot_split": "test"},
    "shots_of_a_split": {**CHOICE, **SHOTS, "fewshot_split": None,
                         "fewshot_config": {"split": "train", "sampler": "first_n"}},
    "processed": {**CHOICE, "process_docs": "!function own.rows", "num_fewshot": 1},
    "shots_processed": {**WRITTEN, "num_fewshot": 1, "fewshot_config": {
        "process_docs": "!function own.rows"}},
    "versioned": {**CHOICE, "metadata": {"version": 2.5, "of": ["x"]}, "task_alias": "Versioned"},
    "metadata_is_a_number": {**CHOICE, "metadata": 1.0},
    "metadata_is_a_list": {**CHOICE, "metadata": [{"version": 1}], "task_list": ["x"]},
    "made_one": {**CHOICE, "class": "!function own.Made"},
    "made_two": {**CHOICE, "class": "!function own.Made", "dataset_kwargs": {"data_files": {
        "train": "FOLDER/train.jsonl", "test": "FOLDER/train.jsonl"}}},
    "several_texts": {**WRITTEN, "doc_to_target": "{{[target, 'x']}}"},
    "answers_are_choices": {**WRITTEN, "doc_to_choice": "choices", "doc_to_target": "label"},
    "told_by_metadata": {**CHOICE, "dataset_path": None, "dataset_kwargs": None,
                         "training_split": None, "custom_dataset": "!function own.counted",
                         "metadata": {"version": 2}},
    "whole": {"class": "!function own.Whole"},
    "odd_values": {**CHOICE, "process_docs": "!function own.odd_values"},
    "varying_choices": {**CHOICE, "doc_to_choice": "!function own.varying",
                        "doc_to_target": "!function own.zero"},
    "target_is_a_text": {**CHOICE, "doc_to_target": "{{choices[label]}}"},
    "own_aggregations": {
        "output_type": "loglikelihood", "doc_to_text": "{{passage}}", "doc_to_target": "{{target}}",
        "process_results": "!function own.lengths", "metric_list": [
            MEAN, {"metric": "length", "aggregation": "mean", "higher_is_better": False},
            {"metric": "pair", "aggregation": "!function own.of_pairs"},
            {"metric": "text", "aggregation": "!function own.joined"}],
    },
    "two_scores": {**WRITTEN, "metric_list": [
        {"metric": "!function own.two_scores", "aggregation": "mean"}]},
    "one": {**CHOICE, "tag": "tagged"},
    "deep/two": {**CHOICE, "tag": ["tagged", "other"]},
    "deep/er/three": {**CHOICE, "tag": "tagged", "dataset_kwargs": {"data_files": {
        "train": "FOLDER/train.jsonl", "test": "FOLDER/few.jsonl"}}},
}  # fmt: skip
GROUPS: dict[str, dict[str, Any]] = {
    "overrides": {
        "group": "overrides", "group_alias": "All of them", "metadata": {"version": 3},
        "aggregate_metric_list": [{**MEAN, "weight_by_size": True}],
        "task": ["one", {"task": "two", "num_fewshot": 2, "task_alias": "Second"},
                 {"task": "three", "description": "Now:\n", "target_delimiter": ""}],
    },
    "defaults": {"group": "defaults", "task": ["one", "three"], "num_fewshot": 1,
                 "description": "For all.\n", "aggregate_metric_list": MEAN},
    "inline": {
        "group": "inline", "aggregate_metric_list": [MEAN], "task": [
            "one", {"task": "new", **CHOICE, "DATA": ""},
            {"group": "inner", "group_alias": "Inner", "aggregate_metric_list": [MEAN],
             "task": ["two", {"task": "newer", **CHOICE, "target_delimiter": ":", "DATA": ""}]},
        ],
    },
    "by_size": {
        "group": "by_size", "aggregate_metric_list": [
            {**MEAN, "weight_by_size": True}, {"metric": "acc_norm", "weight_by_size": False}],
        "task": ["even", "described", "first_shots"],
    },
    "even": {"group": "even", "task": ["one", "three"], "aggregate_metric_list": [
        {**MEAN, "weight_by_size": False}, {"metric": "acc_norm", "filter_list": "none"}]},
    "even_above": {
        "group": "even_above", "task": ["even", {"group": "by_size"}],
        "aggregate_metric_list": [{**MEAN, "weight_by_size": False}],
    },
    "of_a_tag": {"group": "of_a_tag", "task": ["tagged"], "aggregate_metric_list": [MEAN]},
    "a_group_otherwise": {"group": "a_group_otherwise", "task": [
        {"group": "even", "num_fewshot": 1, "target_delimiter": "\n"}]},
    "without_means": {"group": "without_means", "task": ["one", "written_too"]},
    "of_classes": {"group": "of_classes", "task": ["made_one", "made_two"],
                   "aggregate_metric_list": [MEAN]},
    "filtered": {"group": "filtered", "task": ["repeated", "clean"], "aggregate_metric_list": [
        {"metric": "exact_match", "filter_list": ["none", "maj@3"]}]},
}  # fmt: skip
TASKS["written_too"] = dict(WRITTEN)
DRAWN = {**WRITTEN, "repeats": 4, "generation_kwargs": {
    "do_sample": True, "temperature": 1.0, "max_gen_toks": 6, "until": ["\n"]}}  # fmt: skip
NAMES = [*(name.rpartition("/")[2] for name in TASKS), *GROUPS, "tagged"]
CHATS = ["prefixed", "prefixed_by_row", "prefixed_by_field", "described", "inputs_with_shots",
         "own_shots", "delimiters", "wide_delimiter", "shots_of_their_own_form"]  # fmt: skip


def write_all(folder: Path) -> Path:
    """The files of all these tasks and groups in a folder."""
    lm_tasks.write(folder, 5)
    for path in folder.glob("*.yaml"):
        path.unlink()
    lines = (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "few.jsonl").write_text("\n".join(lines[:2]) + "\n", encoding="utf-8")
    for name, fields in {**TASKS, "drawn": DRAWN}.items():
        write(folder, name, {"task": name.rpartition("/")[2], **DATA, **fields})
    for name, group in GROUPS.items():
        write(folder, name, group)
    return folder


def write(folder: Path, name: str, tree: dict[str, Any]) -> None:
    """A task's file, with functions and data of the folder."""

    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            parts = {k: whole(v) for k, v in value.items() if k != "DATA"}
            return {**(DATA if "DATA" in value else {}), **parts}
        return [whole(each) for each in value] if isinstance(value, list) else value

    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(whole(tree), sort_keys=False).replace("FOLDER", str(folder))
    path.write_text(re.sub(r"'(!function [\w.]+)'|\"(!function [\w.]+)\"", r"\1\2", text))
    functions = FUNCTIONS.replace("FOLDER", str(folder))
    (path.parent / "own.py").write_text(functions, encoding="utf-8")
