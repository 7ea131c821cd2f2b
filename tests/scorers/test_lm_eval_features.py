"""What lm-eval's task files can say: our scorer asks and scores as lm-eval's own model does, and
lm-eval's own tools read what it leaves."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import datasets
import lm_eval
import pytest
from datasets import Dataset
from lm_eval.loggers.evaluation_tracker import EvaluationTracker
from lm_eval.loggers.trackio_logger import _sample_to_trace
from lm_eval.loggers.wandb_logger import WandbLogger
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import (
    get_file_task_name,
    get_latest_filename,
    get_results_filenames,
    get_sample_results_filenames,
    make_table,
    sanitize_task_name,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.importers import lm_eval as importer
from harness.scorers import _lm_eval, _lm_eval_tasks
from harness.scorers.base import LoadedModel, ScoreJob
from harness.scorers.lm_eval import FILE, INCLUDE, REQUESTS, LmEval
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
    """What lm-eval says of the answers that our two stages ask and give.

    Args:
        name: of a task in the folder, or the path of a file.
    """
    scorer, places = LmEval(tasks=[name], include_path=str(folder), **options), {INCLUDE: folder}
    scorer = cast(LmEval, scorer.resolved("scorers[0].lm_eval", places, folder / "suite.yaml"))
    places |= {f"{FILE}_0": Path(file) for file in scorer.files.values()}
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


def theirs(
    loaded: LoadedModel, folder: Path, name: str, metadata: Any = None, **options: Any
) -> Any:
    manager = TaskManager(include_path=str(folder), include_defaults=False, metadata=metadata)
    return lm_eval.simple_evaluate(
        model=HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=8),
        tasks=[name], task_manager=manager, **options,
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


@pytest.mark.parametrize("name", ["shots_processed", "made_one", "deep/two"])
def test_a_task_that_is_named_by_its_file_is_lm_evals(
    name: str, loaded: LoadedModel, folder: Path, tmp_path: Path
) -> None:
    path = str(folder / f"{name}.yaml")
    compare(ours(loaded, folder, path, tmp_path), theirs(loaded, folder, path))


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


def test_metadata_tells_a_task_what_rows_to_make(
    loaded: LoadedModel, folder: Path, tmp_path: Path
) -> None:
    name, told = "told_by_metadata", {"count": 4, "version": 7}
    mine = ours(loaded, folder, name, tmp_path, metadata="count=4,version=7")
    assert (len(mine["samples"][name]), mine["versions"][name]) == (4, 7)
    compare(mine, theirs(loaded, folder, name, metadata=told))
    known = LmEval(tasks=[name]).identity()
    assert "metadata" not in known
    assert LmEval(tasks=[name], metadata=told).identity() != known


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


TIMES = {"date", "git_hash", "start_time", "end_time", "total_evaluation_time_seconds"}
"""What lm-eval tells of a run and not of its results."""
OF_THE_MODEL = {"bootstrap_iters", "model_revision", "model_sha"}
"""What the record of the stage tells of a model, and this file does not."""


def written(results: Any, tracker: Any, place: Path) -> Path:
    """The folder of what lm-eval's own command leaves."""
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    (folder,) = place.iterdir()
    return folder


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Path]]:
    """The results, and the samples of each task, as lm-eval's scripts find them in a folder."""
    files = [str(path) for path in folder.iterdir()]
    newest = get_latest_filename(get_results_filenames(files))
    samples = {
        sanitize_task_name(get_file_task_name(Path(path).name)): Path(path)
        for path in get_sample_results_filenames(files)
    }
    return json.loads(Path(newest).read_text(encoding="utf-8")), samples


@pytest.mark.parametrize("name", ["even_above", "repeated", "inputs", "inline", "several_texts"])
def test_lm_evals_own_tools_read_our_files_as_they_read_its(
    name: str, loaded: LoadedModel, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "ours").mkdir()
    ours(loaded, folder, name, tmp_path / "ours")
    tracker = EvaluationTracker(output_path=str(tmp_path / "theirs"))
    results = theirs(loaded, folder, name, evaluation_tracker=tracker)
    mine, my_samples = read(tmp_path / "ours")
    its_folder = written(results, tracker, tmp_path / "theirs")
    told = [
        {(each.metric, each.evaluation.replace("::", "__")) for each in run.metrics}
        for place in (tmp_path / "ours", its_folder)
        for run in importer.read(place)
    ]
    assert told[0] == told[1] != set()
    its, its_samples = read(its_folder)
    assert make_table(mine) == make_table(its)
    assert ("groups" in mine) is ("groups" in its)
    if "groups" in its:
        assert make_table(mine, "groups") == make_table(its, "groups")
    assert its.keys() - mine.keys() <= TIMES
    assert its["config"].keys() - mine["config"].keys() <= OF_THE_MODEL
    assert mine["task_hashes"] == its["task_hashes"]
    logged = [logger(each) for each in (mine, its)]
    assert logged[0] == logged[1]
    assert my_samples.keys() == its_samples.keys()
    for task, named in its_samples.items():
        path = named.rename(tmp_path / f"{task}.jsonl")  # `datasets` reads no name with `::`
        rows = [Dataset.from_json(str(each)) for each in (my_samples[task], path)]
        assert rows[0].features == rows[1].features
        for part in ("arguments", "target", "filter", "doc", "metrics", "prompt_hash"):
            assert rows[0][part] == rows[1][part]
        kind = "multiple_choice" if "acc" in rows[0].column_names else "generate_until"
        traces = [[_sample_to_trace(TRACES, row, task, kind) for row in each] for each in rows]
        assert len(traces[0]) == len(traces[1]) > 0


TRACES = SimpleNamespace(Trace=lambda **parts: parts)


def logger(results: Any) -> Any:
    """What lm-eval would send to Weights & Biases."""
    wandb = WandbLogger.__new__(WandbLogger)
    wandb.post_init(results)
    return wandb._sanitize_results_dict()
