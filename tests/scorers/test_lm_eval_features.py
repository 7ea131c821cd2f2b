"""What lm-eval's task files can say: our scorer asks and scores as lm-eval's own model does."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import lm_eval
import pytest
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.scorers import _lm_eval, _lm_eval_tasks
from harness.scorers.base import LoadedModel, ScoreJob
from harness.scorers.lm_eval import INCLUDE, REQUESTS, LmEval
from tests.inference.test_lm_engine import assert_equal_tables
from tests.lm_features import CHATS, NAMES, write_all

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own, of what tiny models lack


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module", autouse=True)
def what_is_slow_is_done_once() -> Iterator[None]:
    """Reading the same few files again and again would take most of the time."""
    load = datasets.load_dataset
    read = cache(lambda path, name, options: load(path, name, **json.loads(options)))
    with (
        mock.patch.object(
            datasets, "load_dataset",
            lambda path, name=None, **options: read(path, name, json.dumps(options)),
        ),
        mock.patch("lm_eval.evaluator.add_env_info"),  # asks git, pip and others
    ):  # fmt: skip
        yield


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="float32").eval()
    return LoadedModel(model, AutoTokenizer.from_pretrained(tiny_model))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("features"))


def ours(loaded: LoadedModel, folder: Path, name: str, place: Path, **options: Any) -> Any:
    """What lm-eval says of the answers that our two stages ask and give."""
    scorer = LmEval(tasks=[name], include_path=str(folder), **options)
    places = {INCLUDE: folder}
    scorer.require("scorers[0].lm_eval", places)
    scorer.require_data("scorers[0].lm_eval", places)
    results: list[Any] = []

    def run_tasks(*arguments: Any, **named: Any) -> Any:
        results.append(_lm_eval_tasks.run_tasks(*arguments, **named))
        return results[0]

    (place / "requests").mkdir()
    scorer.prepare(ScoreJob(places, folder=place / "requests"), loaded.tokenizer)
    asked = {**places, "model": loaded, REQUESTS: place / "requests"}
    with mock.patch.object(_lm_eval, "run_tasks", run_tasks):
        assert scorer.score_job(ScoreJob(asked, folder=place))
    return results[0]


def theirs(loaded: LoadedModel, folder: Path, name: str, **options: Any) -> Any:
    return lm_eval.simple_evaluate(
        model=HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=8),
        tasks=[name], bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False), **options,
    )  # fmt: skip


ALIKE = ("group_subtasks", "versions", "n-shot", "higher_is_better", "n-samples")


def compare(mine: Any, its: Any) -> None:
    assert_equal_tables(mine, its)
    for part in ALIKE:
        assert mine[part] == its[part], part
    assert mine.get("groups") == its.get("groups")
    for task, samples in its["samples"].items():
        for own, other in zip(mine["samples"][task], samples, strict=True):
            assert own["arguments"] == other["arguments"]
            for key in ("doc_id", "target", "filter", "metrics", "doc_hash", "target_hash"):
                assert own[key] == other[key]
    assert mine["configs"].keys() == its["configs"].keys()


@pytest.mark.parametrize("name", NAMES)
def test_each_field_of_a_task_file_means_what_it_means_to_lm_eval(
    name: str, loaded: LoadedModel, folder: Path, tmp_path: Path
) -> None:
    compare(ours(loaded, folder, name, tmp_path), theirs(loaded, folder, name))


@pytest.mark.parametrize("multiturn", [True, False])
@pytest.mark.parametrize("name", CHATS)
def test_each_field_of_prompts_means_the_same_in_chats(
    name: str, multiturn: bool, loaded: LoadedModel, folder: Path, tmp_path: Path
) -> None:
    options = {"apply_chat_template": True, "fewshot_as_multiturn": multiturn,
               "system_instruction": "Be short."}  # fmt: skip
    compare(
        ours(loaded, folder, name, tmp_path, **options),
        theirs(loaded, folder, name, **options),
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [("limit", 2), ("limit", 0.5), ("num_fewshot", 1), ("fewshot_seed", 7),
     ("gen_kwargs", {"until": ["a", "e"], "max_gen_toks": 5})],
)  # fmt: skip
def test_an_option_means_what_it_means_to_lm_eval(
    option: str, value: Any, loaded: LoadedModel, folder: Path, tmp_path: Path
) -> None:
    its = {"fewshot_random_seed" if option == "fewshot_seed" else option: value}
    for name in ("shots_processed", "overrides"):
        (tmp_path / name).mkdir()
        mine = ours(loaded, folder, name, tmp_path / name, **{option: value})
        compare(mine, theirs(loaded, folder, name, **its))


def test_answers_that_are_drawn_several_times_differ_and_are_the_same_in_every_run(
    loaded: LoadedModel, folder: Path, tmp_path: Path
) -> None:
    texts = []
    for number in ("first", "second"):
        (tmp_path / number).mkdir()
        results = ours(loaded, folder, "drawn", tmp_path / number)
        texts.append([sample["resps"][0] for sample in results["samples"]["drawn"]])
    assert texts[0] == texts[1]
    assert all(len(each) == 4 for each in texts[0])
    assert all(len(set(each)) > 1 for each in texts[0])
