"""lm-eval's tasks over a served model: as exact as the server tells, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from harness.core.errors import StageFailed
from harness.inference import HarnessLM
from harness.inference.completions import Reply
from harness.inference.lm_service import ServiceLM
from harness.inference.scored_text import likelihood, tail_of
from harness.inference.service import Service
from harness.inference.service_text import ServiceText, turns_in
from harness.models.endpoint import ServedModel as Settings
from harness.models.files import ModelRef
from tests import lm_tasks
from tests.conftest import Workspace
from tests.served import Serve
from tests.served_model import ServedModel

COMPARED = ["letters", "endings", "winogrande", "f1_mcc", "last_word", "written", "many_stops"]


def service_of(serve: Serve, folder: Path, model: Any) -> Service:
    return Service(Settings(base_url=serve(model).url, model="tiny"), folder)


def asked(kind: str, *arguments: Any) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


@pytest.fixture(scope="module")
def vllm(tiny_model: Path) -> ServedModel:
    return ServedModel(tiny_model)


def test_a_server_that_tells_all_scores_as_the_model_here(
    serve: Serve, tmp_path: Path, tiny_model: Path, vllm: ServedModel
) -> None:
    ref = ModelRef(str(tiny_model), "float32", "cpu")
    here = HarnessLM(ref.load("lm"), ref.tokenizer())
    there = ServiceLM(service_of(serve, tmp_path, vllm))
    pairs = [("The letter is", " b"), ("a b c ", "d e"), ("x", "yy z"), ("one\n", "two")]
    requests = [asked("loglikelihood", *pair) for pair in pairs]
    ours, theirs = here.loglikelihood(requests), there.loglikelihood(requests)
    assert [greedy for _, greedy in theirs] == [greedy for _, greedy in ours]
    assert [value for value, _ in theirs] == pytest.approx([v for v, _ in ours], abs=1e-4)
    options = {"until": ["e"], "max_gen_toks": 6}
    written = [asked("generate_until", text, options) for text in ("abc", "hello", "q:")]
    assert there.generate_until(written) == here.generate_until(written)


@pytest.mark.parametrize(
    ("tells", "said"),
    [("generated", "those of 1 other tokens alone"), ("none", "it gave none"),
     ("zeros", "all the same"), ("shifted", "when it is generated, and")],
)  # fmt: skip
def test_a_server_that_does_not_tell_them_rightly_is_refused(
    serve: Serve, tmp_path: Path, tiny_model: Path, tells: str, said: str
) -> None:
    lm = ServiceLM(service_of(serve, tmp_path, ServedModel(tiny_model, tells)))
    with pytest.raises(StageFailed, match=said) as caught:
        lm.loglikelihood([asked("loglikelihood", "a", " b")])
    assert "use tasks that generate" in str(caught.value)
    assert lm.generate_until([asked("generate_until", "a", {"max_gen_toks": 2})])


def test_what_no_server_tells_is_refused(serve: Serve, tmp_path: Path, vllm: ServedModel) -> None:
    lm = ServiceLM(service_of(serve, tmp_path, vllm))
    with pytest.raises(StageFailed, match="their first token has none"):
        lm.loglikelihood_rolling([asked("loglikelihood_rolling", "text")])
    with pytest.raises(StageFailed, match="no context"):
        lm.loglikelihood([asked("loglikelihood", "", " b")])
    chat = ServiceText().apply_chat_template([{"role": "user", "content": "a"}])
    with pytest.raises(StageFailed, match="writes the chat's template itself"):
        lm.loglikelihood([asked("loglikelihood", chat, " b")])


def test_a_chat_of_a_task_reaches_the_server_as_turns(
    serve: Serve, tmp_path: Path, vllm: ServedModel
) -> None:
    server = serve(vllm)
    lm = ServiceLM(Service(Settings(base_url=server.url, model="tiny"), tmp_path))
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": '{"a": 1}'}]
    context = ServiceText().apply_chat_template(turns)
    lm.generate_until([asked("generate_until", context, {"max_gen_toks": 2})])
    assert server.asked[-1]["messages"] == turns
    assert turns_in(context + "Answer:") == [*turns, {"role": "assistant", "content": "Answer:"}]
    assert turns_in(json.dumps(turns)) is None


def test_tokens_of_a_tail_are_found_by_their_texts_alone() -> None:
    """A server may begin a prompt with a token of its own, and generates one more."""
    scored = (("<s>", None, False), ("a", -1.0, True), (" b", -2.0, False), ("c", -3.0, True),
              ("!", -9.0, True))  # fmt: skip
    assert likelihood(tail_of(scored, 4, "bc")) == (-5.0, False)
    assert likelihood(tail_of(scored, 4, "c")) == (-3.0, True)
    assert tail_of(scored, 4, "x") == ()
    assert tail_of(scored, 0, "c")[0][1] == -3.0
    assert likelihood(()) is None
    assert likelihood(scored[:1]) is None
    assert Reply("", scored=scored).scored == scored


def test_tasks_of_every_kind_are_scored_as_the_model_here(
    serve: Serve, tmp_path: Path, tiny_model: Path, vllm: ServedModel
) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    lm_tasks.write(folder, 4)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    ref = ModelRef(str(tiny_model), "float32", "cpu")
    there_lm = ServiceLM(service_of(serve, tmp_path, vllm))
    models = [HarnessLM(ref.load("lm"), ref.tokenizer()), there_lm]
    here, there = (
        lm_eval.simple_evaluate(model=lm, tasks=COMPARED, task_manager=manager, bootstrap_iters=0)[
            "results"
        ]
        for lm in models
    )
    for task, figures in here.items():
        for name, value in figures.items():
            if isinstance(value, float):
                assert there[task][name] == pytest.approx(value, abs=1e-4), (task, name)


def test_a_suite_scores_tasks_of_a_served_model_beside_the_local_one(
    serve: Serve, workspace: Workspace, vllm: ServedModel
) -> None:
    folder = workspace.folder / "tasks"
    folder.mkdir()
    lm_tasks.write(folder, 6)
    endpoint = {"base_url": serve(vllm).url, "model": "tiny"}
    workspace.write(
        models={**workspace.tree["models"], "there": {"endpoint": endpoint}}, matrix={},
        evaluate=["letters"],
        scorers=[{"lm_eval": {"tasks": ["weighted", "written_fewshot", "rolling"],
                              "include_path": "tasks"}}],
    )  # fmt: skip
    outcome = workspace.run()
    records = {r.label: r for r in outcome.records.values() if r.kind == "score"}
    for task in ("weighted", "written_fewshot"):
        here, there = records[f"tiny lm_eval on {task}"], records[f"there lm_eval on {task}"]
        assert here.ok
        assert there.ok
        for name, metric in here.metrics["metrics"].items():
            told = there.metrics["metrics"][name]["value"]
            assert told == pytest.approx(metric["value"], abs=1e-4), (task, name)
        assert there.cost["calls"] > 0
    refused = records["there lm_eval on rolling"]
    assert "their first token has none" in (refused.error or {})["message"]
    assert [r.label for r in outcome.failed if r.kind == "score"] == ["there lm_eval on rolling"]
