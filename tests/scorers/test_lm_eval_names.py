"""What `lm_eval --tasks` accepts is accepted under `tasks:`, and means the same."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import lm_eval.tasks
import pytest
import yaml
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.tasks import TaskManager
from lm_eval.utils import pattern_match

from harness.core.errors import SuiteError
from harness.core.outside import digest_known, files_digest
from harness.scorers._lm_eval_index import Index
from harness.scorers._lm_eval_names import resolved_tasks, task_files
from harness.scorers._lm_eval_scan import everywhere
from harness.scorers.lm_eval import FILE, LmEval

WHERE = "scorers[0].lm_eval"
TASK = {
    "dataset_path": "json", "test_split": "test", "doc_to_text": "{{q}}", "doc_to_target": "{{a}}",
}  # fmt: skip


def write(folder: Path, name: str, tree: dict[str, Any] | str) -> Path:
    text = tree if isinstance(tree, str) else yaml.safe_dump(tree, sort_keys=False)
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite's file, a folder for `include_path`, and one of files that are named."""
    for name in ("sums_easy", "sums_hard", "words"):
        write(tmp_path / "inside", name, {"task": name, "tag": "all_sums", **TASK})
    write(tmp_path / "inside", "sums_all", {"group": "sums", "task": ["sums_easy", "sums_hard"]})
    for name in ("one", "two"):
        write(tmp_path / "my", name, {"task": f"my_{name}", **TASK})
    write(tmp_path / "my", "deep/three", {"task": "my_three", **TASK})
    return tmp_path / "suite.yaml"


@pytest.fixture
def beside(suite: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with the names of the folder alone: lm-eval's own take 10 s to read."""
    monkeypatch.chdir(suite.parent)
    alone = partial(TaskManager, include_defaults=False)
    with mock.patch.object(lm_eval.tasks, "TaskManager", alone):
        yield suite


def named(texts: Any, suite: Path) -> list[str]:
    index = Index(suite.parent / "inside")
    return resolved_tasks(LmEval(tasks=texts).tasks, index, suite, WHERE)[0]


@pytest.mark.parametrize(
    "texts",
    [
        "words", "sums_*", "sums*,words", "*sums*", "sum?_easy,sum[!a]", ["sums_hard,words", "s*"],
        "my/one.yaml", "my/*.yaml", "my/one.yaml,words,sums_*", "my", "*/one.yaml", "my/[ot]*.yaml",
    ],
)  # fmt: skip
def test_names_patterns_files_and_folders_mean_what_they_mean_to_lm_eval(
    texts: Any, beside: Path
) -> None:
    config = EvaluatorConfig(tasks=texts, include_path="inside")
    config.process_tasks()
    theirs = [each if isinstance(each, str) else each["task"] for each in config.tasks]
    assert theirs
    names = [name for name in named(texts, beside) if name not in everywhere()]
    assert sorted(names) == sorted(theirs)


@pytest.mark.parametrize(
    "pattern",
    ["mmlu_*", "bbh_*", "leaderboard_*", "arc_[ec]*", "*_gen", "?iqa", "hellaswag", "MMLU_*",
     "truthfulqa*mc[!1]", "*"],
)  # fmt: skip
def test_a_pattern_matches_lm_evals_own_names_as_its_function_does(pattern: str) -> None:
    theirs = pattern_match([pattern], sorted(Index().names()))
    if theirs:
        assert resolved_tasks([pattern], Index(), Path("suite.yaml"), WHERE)[0] == theirs
    else:
        with pytest.raises(SuiteError, match=f"no task matches '{pattern[:4]}"):
            resolved_tasks([pattern], Index(), Path("suite.yaml"), WHERE)


@pytest.mark.slow
def test_lm_evals_own_index_has_the_same_names() -> None:
    assert sorted(Index().names()) == TaskManager().all_tasks


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["words", "wrods"], r"tasks\[1\]: unknown task 'wrods'.*'words'"),
        (["hellaswga_*"], r"tasks\[0\]: no task matches 'hellaswga_\*'; .* 'hellaswag_\*'"),
        (["my/oen.yaml"], r"tasks\[0\]: there is no 'my/oen.yaml'; did you mean 'my/one.yaml'"),
        (["my/x*.yaml"], r"tasks\[0\]: no task in .*my: there is no such file"),
        (["nowhere/*.yaml"], r"tasks\[0\].*nowhere"),
        (["empty"], r"no task in .*empty: there is no such file"),
        (["parts"], r"no task in .*parts: its files define none"),
        (["parts/common.yaml"], r"common.yaml: it names no `task:` and no `group:`"),
        (["parts/broken.yml"], r"tasks\[0\]: .*broken.yml: it cannot be read"),
        (["my", "other/one.yaml"], r"tasks\[1\]: two tasks are called 'my_one', of .*my/one"),
        (["words", "other/words.yaml"], r"two tasks are called 'words', of lm-eval or include_"),
        (["/"], r"no task in /"),
        (["a\0b"], "unknown task|there is no"),
        (["${NO_SUCH_VARIABLE}/x.yaml"], "NO_SUCH_VARIABLE is not set"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_with_its_place_and_the_nearest(
    texts: list[str], says: str, suite: Path
) -> None:
    (suite.parent / "empty").mkdir()
    write(suite.parent / "parts", "common", {"dataset_path": "json"})
    (suite.parent / "parts" / "broken.yml").write_text("task: [\n", encoding="utf-8")
    write(suite.parent / "other", "one", {"task": "my_one", **TASK})
    write(suite.parent / "other", "words", {"task": "words", **TASK})
    with pytest.raises(SuiteError, match=says):
        named(texts, suite)


def refused(path: Path) -> str:
    """Why the file is refused by the plan."""
    scorer = LmEval(tasks=[str(path)]).resolved(WHERE, {}, path)
    with pytest.raises(SuiteError) as fault:
        scorer.require(WHERE, {f"{FILE}_0": path})
    return str(fault.value)


def test_only_code_of_a_named_file_s_own_folder_is_run(suite: Path) -> None:
    """What it includes from elsewhere names functions of elsewhere."""
    folder = suite.parent / "my"
    (suite.parent / "evil.py").write_text("def rows(docs):\n    return docs\n", encoding="utf-8")
    (suite.parent / "common").write_text("process_docs: !function evil.rows\n", encoding="utf-8")
    (folder / "near").write_text("process_docs: !function ..evil.rows\n", encoding="utf-8")
    (folder / "evil.py").symlink_to(suite.parent / "evil.py")
    linked = write(folder, "linked", "task: linked\nprocess_docs: !function evil.rows\n")
    outside = write(folder, "outside", {"include": "../common", "task": "outside", **TASK})
    dotted = write(folder, "dotted", {"include": "near", "task": "dotted", **TASK})
    assert "tasks: " in refused(outside)
    assert "common lies outside" in refused(outside)
    assert "process_docs: !function evil.rows is neither in a file" in refused(linked)
    assert "near: process_docs: !function ..evil.rows is neither" in refused(dotted)
    index = Index(folder)
    for name in ("outside", "linked", "dotted"):
        with pytest.raises(SuiteError, match="include_path"):
            LmEval(tasks=[name]).require(WHERE, {"include_path": folder})
        assert index.find(name) is not None


def test_the_identity_of_a_file_is_of_all_that_it_is_made_of(suite: Path) -> None:
    folder = suite.parent / "my"
    (folder / "common").write_text("process_docs: !function own.rows\n", encoding="utf-8")
    (folder / "own.py").write_text("import helper\n\ndef rows(docs):\n    return docs\n")
    (folder / "helper.py").write_text("x = 1\n", encoding="utf-8")
    (folder / "test.jsonl").write_text("{}\n", encoding="utf-8")
    (folder / "notes.txt").write_text("of no task\n", encoding="utf-8")
    (suite.parent / "rows.jsonl").write_text("{}\n", encoding="utf-8")
    files = [str(folder / "*.jsonl"), str(suite.parent / "rows.jsonl")]
    data = {"data_files": {"test": files}, "name": str(suite.parent / "inside")}
    path = write(
        folder, "whole", {"include": "common", "task": "x", **TASK, "dataset_kwargs": data}
    )

    def identity() -> str:
        return files_digest(path, task_files(path), digest_known)

    seen = {identity()}
    for other in (folder / "notes.txt", suite.parent / "inside" / "words.yaml"):
        other.write_text("still of no task\n", encoding="utf-8")
    assert {identity()} == seen
    for file in ("common", "own.py", "helper.py", "test.jsonl", "../rows.jsonl", "whole.yaml"):
        with (folder / file).open("a", encoding="utf-8") as handle:
            handle.write("\n# changed\n")
        assert identity() not in seen
        seen.add(identity())


def test_a_file_in_the_option_files_is_the_task_that_it_says(suite: Path) -> None:
    scorer = LmEval(tasks=["my_one"], files={"my_one": "my/one.yaml"})
    places = {f"{FILE}_0": suite.parent / "my" / "one.yaml"}
    assert scorer.resolved(WHERE, places, suite).tasks == ["my_one"]  # type: ignore[attr-defined]
    wrong = LmEval(tasks=["my_two"], files={"my_two": "my/one.yaml"})
    with pytest.raises(SuiteError, match=r"files: .*one.yaml defines 'my_one', and not 'my_two'"):
        wrong.resolved(WHERE, places, suite)


def test_a_data_set_that_is_a_folder_is_part_of_a_file_s_identity(suite: Path) -> None:
    rows = suite.parent / "set" / "test.jsonl"
    rows.parent.mkdir()
    rows.write_text("{}\n", encoding="utf-8")
    path = write(suite.parent / "my", "of_folder", {**TASK, "dataset_path": str(rows.parent)})
    assert task_files(path) == [path, rows.resolve()]


def test_a_group_whose_members_are_nowhere_is_refused(suite: Path) -> None:
    """Unless it says itself where the rows of its members lie."""
    lost = write(suite.parent / "my", "lost", {"group": "lost", "task": ["my_one"]})
    assert "lost.yaml: task: unknown task 'my_one'" in refused(lost)
    whole = write(suite.parent / "my", "own", {"group": "own", "task": ["my_one"], **TASK})
    scorer = LmEval(tasks=[str(whole)]).resolved(WHERE, {}, whole)
    scorer.require(WHERE, {f"{FILE}_0": whole})
