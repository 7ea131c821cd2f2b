"""Names of lm-eval's tasks are known without lm-eval, and ready suites name tasks that exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets.load import CachedDatasetModuleFactory
from datasets.naming import camelcase_to_snakecase

from harness.core.errors import SuiteError
from harness.core.locate import package_suites
from harness.scorers import _lm_eval_checks as checks
from harness.scorers._lm_eval_index import Index
from harness.scorers._lm_eval_names import resolved_tasks

READY = sorted(
    path for path in (package_suites() / "benchmarks").glob("*.yaml") if path.stem != "real_cpu"
)
EXPECTED = {
    "mmlu": 57, "gsm8k": 1, "hellaswag": 1, "arc_easy": 1, "arc_challenge": 1,
    "truthfulqa_mc1": 1, "truthfulqa_mc2": 1, "truthfulqa_gen": 1, "bbh": 27, "winogrande": 1,
    "piqa": 1, "ifeval": 1, "humaneval": 1, "mbpp": 1, "lambada_openai": 1, "lambada_standard": 1,
    "wikitext": 1,
}  # fmt: skip
"""What people look for -> the number of tasks behind the name."""


def asked(suite: Path) -> list[dict[str, Any]]:
    tree = yaml.safe_load(suite.read_text(encoding="utf-8"))
    return [scorer["lm_eval"] for scorer in tree["scorers"]]


def settings_of(index: Index, name: str) -> dict[str, Any]:
    return {task.name: task.settings for task in index.tasks(name)}


@pytest.mark.parametrize("suite", READY, ids=lambda path: path.stem)
def test_every_task_of_a_ready_suite_is_one_of_lm_evals_with_data(suite: Path) -> None:
    index = Index()
    for settings in asked(suite):
        names, _ = resolved_tasks(settings["tasks"], index, suite, "scorers[0].lm_eval")
        assert names == settings["tasks"]
        for name in settings["tasks"]:
            tasks = settings_of(index, name)
            assert len(tasks) == EXPECTED.get(name, 1)
            assert all(task["dataset_path"] and task["output_type"] for task in tasks.values())


def test_the_ready_suites_ask_what_people_look_for() -> None:
    names = {name for suite in READY for settings in asked(suite) for name in settings["tasks"]}
    assert names >= set(EXPECTED)
    index = Index()
    for tag in ("glue", "super-glue-lm-eval-v1"):
        assert set(settings_of(index, tag)) <= names


def test_the_page_of_benchmarks_lists_every_ready_suite_with_its_tasks() -> None:
    page = (package_suites().parent / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for suite in READY:
        (line,) = [line for line in page.splitlines() if f"`benchmarks/{suite.stem}`" in line]
        listed = line.split("|")[2].replace(" (27 tasks)", "").split(";")[0].split(",")
        names = [name for settings in asked(suite) for name in settings["tasks"]]
        assert [name.strip().removesuffix(" by the chat template") for name in listed][
            : len(names)
        ] == names


def test_only_tasks_that_run_code_ask_for_leave() -> None:
    for suite in READY:
        for settings in asked(suite):
            if suite.stem == "code":
                with pytest.raises(SuiteError, match="humaneval, mbpp run the programs"):
                    checks.require_code_allowed(settings["tasks"], Index(), "scorers[0].lm_eval")
            else:
                checks.require_code_allowed(settings["tasks"], Index(), "scorers[0].lm_eval")


def test_names_are_known_without_lm_eval_and_torch() -> None:
    code = (
        "import sys\nfrom harness.scorers._lm_eval_index import Index\n"
        "assert len(list(Index().tasks('mmlu'))) == 57\n"
        "assert Index().find('hellaswg') is None\n"
        "print(sorted({'lm_eval', 'torch', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def write(folder: Path, name: str, tree: dict[str, Any] | str) -> None:
    text = tree if isinstance(tree, str) else yaml.safe_dump(tree, sort_keys=False)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def test_a_folder_s_tasks_come_first_with_what_they_include(tmp_path: Path) -> None:
    (tmp_path / "_common").write_text("tag: mine\ndataset_path: a/set\nunsafe_code: true\n")
    write(tmp_path, "one", {"include": "_common", "task": "one", "dataset_name": "part"})
    write(tmp_path, "two", 'include: _common\ntask: "two"  # quoted\nprocess_docs: !function x.y\n')
    (tmp_path / "x.py").write_text("def y(rows):\n    return rows\n")
    write(tmp_path, "hellaswag", {"task": "hellaswag", "dataset_path": "json"})
    members = [
        "one", {"task": "two", "dataset_name": "q"}, {"group": "inner", "task": ["piqa"]},
        {"task": "here", "dataset_path": "b/set"},
    ]  # fmt: skip
    write(tmp_path, "all", {"group": "all", "task": members})
    index = Index(tmp_path)
    kinds = index.names()
    assert [kinds[name] for name in ("one", "mine", "all")] == ["task", "tag", "group"]
    assert set(settings_of(index, "mine")) == {"one", "two"}
    tasks = settings_of(index, "all")
    assert set(tasks) == {"one", "two", "piqa", "here"}
    assert (tasks["one"]["dataset_name"], tasks["two"]["dataset_name"]) == ("part", "q")
    assert settings_of(index, "hellaswag")["hellaswag"]["dataset_path"] == "json"
    with pytest.raises(SuiteError, match="one, two run the programs"):
        checks.require_code_allowed(["all"], index, "scorers[0].lm_eval")
    write(tmp_path, "late", {"task": "late"})
    assert Index(tmp_path).find("late") is not None


def test_a_file_of_the_folder_that_is_no_yaml_is_told_with_its_place(tmp_path: Path) -> None:
    write(tmp_path, "broken", "task: broken\ndoc_to_text: [\n")
    index = Index(tmp_path)
    with pytest.raises(SuiteError, match=r"broken.yaml: it cannot be read: .*line 3"):
        checks.require_readable(["broken"], index, "scorers[0].lm_eval")


def test_an_unknown_name_without_a_near_one_says_where_names_are_listed() -> None:
    with pytest.raises(SuiteError, match=r"tasks\[1\]: unknown task 'qqqqzzzz'\n.*harness list"):
        resolved_tasks(["piqa", "qqqqzzzz"], Index(), Path("suite.yaml"), "scorers[0].lm_eval")


@pytest.mark.parametrize(
    "path",
    ["cais/mmlu", "google/IFEval", "EleutherAI/hendrycks_math", "glue", "TAUR-Lab/MuSR",
     "DigitalLearningGmbH/MATH-lighteval"],
)  # fmt: skip
def test_data_is_looked_for_where_the_datasets_library_keeps_it(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    assert not checks._cached(path, None)
    *owner, name = path.split("/")
    folder = "___".join([*owner, camelcase_to_snakecase(name)])
    (tmp_path / folder / "part" / "0.0.0" / "0123").mkdir(parents=True)
    CachedDatasetModuleFactory(path, cache_dir=str(tmp_path)).get_module()
    assert checks._cached(path, "part")
    assert checks._cached(path, None)
    assert not checks._cached(path, "other")


def test_missing_data_is_named_with_its_place_and_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "cais___mmlu" / "anatomy" / "0.0.0" / "0123").mkdir(parents=True)
    with pytest.raises(SuiteError) as refused:
        checks.require_data(["mmlu", "gsm8k"], Index(), ["openai/gsm8k"], "scorers[0].lm_eval")
    message = str(refused.value)
    for part in ("cais/mmlu (56 configurations)", "load_dataset('cais/mmlu', 'abstract_algebra')",
                 f"cais___mmlu from its ~/.cache/huggingface/datasets into {tmp_path}",
                 "datasets: {cais/mmlu: FILE.py:FUNCTION}"):  # fmt: skip
        assert part in message
    assert "gsm8k" not in message.replace("mmlu, gsm8k", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    checks.require_data(["mmlu"], Index(), [], "scorers[0].lm_eval")  # it can be fetched


@pytest.mark.parametrize("name", ["/", "..", "../..", "~", "a/b", "/x", "", "*", "[", "x\0y"])
def test_a_name_that_is_a_path_is_no_tasks(name: str) -> None:
    """lm-eval's folder of that name is looked in first, and `/` would be the whole disk."""
    assert Index().find(name) is None


def test_a_folder_may_be_called_as_a_task_file_is(tmp_path: Path) -> None:
    (tmp_path / "sums.yaml").mkdir()
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "sums.yaml" / "task.yaml").write_text("task: our_sums\n", encoding="utf-8")
    assert Index(tmp_path).find("our_sums") is not None
