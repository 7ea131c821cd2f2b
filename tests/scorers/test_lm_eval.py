"""lm-eval's figures are those of our rows, and a task that cannot be loaded says why."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from lm_eval.api.model import LM
from lm_eval.api.registry import get_aggregation

from harness.core.aggregate import AGGREGATES
from harness.core.errors import HarnessError, StageFailed, SuiteError
from harness.scorers import _lm_eval
from harness.scorers._lm_eval import require_metrics, wrong_by_spaces
from harness.scorers._lm_eval_index import Index
from harness.scorers._lm_eval_kinds import KINDS, sums
from harness.scorers._lm_eval_kinds import figure as of_examples
from harness.scorers._lm_eval_rows import Scores, scores_of
from harness.scorers._lm_eval_tasks import build_requests, load_tasks, run_tasks
from harness.scorers.base import SHARE
from harness.scorers.lm_eval import LmEval

WORDS = ["red", "green", "blue", "small", "large", "cat", "dog", "runs", "sleeps", "the", "and"]


class Drawn(LM):
    """A model that answers at random, the same each time."""

    def __init__(self) -> None:
        super().__init__()
        self._random = random.Random(0)

    def loglikelihood(self, requests: Any) -> list[tuple[float, bool]]:
        return [(-self._random.uniform(1, 20), self._random.random() < 0.3) for _ in requests]

    def loglikelihood_rolling(self, requests: Any) -> list[float]:
        return [-self._random.uniform(10, 200) for _ in requests]

    def generate_until(self, requests: Any) -> list[str]:
        return [
            f"so the {self._random.choice(WORDS)} #### {n % 3 + 1}" for n in range(len(requests))
        ]


TASKS: dict[str, dict[str, Any]] = {
    "choices": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "pairs": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": ["no", "yes"],
        "doc_to_target": "{{label}}",
        "metric_list": [{"metric": "f1"}, {"metric": "mcc"}, {"metric": "acc"}],
    },
    "worked": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n"]},
        "metric_list": [{"metric": "exact_match"}],
        "filter_list": [
            {
                "name": "strict-match",
                "filter": [
                    {"function": "regex", "regex_pattern": "#### ([0-9]+)"},
                    {"function": "take_first"},
                ],
            },
            {"name": "whole", "filter": [{"function": "take_first"}]},
        ],
    },
    "brier": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "brier_score"}],
    },
    "text": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}}",
        "metric_list": [
            {"metric": "word_perplexity"},
            {"metric": "byte_perplexity"},
            {"metric": "bits_per_byte"},
        ],
    },
    "ends": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{question}}",
        "doc_to_target": " end",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "translated": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{question}}",
        "generation_kwargs": {"until": ["\n"]},
        "metric_list": [
            {"metric": name} for name in ("bleu", "chrf", "chrf++", "ter", "exact_match")
        ],
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Task files over made-up rows, and two groups of tasks of unequal sizes."""
    rng = random.Random(1)
    for size, name in ((24, "rows"), (7, "few")):
        rows = [
            {
                "question": " ".join(rng.choices(WORDS, k=6)),
                "choices": rng.sample(WORDS, 3),
                "answer": rng.randint(0, 2),
                "label": rng.randint(0, 1),
            }
            for _ in range(size)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    for name, task in TASKS.items():
        write(tmp_path, name, task)
    write(tmp_path, "few_choices", TASKS["choices"], rows="few")
    for name, by_size in (("weighted", True), ("unweighted", False)):
        group = {
            "group": name,
            "task": ["choices", "few_choices"],
            "aggregate_metric_list": [{"metric": "acc", "weight_by_size": by_size}],
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")
    return tmp_path


def write(folder: Path, name: str, task: Mapping[str, Any], rows: str = "rows") -> None:
    data = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{rows}.jsonl")}},
        "test_split": "test",
        "num_fewshot": 0,
        **task,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")


def scored(folder: Path, name: str, by_task: Collection[str] = ()) -> tuple[Scores, dict[str, Any]]:
    loaded = load_tasks([name], Index(folder), {}, allow_code=False)
    results = run_tasks(Drawn(), loaded, name)
    scores = scores_of(
        results["samples"], loaded["tasks"], results["results"], name, by_task=by_task
    )
    return scores, results["results"].get(name, {})


def figure(scores: Scores, name: str) -> float:
    """A metric of all rows, as the score stage makes it."""
    metric = scores.metrics[name]
    sums = {s: np.asarray(sum(r[c] for r in scores.rows)) for s, c in metric.columns.items()}
    sums["n"] = np.asarray(len(scores.rows))
    return float(AGGREGATES[metric.aggregate].compute(sums))


@pytest.mark.parametrize("name", TASKS)
def test_figures_of_our_rows_are_those_of_lm_eval(folder: Path, name: str) -> None:
    scores, expected = scored(folder, name)
    assert len(scores.rows) == 24
    assert scores.metrics
    for metric in scores.metrics:
        key = metric if "," in metric else f"{metric},none"
        assert figure(scores, metric) == pytest.approx(expected[key], abs=1e-12)
    assert not scores.left_out
    told = {key.removesuffix(",none") for key in expected if "," in key and "_stderr" not in key}
    assert told == set(scores.metrics) | set(scores.left_out)


def texts(rng: random.Random, most: int) -> str:
    return " ".join(rng.choices([*WORDS, "Ça", "va,", "42."], k=rng.randint(0, most)))


@pytest.mark.parametrize("references", [0, 1, 3])
@pytest.mark.parametrize("name", ["bleu", "chrf", "chrf++", "ter"])
def test_scores_of_translations_are_lm_evals_with_any_number_of_references(
    name: str, references: int
) -> None:
    """With 0 the reference is a text and not a list of one."""
    rng = random.Random(references)
    for size in (1, 2, 30):
        right = [[f"a {texts(rng, 9)}" for _ in range(references or 1)] for _ in range(size)]
        pairs = [(each if references else each[0], texts(rng, 12)) for each in right]
        theirs = get_aggregation(name)(pairs)
        assert sums(KINDS[name], pairs)
        assert of_examples(KINDS[name], pairs) == pytest.approx(theirs, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("name", "by_task"), [("weighted", []), ("unweighted", ["acc"])])
def test_a_group_means_over_examples_or_over_tasks_as_it_says(
    folder: Path, name: str, by_task: list[str]
) -> None:
    scores, expected = scored(folder, name, by_task)
    assert figure(scores, "acc") == pytest.approx(expected["acc,none"], abs=1e-12)
    assert {row["cluster"] for row in scores.rows} == {"choices", "few_choices"}
    assert scores.chance == pytest.approx(1 / 3)


GROUPS: dict[str, list[dict[str, Any]]] = {
    "each its own": [{"metric": "acc", "weight_by_size": False}, {"metric": "acc_norm"}],
    "one of them listed": [{"metric": "acc_norm", "weight_by_size": False}],
    "of perplexities": [{"metric": "perplexity"}],
    "of F1": [{"metric": "f1"}, {"metric": "acc"}],
    "in other ways": [{"metric": "acc"}],
}
MEMBERS: dict[str, list[str]] = {
    "each its own": ["choices", "few_choices"],
    "one of them listed": ["choices", "few_choices"],
    "of perplexities": ["ends", "few_ends"],
    "of F1": ["pairs", "few_pairs", "choices"],
    "in other ways": ["pairs", "few_own_f1"],
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_has_lm_evals_figures_or_none(folder: Path, name: str) -> None:
    write(folder, "few_ends", TASKS["ends"], rows="few")
    write(folder, "few_pairs", TASKS["pairs"], rows="few")
    own = [{"metric": "acc"}, {"metric": "f1", "aggregation": "mean"}]
    (folder / "own.py").write_text(
        "def values(doc, results):\n    return {'acc': 1.0, 'f1': 0.25}\n", encoding="utf-8"
    )
    write(folder, "few_own_f1", {**TASKS["pairs"], "metric_list": own}, rows="few")
    task = (folder / "few_own_f1.yaml").read_text(encoding="utf-8")
    (folder / "few_own_f1.yaml").write_text(task + "process_results: !function own.values\n")
    lists = {"aggregate_metric_list": GROUPS[name]}
    group = {"group": "a_group", "task": MEMBERS[name], **lists}
    (folder / "a_group.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")
    by_task = [m["metric"] for m in GROUPS[name] if not m.get("weight_by_size", True)]
    scores, expected = scored(folder, "a_group", by_task)
    told = {key.split(",")[0] for key in expected if "," in key and "_stderr" not in key}
    assert told <= set(scores.metrics) | set(scores.left_out)
    for metric in scores.metrics:
        theirs = expected.get(f"{metric},none")
        if theirs is not None:
            assert figure(scores, metric) == pytest.approx(theirs, rel=1e-6)
    assert len({frozenset(row) for row in scores.rows}) == 1  # a table


def test_a_metric_of_some_tasks_is_a_mean_of_their_examples(folder: Path) -> None:
    write(folder, "few_ends", TASKS["ends"], rows="few")
    group = {
        "group": "mixed",
        "task": ["worked", "few_ends", "choices"],
        "aggregate_metric_list": [{"metric": "acc"}],
    }
    (folder / "mixed.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")
    scores, expected = scored(folder, "mixed")
    assert figure(scores, "acc,none") == pytest.approx(expected["acc,none"], abs=1e-12)


def test_figures_of_three_classes_and_of_own_functions_are_lm_evals_or_none(folder: Path) -> None:
    three = {**TASKS["choices"], "metric_list": [{"metric": "mcc"}, {"metric": "acc"}]}
    write(folder, "three", three)
    scores, expected = scored(folder, "three")
    assert "mcc" in scores.left_out
    assert set(scores.metrics) == {"acc"}
    (folder / "own.py").write_text("def mean(items):\n    return max(items)\n", encoding="utf-8")
    write(folder, "own_mean", TASKS["choices"])
    text = (folder / "own_mean.yaml").read_text(encoding="utf-8")
    assert "- metric: acc\n" in text
    (folder / "own_mean.yaml").write_text(
        text.replace("- metric: acc\n", "- metric: acc\n  aggregation: !function own.mean\n"),
        encoding="utf-8",
    )
    scores, expected = scored(folder, "own_mean")
    assert expected["acc,none"] == 1.0
    assert "acc" in scores.left_out
    assert set(scores.metrics) == {"acc_norm"}


@pytest.mark.parametrize(
    ("value", "share"), [("0.37", False), ("37 * doc['label']", False), ("doc['label']", True)]
)
@pytest.mark.parametrize("name", ["acc", "exact_match", "mine"])
def test_a_metric_is_a_share_by_its_values_and_not_by_its_name(
    folder: Path, name: str, value: str, share: bool
) -> None:
    """A share has Wilson's kind of interval, any other mean has Student's and no bounds."""
    code = f"def process_results(doc, results):\n    return {{'{name}': {value}}}\n"
    (folder / "own.py").write_text(code, encoding="utf-8")
    metric = {"metric": name, "aggregation": "mean", "higher_is_better": True}
    write(folder, "own", {**TASKS["ends"], "metric_list": [metric]})
    with (folder / "own.yaml").open("a", encoding="utf-8") as handle:
        handle.write("process_results: !function own.process_results\n")
    scores, expected = scored(folder, "own")
    assert figure(scores, name) == pytest.approx(expected[f"{name},none"])
    assert scores.metrics[name].bounds == (SHARE if share else None)


def test_chance_is_of_the_choices_alone_and_of_all_right_ones(folder: Path) -> None:
    mutual = [{"metric": "acc"}, {"metric": "acc_mutual_info"}]
    write(folder, "mutual", {**TASKS["choices"], "metric_list": mutual})
    scores, expected = scored(folder, "mutual")
    assert scores.chance == pytest.approx(1 / 3)
    assert figure(scores, "acc_mutual_info") == expected["acc_mutual_info,none"]
    write(folder, "two_right", {**TASKS["choices"], "doc_to_target": "{{[0, 2]}}"})
    scores, expected = scored(folder, "two_right")
    assert scores.chance == pytest.approx(2 / 3)
    assert figure(scores, "acc") == pytest.approx(expected["acc,none"])


def test_other_prompts_are_other_examples(folder: Path) -> None:
    asked, _ = scored(folder, "choices")
    write(folder, "choices", {**TASKS["choices"], "doc_to_text": "Q: {{question}}"})
    otherwise, _ = scored(folder, "choices")
    ids = [{row["example_id"] for row in scores.rows} for scores in (asked, otherwise)]
    assert not ids[0] & ids[1]


def test_a_changed_folder_is_read_again(folder: Path) -> None:
    group = {"group": "grows", "task": ["choices"]}
    (folder / "grows.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")
    assert set(load_tasks(["grows"], Index(folder), {}, allow_code=False)["tasks"]) == {"choices"}
    write(folder, "added", TASKS["choices"])
    group["task"] = ["choices", "added"]
    (folder / "grows.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")
    assert len(load_tasks(["grows"], Index(folder), {}, allow_code=False)["tasks"]) == 2


def test_a_task_that_draws_at_random_draws_the_same_for_every_model(folder: Path) -> None:
    (folder / "own.py").write_text(
        "import random\n\ndef drawn(doc, results):\n    return {'acc': random.random()}\n",
        encoding="utf-8",
    )
    write(folder, "drawn", TASKS["choices"])
    text = (folder / "drawn.yaml").read_text(encoding="utf-8")
    (folder / "drawn.yaml").write_text(text + "process_results: !function own.drawn\n")
    first, _ = scored(folder, "drawn")
    state = random.getstate()
    again, _ = scored(folder, "drawn")
    assert random.getstate() == state
    assert figure(first, "acc") == figure(again, "acc")


def test_an_unknown_task_is_answered_with_the_nearest(folder: Path) -> None:
    with pytest.raises(StageFailed, match="did you mean 'choices'"):
        load_tasks(["choises"], Index(folder), {}, allow_code=False)


def test_data_that_only_the_hub_has_is_named_with_ways_to_get_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    write(folder, "far", {**TASKS["choices"], "dataset_path": "nobody/nothing"})
    task = yaml.safe_load((folder / "far.yaml").read_text(encoding="utf-8"))
    (folder / "far.yaml").write_text(yaml.safe_dump(task | {"dataset_kwargs": {}}))
    with pytest.raises(StageFailed) as failed:
        load_tasks(["far"], Index(folder), {}, allow_code=False)
    for part in ("load_dataset('nobody/nothing')", "nobody___nothing", "FILE.py:FUNCTION"):
        assert part in f"{failed.value} {failed.value.fix}"


def test_rows_in_the_place_of_the_hub_are_the_task_s_rows(folder: Path) -> None:
    write(folder, "far", {**TASKS["choices"], "dataset_path": "a/set", "dataset_name": "part"})
    task = yaml.safe_load((folder / "far.yaml").read_text(encoding="utf-8"))
    (folder / "far.yaml").write_text(yaml.safe_dump(task | {"dataset_kwargs": {}}))
    asked: list[str] = []

    def rows(name: str) -> dict[str, list[dict[str, Any]]]:
        asked.append(name)
        return {"test": [{"question": "x", "choices": ["a", "b"], "answer": 1}]}

    loaded = load_tasks(["far"], Index(folder), {"a/set": rows}, allow_code=False)
    assert asked == ["part"]
    assert [doc["question"] for doc in loaded["tasks"]["far"].test_docs()] == ["x"]


CODED = """
import evaluate
code = evaluate.load("code_eval")
code.compute(references=["assert f() == 1"], predictions=[["def f(): return 2"]], k=[1])

def passed(references, predictions):
    return code.compute(references=["assert True"], predictions=[["x = 1"]], k=[1])[0]["pass@1"]

def by_itself(references, predictions):
    exec("x = 1")
    return 1.0
"""


def write_coded(folder: Path, function: str, *, unsafe: bool) -> None:
    (folder / "own.py").write_text(CODED, encoding="utf-8")
    write(folder, "coded", {**TASKS["worked"], "unsafe_code": unsafe})
    text = (folder / "coded.yaml").read_text(encoding="utf-8")
    text = text.replace(
        "metric: exact_match",
        f"metric: !function own.{function}\n  aggregation: mean\n  higher_is_better: true",
    )
    (folder / "coded.yaml").write_text(text, encoding="utf-8")


def test_a_task_that_runs_code_is_refused_where_that_is_off(folder: Path) -> None:
    write_coded(folder, "passed", unsafe=True)
    with pytest.raises(StageFailed, match="code") as failed:
        load_tasks(["coded"], Index(folder), {}, allow_code=False)
    assert "allow_code_execution" in str(failed.value.fix)
    assert load_tasks(["coded"], Index(folder), {}, allow_code=True)["tasks"]


def test_a_task_that_runs_code_in_a_way_of_its_own_is_refused(folder: Path) -> None:
    write_coded(folder, "by_itself", unsafe=True)
    (folder / "own.py").write_text("def by_itself(references, predictions):\n    exec('x = 1')\n")
    with pytest.raises(StageFailed, match="not by evaluate's code_eval"):
        load_tasks(["coded"], Index(folder), {}, allow_code=True)


def test_programs_are_refused_before_anything_is_trained_where_none_can_be_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_coded(folder, "passed", unsafe=True)
    tasks = load_tasks(["coded", "choices"], Index(folder), {}, allow_code=True)["tasks"]
    monkeypatch.setattr(_lm_eval, "refusal", lambda: "bubblewrap is not installed")
    _lm_eval._require_sandbox({"choices": tasks["choices"]})
    with pytest.raises(StageFailed, match="bubblewrap is not installed"):
        _lm_eval._require_sandbox(tasks)


def test_code_that_a_task_does_not_tell_of_is_not_run_and_not_scored(folder: Path) -> None:
    write_coded(folder, "passed", unsafe=False)
    with pytest.raises(StageFailed, match="runs the programs") as failed:
        scored(folder, "coded")
    assert "allow_code_execution" in str(failed.value.fix)


GENERATES = {
    "output_type": "generate_until", "doc_to_target": "{{question}}", "doc_to_choice": None,
    "metric_list": [{"metric": "exact_match"}],
}  # fmt: skip
REGEX = {"function": "regex", "regex_pattern": "("}
MALFORMED: dict[str, tuple[str, dict[str, Any]]] = {
    # fault -> (the field that its message names, what the file has)
    "a draw at temperature 0": (
        "generation_kwargs: do_sample is true and temperature is 0",
        {**GENERATES, "generation_kwargs": {"do_sample": True, "temperature": 0.0}},
    ),
    "no text": ("doc_to_text", {"doc_to_text": None}),
    "broken Jinja": ("doc_to_text", {"doc_to_text": "{{question"}),
    "a field that no row has": ("doc_to_text", {"doc_to_text": "{{nothing.at.all}}"}),
    "a Jinja filter that is none": ("doc_to_text", {"doc_to_text": "{{question|nofilter}}"}),
    "a text that is a list": ("doc_to_text", {"doc_to_text": ["{{question}}"]}),
    "a text that is a mapping": ("doc_to_text", {"doc_to_text": {"a": "b"}}),
    "a broken description": ("description", {"description": "{% for %}"}),
    "targets that no row has": ("doc_to_target", {"doc_to_target": "{{nothing.at.all}}"}),
    "a target beyond the choices": ("doc_to_target", {"doc_to_target": "{{7}}"}),
    "choices that are a number": ("doc_to_choice", {"doc_to_choice": 3}),
    "choices that are numbers": ("doc_to_choice", {"doc_to_choice": [1, 2]}),
    "no choices": ("doc_to_choice", {"doc_to_choice": []}),
    "an empty choice": ("doc_to_choice", {"doc_to_choice": ["", "yes", "no"]}),
    "choices that are one text": ("doc_to_choice", {"doc_to_choice": "{{question}}"}),
    "an unknown metric": ("metric_list", {"metric_list": [{"metric": "no_such_metric"}]}),
    "metrics that are no list": ("metric_list", {"metric_list": "acc"}),
    "metrics without names": ("metric_list", {"metric_list": [{"name": "acc"}]}),
    "a metric that is nothing": ("metric_list", {"metric_list": [{"metric": None}]}),
    "no metrics": ("metric_list", {"metric_list": []}),
    "a metric of another output type": (
        "metric_list",
        {"metric_list": [{"metric": "word_perplexity"}]},
    ),
    "an unknown aggregation": (
        "metric_list",
        {"metric_list": [{"metric": "acc", "aggregation": "no_such"}]},
    ),
    "an unknown output type": ("output_type", {"output_type": "multiple_answer"}),
    "an output type that is a list": ("output_type", {"output_type": ["multiple_choice"]}),
    "filters that are no list": ("filter_list", {"filter_list": "regex"}),
    "a filter without a name": ("filter_list", {"filter_list": [{"filter": []}]}),
    "a filter without functions": ("filter_list", {"filter_list": [{"name": "x"}]}),
    "a filter's function without a name": (
        "filter_list",
        {"filter_list": [{"name": "x", "filter": [{"group_select": 1}]}]},
    ),
    "an unknown filter": (
        "filter_list",
        {"filter_list": [{"name": "x", "filter": [{"function": "no_such"}]}]},
    ),
    "an option that a filter does not have": (
        "filter_list",
        {"filter_list": [{"name": "x", "filter": [{"function": "take_first", "k": 2}]}]},
    ),
    "a regular expression that is none": (
        "filter_list",
        {**GENERATES, "filter_list": [{"name": "x", "filter": [REGEX]}]},
    ),
    "a regular expression that is a number": (
        "filter_list",
        {**GENERATES, "filter_list": [{"name": "x", "filter": [{**REGEX, "regex_pattern": 3}]}]},
    ),
    "no such split": ("test_split", {"test_split": "validation"}),
    "no split": ("test_split", {"test_split": None}),
    "a split that is a list": ("test_split", {"test_split": ["test"]}),
    "no such file": (
        "dataset_kwargs",
        {"dataset_kwargs": {"data_files": {"test": "/nowhere/at/all.jsonl"}}},
    ),
    "a file that is no JSON": (
        "dataset_kwargs",
        {"dataset_kwargs": {"data_files": {"test": "FOLDER/broken.txt"}}},
    ),
    "a file without rows": (
        "dataset_kwargs",
        {"dataset_kwargs": {"data_files": {"test": "FOLDER/empty.txt"}}},
    ),
    "no data at all": ("dataset_path", {"dataset_path": None, "dataset_kwargs": None}),
    "data that is a number": ("dataset_path", {"dataset_path": 3}),
    "options of the data that are a list": ("dataset_kwargs", {"dataset_kwargs": ["x"]}),
    "shots without rows for them": ("fewshot_split", {"num_fewshot": 2, "fewshot_split": "train"}),
    "shots that are a word": ("num_fewshot", {"num_fewshot": "two", "fewshot_split": "test"}),
    "more shots than rows": ("num_fewshot", {"num_fewshot": 99, "fewshot_split": "test"}),
    "an unknown sampler": ("fewshot_config", {"fewshot_config": {"sampler": "no_such"}}),
    "settings of shots that are a list": ("fewshot_config", {"fewshot_config": ["first_n"]}),
    "an unknown field": ("doc_to_txt", {"doc_to_txt": "x"}),
    "generation settings that are a list": (
        "generation_kwargs",
        {**GENERATES, "generation_kwargs": ["x"]},
    ),
    "stop strings that are a number": (
        "generation_kwargs",
        {**GENERATES, "generation_kwargs": {"until": 3}},
    ),
    "a length that is a word": (
        "generation_kwargs",
        {**GENERATES, "generation_kwargs": {"max_gen_toks": "many"}},
    ),
    "repeats that are a word": ("repeats", {"repeats": "two"}),
    "a delimiter that is a number": ("target_delimiter", {"target_delimiter": 3}),
    "an unknown prompt": ("use_prompt", {"use_prompt": "no_such:prompt"}),
}
WRITTEN: dict[str, tuple[str, str]] = {
    # fault -> (what its message names, lines of the file)
    "an unclosed list": ("line", "doc_to_text: [\n"),
    "a tab": ("line", "metadata:\n\tversion: 1\n"),
    "two documents": ("document", "---\ntask: other\n"),
    "an include that is not there": ("include", "include: nothing.yaml\n"),
    "an include of itself": ("include", "include: odd.yaml\n"),
    "a function in no file": ("process_docs", "process_docs: !function nofile.rows\n"),
    "a function that its file does not have": ("nothing", "process_docs: !function own.nothing\n"),
    "a function of an installed package": ("process_docs", "process_docs: !function os.listdir\n"),
    "a function outside the folder": ("process_docs", "process_docs: !function ...out.rows\n"),
    "a function without a file": ("process_docs", "process_docs: !function rows\n"),
    "a function that fails": ("process_docs", "process_docs: !function own.fails\n"),
    "no row that is left": ("process_docs: there is no row", "process_docs: !function own.drops\n"),
    "rows that are nothing": ("process_docs", "process_docs: !function own.forgets\n"),
    "results that are nothing": ("process_results", "process_results: !function own.forgets\n"),
    "a class that is a function": ("class", "class: !function own.forgets\n"),
}
TOLD_LATER = {
    "a field that no row has", "targets that no row has", "a target beyond the choices",
    "choices that are one text", "a file that is no JSON", "more shots than rows",
    "an unknown prompt", "a function that fails", "rows that are nothing", "no row that is left",
    "results that are nothing", "a class that is a function",
}  # fmt: skip
"""What only the rows, or functions that are run, can tell: the `requests` stage."""
OWN = """
def fails(rows):
    raise RuntimeError("it fails")

def forgets(*anything):
    pass

def drops(rows):
    return rows.select([])
"""


def refused_by_plan(folder: Path) -> str:
    """What the plan says of the task `odd`; empty if nothing."""
    try:
        scorer = LmEval(tasks=["odd"], include_path=str(folder))
        scorer.require("scorers[0].lm_eval", {"include_path": folder})
        scorer.require_data("scorers[0].lm_eval", {"include_path": folder})
    except SuiteError as error:
        return str(error)
    return ""


def refusal(folder: Path) -> str:
    """What the plan, else the run, says of the task `odd`; empty if it is scored."""
    if refused := refused_by_plan(folder):
        return refused
    try:
        task = load_tasks(["odd"], Index(folder), {}, allow_code=False)["tasks"]
        build_requests(task, lambda *_: None, limit=None, chat_template=None,
                       system_instruction=None, fewshot_as_multiturn=False)  # fmt: skip
        require_metrics(scored(folder, "odd")[0], "odd", task)
    except HarnessError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_task_is_an_error_that_names_file_and_field(folder: Path, fault: str) -> None:
    field, changes = MALFORMED[fault]
    (folder / "empty.txt").touch()
    (folder / "broken.txt").write_text("{nothing", encoding="utf-8")
    task = {**TASKS["choices"], **changes}
    write(folder, "odd", task)
    file = folder / "odd.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("FOLDER", str(folder)))
    message = refusal(folder)
    assert "odd.yaml" in message
    assert field in message
    assert (refused_by_plan(folder) == "") is (fault in TOLD_LATER)


@pytest.mark.parametrize("fault", WRITTEN)
def test_a_task_file_that_is_odd_itself_is_an_error_that_names_it(folder: Path, fault: str) -> None:
    named, lines = WRITTEN[fault]
    (folder / "own.py").write_text(OWN, encoding="utf-8")
    (folder.parent / "out.py").write_text("def rows(rows):\n    return rows\n", encoding="utf-8")
    write(folder, "odd", TASKS["choices"])
    with (folder / "odd.yaml").open("a", encoding="utf-8") as file:
        file.write(lines)
    message = refusal(folder)
    assert "odd.yaml" in message
    assert named in message
    assert (refused_by_plan(folder) == "") is (fault in TOLD_LATER)


def test_answers_that_are_wrong_by_their_spaces_alone_are_counted() -> None:
    def sample(target: Any, answer: Any, score: float) -> dict[str, Any]:
        return {"target": target, "filtered_resps": [answer], "exact_match": score}

    logged = [
        sample("True", " True", 0.0),
        sample("True", "True", 1.0),
        sample("True", " False", 0.0),
        sample(4, " 4\n", 0.0),
        sample("4", "4", 0.0),  # wrong for another reason of the task's own
        sample("x", (1.0, True), 0.0),
    ]
    assert wrong_by_spaces({"one": logged[:3], "other": logged[3:]}) == 2
