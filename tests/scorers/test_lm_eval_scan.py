"""Names of tasks are found as text where lm-eval's own index finds them as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval.tasks._index import TaskIndex

from harness.scorers._lm_eval_index import Index
from harness.scorers._lm_eval_scan import Files, defined, everywhere
from harness.scorers._lm_eval_tasks import _manager

WAYS = {
    # file -> what stands in it
    "plain.yaml": "task: plain\ntag: one\n",
    "quoted.yaml": "\"task\": 'quoted'\n'tag': [\"one\", two]\n",
    "commented.yaml": "task: commented  # task: other\ntag:   # of it\n  # its tags\n  - one # x\n"
    "  - 'two'\n\n  - three\ndescription: |\n  task: not this\n",
    "braces.yaml": "{task: braces, tag: [one, 'two']}\n",
    "indented.yaml": "  task: indented\n  tag: one\n",
    "started.yaml": "# first\n---\ntask: started\ntag: one\n",
    "windows.yaml": "task: windows\r\ntag:\r\n  - one\r\n  - two\r\n",
    "anchor.yaml": "task: &name anchor\ntag: one\ntask_alias: *name\n",
    "typed.yaml": "task: !!str typed\ntag: one\n",
    "folded.yaml": "task: >-\n  folded\ntag: [one]\n",
    "escaped.yaml": 'task: "escape\\u0064"\ntag: one\n',
    "quoted_sharp.yaml": "task: 'a # b'\ntag: \"c # d\"\n",
    "sharp.yaml": "task: a#b\ntag: c#d\n",
    "end.yaml": "tag: one\ntask: end",
    "null.yaml": "task: untagged\ntag: null\n",
    "none.yaml": "task:\ntag: one\n",
    "list.yaml": "task: [plain, quoted]\ntag: one\n",
    "lines.yaml": "task:\n- plain\n- quoted\ntag: one\n",
    "group.yaml": "group: all\ntag: one\ntask:\n  - plain\n  - task: quoted\n    num_fewshot: 3\n",
    "both.yaml": "class: !function x.Y\ntask: made\ngroup: not_this\ntag: one\n",
    "class.yaml": "class: !function x.Y\n",
    "_common": "tag: [one, common]\ndataset_path: json\n",
    "_default_yaml": "task: no_task_of_a_file_without_a_dot\n",
    "short.yml": "task: not_read\n",
    "inherits.yaml": "include: _common\ntask: inherits\n",
    "overrides.yaml": "task: overrides\ninclude: _common\ntag: two\n",
    "several.yaml": "include: [_common, plain.yaml]\ntask: several\n",
    "by_lines.yaml": "include:\n  - overrides.yaml\n  # more\n  - deep/er/more\ntask: by_lines\n",
    "deep/er/more": "tag: more\n",
    "named_by_another.yaml": "include: _default_yaml\n",
    "twice.yaml": "task: plain\ntag: three\n",
    "called_as_a_tag.yaml": "task: two\ntag: one\n",
    "broken.yaml.txt": "task: broken\n",
    "deep/er/task.yaml": "include: ../../_common\ntask: deep\n",
    "__pycache__/task.yaml": "task: left_out\n",
    "odd_bytes.yaml": "task: odd_bytes\ndescription: \xe9\n",
}


def told(names: dict[str, Files]) -> dict[str, Any]:
    return {
        name: (each.kind, sorted(each.tasks) if each.kind == "tag" else str(each.paths[0]))
        for name, each in names.items()
    }


def lm_evals(index: dict[str, Any]) -> dict[str, Any]:
    """Without what has no name, which lm-eval keeps as `None`."""
    return {
        name: (kind, sorted(filter(None, each.tags)) if kind == "tag" else str(each.yaml_path))
        for name, each in index.items()
        if name
        for kind in [each.kind.name.lower().removeprefix("py_")]
    }


def test_every_way_to_write_a_name_is_found_where_lm_eval_finds_it(tmp_path: Path) -> None:
    for name, text in WAYS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8"))
    names = dict(defined(tmp_path))
    assert told(names) == lm_evals(TaskIndex.build([tmp_path]))
    assert {"plain", "braces", "deep", "made", "all", "common"} <= names.keys()


@pytest.mark.slow
def test_names_files_and_tags_are_those_of_lm_evals_own_index() -> None:
    from lm_eval.tasks import TaskManager

    assert told(dict(everywhere())) == lm_evals(TaskManager().task_index)


def test_a_tag_over_several_of_lm_evals_folders_is_whole() -> None:
    files = Index().find("self_consistency")
    assert files is not None
    assert {path.parent.name for path in files.paths} == {"gsm8k", "gsm8k_platinum"}
    manager = _manager(Index().behind("self_consistency"))
    assert manager.task_index["self_consistency"].tags == set(files.tasks)
    assert set(files.tasks) < set(manager.task_index)


def test_a_run_reads_the_files_behind_a_name_and_no_others(tmp_path: Path) -> None:
    members = [{"task": "arc_easy", "num_fewshot": 2}, {"group": "inner", "task": ["piqa"]}, "glue"]
    group = {"group": "mine", "task": members}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")
    (tmp_path / "sst2.yaml").write_text("task: sst2\ndataset_path: json\n", encoding="utf-8")
    names = Index(tmp_path).behind("mine")
    assert {"mine", "arc_easy", "piqa", "glue", "sst2", "rte"} <= names.keys()
    assert len(names) < 20
    assert names["sst2"].paths == [tmp_path / "sst2.yaml"]  # lm-eval's tag, the suite's task
    entries = _manager(names).task_index
    assert entries["sst2"].yaml_path == tmp_path / "sst2.yaml"
    assert {"sst2", "rte", "cola"} <= entries["glue"].tags
