"""The examples of Python in the documents run as they stand, on models and rows of a few bytes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import pytest
import torch

from harness.models.files import ModelRef
from harness.scorers._lm_eval_index import Index
from harness.scorers._lm_eval_tasks import _manager
from tests.methods.test_methods import make

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own, of what tiny models lack

ROOT = Path(__file__).parents[1]
QUESTIONS = [
    {"id": str(n), "question": f"Which is {n}?", "answerKey": "ABCD"[n],
     "choices": {"text": ["one", "two", "three", "four"], "label": list("ABCD")}}
    for n in range(4)
]  # fmt: skip


def example(document: str) -> str:
    """The example that hands our engine to lm-eval."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (code,) = (block for block in blocks if "simple_evaluate" in block)
    return str(code)


@pytest.fixture
def place(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where the names of the examples mean tiny models, with rows in the hub's place."""
    monkeypatch.chdir(tmp_path)
    for name in ("base", "Qwen/Qwen3-0.6B"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(tiny_model)
    splits = ("train", "validation", "test")
    rows = datasets.DatasetDict({s: datasets.Dataset.from_list(QUESTIONS) for s in splits})
    monkeypatch.setattr(datasets, "load_dataset", lambda **_: rows)
    return tmp_path


def run(document: str, task: str) -> dict[str, Any]:
    """What is defined after an example; of lm-eval's tasks, its index has this one alone."""
    names: dict[str, Any] = {}
    manager = _manager(Index().behind(task))
    with (
        mock.patch("lm_eval.evaluator.TaskManager", return_value=manager),
        mock.patch("lm_eval.evaluator.add_env_info"),  # asks git, pip and others
    ):
        exec(compile(example(document), document, "exec"), names)
    return names


def test_the_readmes_example_hands_our_engine_to_lm_eval(place: Path) -> None:
    results = run("README.md", "arc_challenge")["results"]["results"]
    assert 0 <= results["arc_challenge"]["acc,none"] <= 1


def test_the_example_of_several_adapters_tells_each_ones_results(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, method, options in (("lora-a", "lora", {"r": 4}), ("ia3-b", "ia3", {})):
        adapter = make(method, **options)
        model = adapter.attach(adapter.load(ModelRef("base", "float32", "cpu")))
        with torch.no_grad():
            for tensor in adapter.trainable_state(model).values():
                tensor.add_(torch.ones_like(tensor))
        adapter.save(model, place / "out" / folder)
    run("docs/engine.md", "arc_easy")
    lines = [line.partition(" {") for line in capsys.readouterr().out.splitlines()]
    assert {name for name, _, _ in lines} >= {"a", "b"}
    assert all("acc,none" in results for _, _, results in lines)
