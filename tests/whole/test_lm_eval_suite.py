"""Benchmark tasks in a suite: scored as lm-eval scores the same model, each task a stage of its
own, and a task that cannot be scored leaves the others alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from harness.commands.session import open_suite
from harness.comparison.compare import compare
from harness.core.errors import SuiteError
from harness.store.score_table import ScoreTable
from harness.store.stage import Record
from tests import lm_tasks
from tests.conftest import Workspace

TASKS = ["weighted", "written_fewshot", "rolling"]


@pytest.fixture
def asked(workspace: Workspace) -> Workspace:
    """The tiny suite with the tasks of a folder beside it."""
    folder = workspace.folder / "tasks"
    folder.mkdir()
    lm_tasks.write(folder, 6)
    workspace.tree["scorers"] = [{"lm_eval": {"tasks": TASKS, "include_path": "tasks"}}]
    return workspace


def scores(outcome: Any) -> dict[str, Record]:
    """Label -> record of every score stage."""
    return {r.label: r for r in outcome.records.values() if r.kind == "score"}


def folder_of(workspace: Workspace, record: Record) -> Path:
    return workspace.store / "score" / record.key[:24]


def prepared(workspace: Workspace) -> int:
    """How many sets of requests the store has."""
    return len(list((workspace.store / "requests").iterdir()))


def test_a_suite_scores_tasks_as_lm_eval_scores_the_same_model(
    asked: Workspace, tiny_model: Path
) -> None:
    records = scores(asked.run())
    assert not [label for label, record in records.items() if not record.ok]
    assert len(records) == 3 * len(TASKS)  # the base, full and lora
    manager = TaskManager(include_path=str(asked.folder / "tasks"), include_defaults=False)
    model = HFLM(pretrained=str(tiny_model), dtype="float32", batch_size=2, device="cpu")
    results = lm_eval.simple_evaluate(
        model=model, tasks=TASKS, task_manager=manager, bootstrap_iters=0
    )
    assert results is not None
    tables = {**results["results"], **results.get("groups", {})}
    for task in TASKS:
        metrics = records[f"tiny lm_eval on {task}"].metrics["metrics"]
        assert metrics
        for name, metric in metrics.items():
            expected = tables[task].get(name if "," in name else f"{name},none")
            if expected is not None:  # a group's table has only what its file names
                assert metric["value"] == pytest.approx(float(expected), rel=1e-4, abs=1e-6)
    group = records["tiny lm_eval on weighted"]
    keys = ScoreTable(folder_of(asked, group)).read(["example_id", "cluster"]).to_pydict()
    assert set(keys["cluster"]) == {"letters", "endings"}
    assert group.provenance["scorer"]["chance"] == 0.25


def test_lm_evals_own_files_stand_beside_the_scores(asked: Workspace) -> None:
    record = scores(asked.run(only="zero-shot"))["tiny lm_eval on weighted"]
    folder = folder_of(asked, record)
    (results,) = folder.glob("results_weighted_*.json")
    (samples,) = folder.glob("samples_letters_*.jsonl")
    table = json.loads(results.read_text(encoding="utf-8"))["results"]
    assert "acc,none" in table["letters"]
    lines = samples.read_text(encoding="utf-8").splitlines()
    assert {"doc_id", "arguments", "filtered_resps", "acc"} <= set(json.loads(lines[0]))
    assert {results.name, samples.name} <= set(record.outputs)


def test_a_changed_task_file_or_limit_scores_that_task_alone_again(asked: Workspace) -> None:
    first = asked.run(only="zero-shot")
    assert len(asked.run(only="zero-shot").ran) == 0
    scorers = [
        {"lm_eval": {"tasks": TASKS[:2], "include_path": "tasks"}},
        {"lm_eval": {"tasks": TASKS[2:], "include_path": "tasks", "limit": 3}},
    ]
    asked.tree["scorers"] = scorers
    again = asked.run(only="zero-shot")
    assert len(again.ran) == 1
    assert prepared(asked) == len(TASKS) + 1
    assert scores(again)["tiny lm_eval on rolling"].metrics["rows"] == 3
    data = asked.folder / "tasks" / "test.jsonl"
    data.write_text(data.read_text(encoding="utf-8").replace("Which", "What"), encoding="utf-8")
    changed = asked.run(only="zero-shot")
    assert set(scores(changed)) == set(scores(first))
    assert len(changed.ran) == len(TASKS)


def test_files_and_patterns_are_tasks_and_a_change_of_what_a_file_is_made_of_scores_it_again(
    asked: Workspace,
) -> None:
    folder, alone = asked.folder / "tasks", asked.folder / "alone.yaml"
    task = yaml.safe_load((folder / "endings.yaml").read_text(encoding="utf-8"))
    own = "process_docs: !function own.rows\n"
    alone.write_text(yaml.safe_dump({**task, "task": "alone"}) + own, encoding="utf-8")
    code = asked.folder / "own.py"
    code.write_text("def rows(docs):\n    return docs\n", encoding="utf-8")
    lm = {"tasks": ["alone.yaml", "*weigh*ed"], "include_path": "tasks"}
    asked.tree["scorers"] = [{"lm_eval": lm}]
    first = asked.run(only="zero-shot")
    assert set(scores(first)) == {
        f"tiny lm_eval on {name}" for name in ("alone", "weighted", "unweighted")
    }
    assert all(record.ok for record in first.records.values())
    assert not asked.run(only="zero-shot").ran
    code.write_text("def rows(docs):\n    return docs.select(range(2))\n", encoding="utf-8")
    again = asked.run(only="zero-shot")
    assert len(again.ran) == 1
    assert scores(again)["tiny lm_eval on alone"].metrics["rows"] == 2
    asked.write()
    planned = asked.command("plan", "suite.yaml", "--store", "store")
    assert "the task file" in planned.stdout


def test_a_task_that_is_not_there_is_refused_by_plan_with_the_nearest(asked: Workspace) -> None:
    asked.tree["scorers"] = [{"lm_eval": {"tasks": ["rolling", "roling"], "include_path": "tasks"}}]
    with pytest.raises(
        SuiteError, match=r"scorers\[0\].lm_eval.tasks\[1\]: [^;]*'roling'"
    ) as refused:
        asked.open()
    assert "did you mean 'rolling'" in str(refused.value)


def test_a_task_that_cannot_be_loaded_is_refused_before_anything_is_trained(
    asked: Workspace,
) -> None:
    file = asked.folder / "tasks" / "rolling.yaml"
    task = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump({**task, "test_split": "tset"}), encoding="utf-8")
    asked.write(scorers=[{"lm_eval": {"tasks": ["rolling"], "include_path": "tasks"}}])
    ended = asked.command("run", "suite.yaml", "--store", "store")
    assert ended.returncode == 2, ended.stdout + ended.stderr
    for part in ("scorers[0].lm_eval", "rolling.yaml", "test_split"):
        assert part in ended.stderr
    assert not (asked.folder / "store" / "train").exists()


def test_requests_are_made_once_for_all_variants_of_a_tokenizer_and_need_the_data_no_more(
    asked: Workspace,
) -> None:
    beside = asked.folder / "rows"
    beside.mkdir()
    lm_tasks.write(asked.folder / "tasks", 6, beside)
    (asked.folder / "tasks" / "test.jsonl").unlink()
    (asked.folder / "tasks" / "train.jsonl").unlink()
    first = asked.run(only="zero-shot")
    assert not [record.error for record in first.records.values() if not record.ok]
    assert prepared(asked) == len(TASKS)
    for file in beside.glob("*.jsonl"):
        file.unlink()
    rest = asked.run()
    assert not [record.error for record in rest.records.values() if not record.ok]
    assert len(scores(rest)) == 3 * len(TASKS)
    assert prepared(asked) == len(TASKS)


def test_reports_compare_tasks_with_intervals(asked: Workspace) -> None:
    asked.write(executor={"local": {"slots": 1}})
    ended = asked.command("run", "suite.yaml", "--store", "store", "--report-dir", "report")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    table = (asked.folder / "report" / "comparison.csv").read_text(encoding="utf-8")
    assert "weighted" in table
    assert "exact_match,strict-match" in table
    text = (asked.folder / "report" / "report.md").read_text(encoding="utf-8")
    assert "in 2 clusters" in text


TEMPLATES = {
    "one": "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>",
    "other": "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] ",
}


def test_models_asked_by_other_chat_templates_are_not_compared_and_the_template_is_recorded(
    asked: Workspace, tiny_model: Path
) -> None:
    for name, template in TEMPLATES.items():
        (asked.folder / f"{name}.jinja").write_text(template, encoding="utf-8")
    models = {
        name: {"path": str(tiny_model), "chat_template": f"{template}.jinja"}
        for name, template in (("one", "one"), ("again", "one"), ("other", "other"))
    }
    lm = {"tasks": ["letters"], "include_path": "tasks", "limit": 3, "apply_chat_template": True}
    asked.tree |= {
        "models": models, "matrix": {}, "base": {"zero-shot": {"max_new_tokens": 4}},
        "scorers": [{"lm_eval": lm}],
    }  # fmt: skip
    outcome = asked.run()
    assert prepared(asked) == 2  # one for each template
    opened = asked.open()
    table = compare(opened.plan, outcome.records, opened.store)
    verdicts = {row.group: (row.verdict, row.note) for row in table.rows if row.metric == "acc"}
    assert verdicts["zero-shot@other"] == ("incomparable", "not the same chat template")
    assert verdicts["zero-shot@again"][0] != "incomparable"
    digests = {
        label: record.provenance["scorer"]["chat_template_sha256"]
        for label, record in scores(outcome).items()
    }
    assert len(set(digests.values())) == 2


def test_a_folder_or_function_that_is_not_there_is_refused_by_plan(asked: Workspace) -> None:
    for options in (
        {"include_path": "no-folder"},
        {"datasets": {"a/set": "no_file.py:rows"}},
        {"datasets_path": "no-folder"},
        {"datasets": {"a/set": "rows"}},
    ):
        asked.write(scorers=[{"lm_eval": {"tasks": ["rolling"], **options}}])
        ended = asked.command("plan", "suite.yaml")
        assert ended.returncode == 2, ended.stdout + ended.stderr
        (option,) = options
        assert f"scorers[0].lm_eval.{option}" in ended.stderr


@pytest.mark.parametrize("option", ["include_path", "datasets_path"])
def test_a_folder_that_is_the_whole_disk_is_refused_by_plan(asked: Workspace, option: str) -> None:
    """Everything in such a folder is read for its digest, which would take minutes."""
    asked.write(scorers=[{"lm_eval": {"tasks": ["rolling"], option: "/"}}])
    ended = asked.command("plan", "suite.yaml")
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert f"scorers[0].lm_eval.{option}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_two_scorers_of_one_task_are_told_apart_by_a_label(asked: Workspace) -> None:
    short = {"tasks": ["letters"], "include_path": "tasks", "limit": 2, "num_fewshot": 0}
    scorers: list[Any] = [{"lm_eval": short}, {"lm_eval": {**short, "limit": 3}}]
    asked.write(scorers=scorers)
    with pytest.raises(SuiteError, match=r"scorers\[0\] scores 'letters' too[^`]*`label:`"):
        asked.open(only="zero-shot")
    scorers[1]["lm_eval"]["label"] = "longer"
    asked.tree["scorers"] = scorers
    outcome = asked.run(only="zero-shot")
    assert sorted(r.metrics["rows"] for r in outcome.records.values() if r.kind == "score") == [
        2,
        3,
    ]


@pytest.mark.slow
def test_a_task_with_the_name_and_metric_of_a_data_entry_asks_for_a_label(
    asked: Workspace,
) -> None:
    file = asked.folder / "tasks" / "letters.yaml"
    task = yaml.safe_load((asked.folder / "tasks" / "many_stops.yaml").read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump({**task, "task": "letters"}), encoding="utf-8")
    lm = {"tasks": ["letters"], "include_path": "tasks"}
    asked.tree["scorers"] = ["exact_match", {"lm_eval": lm}]
    run = ("run", "suite.yaml", "--only", "zero-shot", "--store", "store")
    asked.write()
    ended = asked.command(*run)
    assert ended.returncode == 2, ended.stderr
    assert "two scorers have a metric 'exact_match' on 'letters'" in ended.stderr
    asked.write(scorers=["exact_match", {"lm_eval": {**lm, "label": "written"}}])
    assert asked.command(*run).returncode == 0


def test_a_limit_of_the_run_limits_benchmarks_too(asked: Workspace) -> None:
    settings = {"include_path": "tasks"}
    asked.write(scorers=[
        {"lm_eval": {**settings, "tasks": ["letters"]}},
        {"lm_eval": {**settings, "tasks": ["endings"], "limit": 2}},
    ])  # fmt: skip
    limits = [
        stage.config["scorer"]["limit"]
        for rows in (None, 4)
        for stage in open_suite(str(asked.path), (), asked.store, "zero-shot", rows).plan.stages()
        if stage.kind == "score"
    ]
    assert limits == [None, 2, 4, 2]


def test_what_a_benchmark_cannot_mean_is_refused_by_plan(asked: Workspace) -> None:
    for option, message in (
        ({"data": "letters"}, "bring their own examples"),
        ({"fewshot_as_multiturn": True}, "needs apply_chat_template"),
    ):
        asked.write(scorers=[{"lm_eval": {"tasks": ["letters"], **option}}])
        with pytest.raises(SuiteError, match=message):
            asked.open(only="zero-shot")
    tune = {"metric": "acc", "trials": 2, "space": {"sft.learning_rate": [0.1, 0.2]}}
    lm = {"lm_eval": {"tasks": ["letters"], "include_path": "tasks"}}
    asked.write(scorers=[lm, "rouge"], tune=tune)
    with pytest.raises(SuiteError, match="benchmarks judge no trials"):
        asked.open()


def test_requests_that_lost_their_beginning_are_counted_and_told(asked: Workspace) -> None:
    asked.tree["scorers"] = [{"lm_eval": {"tasks": ["letters"], "include_path": "tasks"}}]
    record = scores(asked.run(only="zero-shot"))["tiny lm_eval on letters"]
    about = record.provenance["scorer"]
    assert about["truncated"] == 24  # 6 questions of 4 choices, in a context of 256 bytes
    (note,) = about["answer_notes"]
    assert "24 requests were longer than the model's context of 256 tokens" in note
