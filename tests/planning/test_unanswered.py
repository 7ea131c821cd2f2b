"""A plan says what a suite leaves open, which test rows it trains on, and what it scores."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.commands.session import open_suite
from harness.planning.contamination import same_rows
from harness.planning.unanswered import unanswered
from tests.conftest import Workspace

PERPLEXITY = {"perplexity": {"data": "general"}}
UNTRAINED, SEED, FORGOTTEN = "whether training helps", "whether another seed", "what training forge"
ALONE = "how it compares"


@pytest.mark.parametrize(
    ("changes", "open_questions"),
    [
        ({"scorers": ["rouge"]}, [SEED, FORGOTTEN]),
        ({"scorers": ["rouge", PERPLEXITY]}, [SEED]),
        ({"scorers": ["rouge", {"perplexity": {"data": "letters"}}]}, [SEED, FORGOTTEN]),
        ({"scorers": ["rouge", {"kl": {"data": "general"}}], "seeds": [0, 1]}, []),
        ({"scorers": ["rouge", PERPLEXITY], "base": {}, "baseline": None, "seeds": [0, 1]},
         [UNTRAINED]),
        ({"scorers": ["rouge"], "matrix": {}}, [ALONE]),
        ({"scorers": ["rouge"], "matrix": {}, "base": {"zero-shot": {}, "few-shot": {}}}, []),
    ],
)  # fmt: skip
def test_what_a_suite_leaves_open_is_said_with_what_would_answer_it(
    workspace: Workspace, changes: dict[str, Any], open_questions: list[str]
) -> None:
    workspace.write(**changes)
    planned = open_suite(str(workspace.path), (), workspace.store, None, None).plan
    told = list(unanswered(planned))
    assert len(told) == len(open_questions)
    assert all(line.startswith(asked) for line, asked in zip(told, open_questions, strict=True))


@pytest.mark.parametrize(
    ("train", "test", "told"),
    [
        ({"path": "train.jsonl"}, {"path": "train.jsonl"}, "are the same rows"),
        ({"path": "train.jsonl"}, {"path": "test.jsonl"}, ""),
        ({"path": "train.jsonl", "rows": [0, 12]}, {"path": "train.jsonl", "rows": [12, 24]}, ""),
        ({"path": "train.jsonl", "rows": [0, 13]}, {"path": "train.jsonl", "rows": [12, 24]},
         "are slices of one file that overlap"),
        ({"path": "train.jsonl"}, {"path": "train.jsonl", "rows": [12, 24]},
         "are slices of one file that overlap"),
        ({"path": "train.jsonl", "limit": 12}, {"path": "train.jsonl", "rows": [12, 24]}, ""),
        ({"path": "train.jsonl", "where": {"task": "odd"}, "limit": 12},
         {"path": "train.jsonl", "where": {"task": "odd"}, "rows": [12, 24]}, ""),  # unknown
        ({"path": "train.jsonl", "where": {"task": "odd"}},
         {"path": "train.jsonl", "where": {"task": "even"}}, ""),
    ],
)  # fmt: skip
def test_training_rows_that_are_test_rows_are_told_before_a_run(
    workspace: Workspace, train: dict[str, Any], test: dict[str, Any], told: str
) -> None:
    workspace.write(data={**workspace.tree["data"], "letters": {"train": train, "test": test}})
    planned = open_suite(str(workspace.path), (), workspace.store, None, None).plan
    warnings = list(same_rows(planned))
    assert len(warnings) == bool(told)
    assert all(f"data.letters.train and data.letters.test {told}" in each for each in warnings)


def test_plan_counts_the_stages_of_a_run_and_the_tasks_of_a_benchmark(workspace: Workspace) -> None:
    exam = {"lm_eval": {"tasks": ["pocket_*"], "include_path": "pocket/exam"}}
    workspace.write(scorers=["rouge", exam])
    done = CliRunner().invoke(main, ["plan", str(workspace.path), "--store", str(workspace.store)])
    assert "scorers[1].lm_eval scores 13 tasks: pocket_" in done.output
    opened = open_suite(str(workspace.path), (), workspace.store, None, None)
    stages = {stage.key for stage in (*opened.plan.groundwork(), *opened.plan.stages())}
    assert any(stage.kind == "lengths" for stage in opened.plan.groundwork())
    assert f"{len(stages)} to run, 0 cached" in done.output
    assert f"`harness run {workspace.path} --limit 8`" in done.output
