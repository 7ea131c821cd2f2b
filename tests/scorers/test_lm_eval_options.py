"""What lm-eval's users write is read as lm-eval reads it, or refused with what to write instead."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.evaluator_utils import get_sample_size
from lm_eval.utils import simple_parse_args_string
from pydantic import ValidationError

from harness.scorers._lm_eval_options import options_of
from harness.scorers.lm_eval import _ELSEWHERE, LmEval
from harness.suite.suite import Suite


@pytest.mark.parametrize(
    "text",
    [
        "", "temperature=0,top_k=1", "temperature=0.7,do_sample=true", "x=-3,y=1e-3,z=None",
        "until='1',other=word", "a=b=c", " a = 1 , b = 2 ,", "a=,b=TRUE",
    ],
)  # fmt: skip
def test_options_as_text_are_those_of_lm_eval(text: str) -> None:
    theirs = {name.strip(): value for name, value in simple_parse_args_string(text).items()}
    ours = {name.strip(): value for name, value in options_of(text).items()}
    assert ours == theirs
    assert LmEval(tasks=["x"], gen_kwargs=text).gen_kwargs == options_of(text)


def test_tasks_are_a_list_or_a_text_with_commas() -> None:
    assert LmEval(tasks="mmlu, gsm8k").tasks == ["mmlu", "gsm8k"]  # type: ignore[arg-type]


def test_a_limit_is_a_number_or_a_share() -> None:
    scorer = LmEval(tasks=["x"], limit=0.1)
    assert get_sample_size(SimpleNamespace(eval_docs=range(25)), scorer.limit) == 3
    assert scorer.limited(4).limit == 4  # type: ignore[attr-defined]
    assert LmEval(tasks=["x"], limit=10.0).identity() == LmEval(tasks=["x"], limit=10).identity()


def test_each_option_of_lm_eval_is_one_here_or_is_told_its_place() -> None:
    theirs = {field.name for field in dataclasses.fields(EvaluatorConfig)}
    about_logging = {"config", "verbosity", "show_config", "wandb_args", "wandb_config_args",
                     "trackio_args", "hf_hub_log_args"}  # fmt: skip
    requests = {"cache_requests", "rewrite_requests_cache", "delete_requests_cache"}
    assert theirs - about_logging - requests <= LmEval.model_fields.keys() | _ELSEWHERE.keys()
    assert not _ELSEWHERE.keys() & LmEval.model_fields.keys()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tasks": ""}, "tasks"),
        ({"limit": 10.5}, "share below 1"),
        ({"limit": 0}, "limit"),
        ({"gen_kwargs": "temperature"}, "name=value"),
        ({"apply_chat_template": "chatml"}, "chat_template: FILE"),
        ({"confirm_run_unsafe_code": True}, "allow_code_execution"),
        ({"batch_size": 8}, "batch_tokens"),
        ({"model_args": "pretrained=x"}, "models:"),
    ],
)
def test_what_has_another_place_here_is_told(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        LmEval.model_validate({"tasks": ["x"], **changes})


def test_a_suite_of_benchmarks_is_a_name_a_model_and_scorers() -> None:
    text = "name: mine\nmodels: org/some-model\nscorers:\n- lm_eval: {tasks: gsm8k}\n"
    suite = Suite.model_validate(yaml.safe_load(text))
    assert (list(suite.models), list(suite.base), suite.data) == (["some-model"], ["zero-shot"], {})
    whole = {"name": "mine", "models": {"some-model": {"path": "org/some-model"}}, "data": {},
             "base": {"zero-shot": {"num_fewshot": 0}}, "scorers": suite.scorers}  # fmt: skip
    assert suite == Suite.model_validate(whole)


def test_a_matrix_without_rows_is_refused() -> None:
    with pytest.raises(ValidationError, match="no rows to train on"):
        Suite.model_validate({"name": "x", "models": "a/b", "matrix": {"method": ["lora"]}})
