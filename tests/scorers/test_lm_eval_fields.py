"""Faults of a task's fields are told by a plan, and what lm-eval accepts is not one of them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from harness.scorers._lm_eval_fields import group_faults, task_faults
from harness.scorers._lm_eval_registry import library, registry
from harness.scorers._lm_eval_scan import everywhere, read

BROKEN = "med_text_classification"
"""lm-eval's tasks that name files on the machine of their author."""
TASK: dict[str, Any] = {
    "task": "one", "dataset_path": "someone/rows", "test_split": "test",
    "output_type": "generate_until", "doc_to_text": "{{question}}", "doc_to_target": "answer",
}  # fmt: skip


def of_library(most: int) -> list[tuple[str, Path, bool]]:
    """Up to so many of lm-eval's tasks and groups of each folder, with their files."""
    folders: dict[tuple[str, ...], list[tuple[str, Path, bool]]] = {}
    for name, files in everywhere().items():
        if files.kind != "tag" and BROKEN not in str(files.paths[0]):
            parts = (*files.paths[0].relative_to(library()).parts[:1], files.kind)
            folders.setdefault(parts, []).append((name, files.paths[0], files.kind == "group"))
    draw = random.Random(0)
    return [one for each in folders.values() for one in draw.sample(each, min(most, len(each)))]


@pytest.mark.parametrize("most", [1, pytest.param(100_000, marks=pytest.mark.slow)])
def test_nothing_is_wrong_with_lm_evals_own_tasks(most: int) -> None:
    files = of_library(most)
    assert len(files) > 200
    for name, path, is_group in files:
        settings = read(path)
        faults = group_faults(settings) if is_group else task_faults(settings, path.parent)
        assert not [*faults], name


def test_the_names_are_those_of_lm_evals_registries() -> None:
    import dataclasses

    import lm_eval.api.metrics
    import lm_eval.filters  # noqa: F401
    from lm_eval.api import registry as theirs
    from lm_eval.api.samplers import SAMPLER_REGISTRY
    from lm_eval.api.task import ALL_OUTPUT_TYPES
    from lm_eval.config.group import AggMetricConfig, GroupConfig
    from lm_eval.config.task import FewshotConfig, TaskConfig

    ours = registry()
    for names, kind in (
        (ours.fields, TaskConfig), (ours.fewshot_fields, FewshotConfig),
        (ours.group_fields, GroupConfig), (ours.group_metric_fields, AggMetricConfig),
    ):  # fmt: skip
        assert names == {field.name for field in dataclasses.fields(kind)}
    assert ours.output_types == set(ALL_OUTPUT_TYPES)
    assert ours.samplers == set(SAMPLER_REGISTRY)
    # Tasks register more, which other tests may have loaded.
    assert set(ours.metrics) <= set(theirs.metric_registry)
    assert set(ours.aggregations) <= set(theirs.aggregation_registry)
    assert set(ours.filters) <= set(theirs.filter_registry)
    package = {"lm_eval.filters", "lm_eval.api"}
    for known, registered in (
        (ours.metrics, theirs.metric_registry), (ours.aggregations, theirs.aggregation_registry),
        (ours.filters, theirs.filter_registry),
    ):  # fmt: skip
        for name in registered:
            module = getattr(registered.get(name), "__module__", "")
            if any(module.startswith(each) for each in package):
                assert name in known


def test_what_a_file_beside_the_task_registers_is_known(tmp_path: Path) -> None:
    task = {**TASK, "filter_list": [{"name": "x", "filter": [{"function": "own", "size": 2}]}],
            "metric_list": [{"metric": "hits", "aggregation": "most"}]}  # fmt: skip
    assert len([*task_faults(task, tmp_path)]) == 2
    (tmp_path / "own.py").write_text(
        '@register_filter("own")\nclass Own(Filter):\n    def __init__(self, size): ...\n'
        '@register_metric(metric="hits", output_type="generate_until")\ndef hits(items): ...\n'
        '@register_aggregation("most")\ndef most(items): ...\n',
        encoding="utf-8",
    )
    assert not [*task_faults(task, tmp_path)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"repeats": 0}, "repeats: is less than 1: 0"),
        ({"num_fewshot": True}, "num_fewshot: is not a number: True"),
        (
            {"fewshot_config": {"sampler": "first"}},
            "fewshot_config.sampler: lm-eval has no 'first'",
        ),
        ({"fewshot_config": {"doc_to_text": "{{"}}, "fewshot_config.doc_to_text: broken Jinja"),
        ({"fewshot_config": {"sampels": []}}, "did you mean `samples`?"),
        ({"metric_list": [{"metric": "exact_mach"}]}, "did you mean `exact_match`?"),
        ({"output_type": "generate_untill"}, "did you mean `generate_until`?"),
    ],
)
def test_a_fault_is_told_with_its_field(
    changes: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    (fault,) = task_faults({**TASK, **changes}, tmp_path)
    assert expected in fault


def test_a_group_s_fault_is_told_with_its_field() -> None:
    group = {"group": "all", "task": ["one"]}
    assert not [*group_faults(group)]
    for members in (None, [], "one"):
        (fault,) = group_faults({**group, "task": members})
        assert fault.startswith(f"task: is no list of the group's tasks: {members!r}")
    assert fault.endswith("it is a `tag`")
    (fault,) = group_faults({**group, "agregate_metric_list": []})
    assert "did you mean `aggregate_metric_list`?" in fault
    (fault,) = group_faults({**group, "aggregate_metric_list": [{"metrics": "acc"}]})
    assert fault.startswith("aggregate_metric_list[0]: has no `metric`")
    (fault,) = group_faults(
        {**group, "aggregate_metric_list": {"metric": "acc", "aggregation": "median"}}
    )
    assert fault.startswith("aggregate_metric_list[0].aggregation")


ODD: list[Any] = [None, 3, 3.5, True, "", "{{", [], {}, [[]], [None], [{}], {"a": []}, {1: 2}]


def test_no_value_of_a_field_is_too_odd_to_be_judged(tmp_path: Path) -> None:
    nested = {
        "metric_list": ("metric", "aggregation"), "filter_list": ("name", "filter"),
        "fewshot_config": tuple(registry().fewshot_fields), "dataset_kwargs": ("data_files",),
        "generation_kwargs": ("until", "max_gen_toks"),
    }  # fmt: skip
    steps = [{"function": odd} for odd in ODD]
    steps += [{"function": "regex", "regex_pattern": odd} for odd in ODD]
    tasks = [{**TASK, field: odd} for field in registry().fields for odd in ODD]
    for field, inner in nested.items():
        for entry in [{key: odd} for key in inner for odd in ODD]:
            tasks += [{**TASK, "dataset_path": "json", field: value} for value in (entry, [entry])]
    whole = {"metric": "acc", "name": "x"}
    tasks += [{**TASK, "metric_list": [{**whole, "aggregation": odd}]} for odd in ODD]
    tasks += [{**TASK, "filter_list": [{"name": "x", "filter": [step]}]} for step in steps]
    tasks += [{**TASK, 1: 2}]
    for task in tasks:
        for fault in task_faults(task, tmp_path):
            assert ":" in fault
    for odd in ODD:
        list(group_faults({"group": "all", "task": odd, "aggregate_metric_list": odd}))
