"""Words of other tools are answered with ours, or with the place where they stand."""

from __future__ import annotations

import re
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from harness.cli import main
from harness.core import registry
from harness.core.component import AXES
from harness.core.errors import joined, near, unknown
from harness.core.homes import home, unknown_key
from harness.core.other_tools import _MEMBERS, _OPTIONS, instead, ours, same
from harness.objectives._trl.arguments import optimizers
from harness.suite.sections import SECTIONS
from harness.suite.suite import Suite
from tests.conftest import Workspace
from tests.suite.test_blame import refusal

FIELDS = {
    *(name for models in SECTIONS.values() for model in models for name in model.model_fields),
    *(
        option
        for axis in AXES
        for name in registry.names(axis)
        for option in registry.find(axis, name).model_fields
    ),
}
MEMBERS = {name for axis in AXES for name in registry.names(axis)}


def test_every_word_means_a_name_that_there_is() -> None:
    assert {name for names in _OPTIONS.values() for name in names} <= FIELDS | optimizers()
    assert {name for names in _MEMBERS.values() for name in names} <= MEMBERS


@pytest.mark.parametrize("axis", AXES)
def test_every_member_is_meant_in_any_letters(axis: str) -> None:
    names = registry.names(axis)
    for name in names:
        for typed in (name.upper(), name.title(), name.replace("_", "-"), name.replace("_", " ")):
            assert same(typed, names) == name


@pytest.mark.parametrize(
    ("axis", "word", "meant"),
    [
        ("scorer", "accuracy", "exact_match"),
        ("scorer", "f1", "token_f1"),
        ("scorer", "ROUGE-L", "rouge"),
        ("scorer", "ppl", "perplexity"),
        ("scorer", "lm-evaluation-harness", "lm_eval"),
        ("method", "full_finetuning", "full"),
        ("method", "p-tuning", "p_tuning"),
        ("objective", "pretraining", "cpt"),
        ("objective", "reward_modeling", "reward"),
    ],
)
def test_member_is_known_by_the_word_of_other_tools(axis: str, word: str, meant: str) -> None:
    assert near(word, registry.names(axis)) == meant


@pytest.mark.parametrize("owner", [Suite, registry.find("method", "full")])
def test_option_at_a_wrong_place_is_answered_with_its_place(owner: type[BaseModel]) -> None:
    for axis, name in (("method", "lora"), ("objective", "sft"), ("objective", "ppo")):
        for option in registry.find(axis, name).model_fields.keys() - owner.model_fields.keys():
            told = unknown_key(option, owner)
            places = [place for place in (home(option), instead(option)) if place]
            assert "did you mean" in told or any(place in told for place in places), told


@pytest.mark.parametrize("word", ["lr", "lora_rank", "lora_r", "num_epochs", "max_seq_length"])
def test_place_is_known_by_the_word_of_other_tools_too(word: str) -> None:
    assert f"it is called `{ours(word)[0]}` here; " in home(word)


@pytest.mark.parametrize(
    ("word", "meant"),
    [("batch_size", "per_device_train_batch_size"), ("n_epochs", "num_train_epochs"),
     ("seed", "seeds"), ("dropout", "lora_dropout"), ("steps", "max_steps"), ("metric", "scorers")],
)  # fmt: skip
def test_word_that_is_a_key_here_and_another_one_elsewhere_is_told_as_both(
    word: str, meant: str
) -> None:
    told = unknown_key(word, registry.find("method", "full"))
    assert re.search(rf"`?{word}`?(: | is a key).*; or it is called `{meant}` here; ", told), told


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("bf16", "models: {NAME: {path: ..., dtype: bfloat16}}"),
        ("fp16", "models: {NAME: {path: ..., dtype: float16}}"),
        ("use_cpu", "device_class: cpu}"),
        ("per_device_eval_batch_size", "`args: {per_device_eval_batch_size: ...}`"),
        ("output_dir", "--report-dir"),
        ("load_in_4bit", "`qlora`"),
        ("lora_alpha", "`lora: {lora_alpha: ...}` in `matrix.method`"),
        ("neftune_noise_alpha", "`args: {neftune_noise_alpha: ...}`"),
        ("eval_delay", "the harness decides what is evaluated"),
        ("max_new_tokens", "`generate:`"),
        ("num_epochs", "did you mean 'num_train_epochs'?"),
        ("logging_steps", "report_to"),
    ],
)
def test_option_that_an_objective_lacks_is_answered_with_what_there_is(
    key: str, words: str
) -> None:
    told = unknown_key(key, registry.find("objective", "sft"), "matrix.objective[0].sft")
    assert words in told
    assert "harness list objectives sft" in told


@pytest.mark.parametrize(("objective", "words"), [("grpo", "`args: {top_k: ...}`"),
                                                  ("sft", "answers are greedy")])  # fmt: skip
def test_argument_of_one_trainer_alone_is_told_there_as_its_argument(
    objective: str, words: str
) -> None:
    assert words in unknown_key("top_k", registry.find("objective", objective))


def test_many_names_are_told_by_the_nearest_and_by_the_command_that_lists_all() -> None:
    known = [f"name_{n}" for n in range(300)] + ["wanted"]
    told = unknown("key", "wantde", known, command="harness list keys")
    assert "did you mean 'wanted'?" in told
    assert "(all 301: harness list keys)" in told
    assert len(told) < 200
    few = unknown("key", "b", ["bb", "cc"], command="harness list keys")
    assert "known: bb, cc  (harness list keys)" in few


def test_list_of_names_is_told_once_for_several_mistakes() -> None:
    sft = registry.find("objective", "sft")
    told = joined(unknown_key(key, sft, "sft") for key in ("lerning_rate", "max_lenght", "optm"))
    assert told.count("unknown key") == 3
    assert told.count("harness list objectives sft") == 1
    assert joined(f"mistake {n}" for n in range(12)).endswith("and 2 more of such")


def test_all_independent_mistakes_are_told_at_once(workspace: Workspace) -> None:
    mistakes = {
        "scorers[0]: unknown scorer 'accuracy'": {"scorers": ["accuracy", {"rouge": {"x": 1}}]},
        "scorers[1].rouge: unknown key 'x'": {},
        "matrix.method[0].lora: unknown key 'lora_rank'": {
            "matrix": {
                "method": [{"lora": {"lora_rank": 4}}],
                "objective": [{"sft": {"bf16": True, "max_steps": -3}}],
            }
        },
        "matrix.objective[0].sft: unknown key 'bf16'": {},
        "matrix.objective[0].sft.max_steps": {},
        "evaluate: unknown data 'leters'": {"evaluate": ["leters"]},
        "overrides[0].set.sft: unknown key 'epoch'": {
            "overrides": [{"match": {}, "set": {"sft.epoch": 1}}]
        },
        "models.other: there is no 'no/such/model'": {
            "models": {**workspace.tree["models"], "other": "no/such/model"}
        },
    }
    changes = {key: value for change in mistakes.values() for key, value in change.items()}
    told = refusal(workspace, **changes)
    for words in mistakes:
        assert f"{workspace.path}: {words}" in told
    beside = refusal(workspace, **changes, learning_rate=1e-3)
    assert "unknown key 'learning_rate'" in beside
    assert "unknown scorer 'accuracy'" in beside


def test_each_claim_that_is_wrong_is_told(workspace: Workspace) -> None:
    claims = ["lora is better than full on bleu", "loora is better than full on exact_match",
              "lora is better than full on exact_match"]  # fmt: skip
    told = refusal(workspace, claims=claims)
    assert "claims[0].metric: unknown metric 'bleu'" in told
    assert "the scorer `bleu` measures it" in told
    assert "claims[1].variant: unknown variant 'loora'" in told
    assert "claims[2]" not in told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scorers": "rouge"}, "scorers: a list is needed, `[rouge]`"),
        ({"seeds": 3}, "seeds: a list is needed, `[3]`"),
        ({"matrix": {"method": "lora", "objective": ["sft"]}},
         "matrix.method: a list is needed, `[lora]`"),
    ],
)  # fmt: skip
def test_value_in_the_place_of_a_list_is_shown_as_a_list(
    workspace: Workspace, changes: dict[str, Any], words: str
) -> None:
    assert words in refusal(workspace, **changes)


def test_axis_that_is_an_option_is_told_once_with_its_place(workspace: Workspace) -> None:
    told = refusal(workspace, matrix={**workspace.tree["matrix"], "r": [4, 8]})
    assert told.count("matrix.r") == 1
    assert "it is an option of the method lora" in told


def test_text_of_target_modules_that_matches_nothing_is_shown_as_a_list(
    workspace: Workspace,
) -> None:
    changes = {"method": [{"lora": {"target_modules": "q_proj"}}], "objective": ["sft"]}
    assert "`[q_proj]`" in refusal(workspace, matrix=changes)


def test_first_call_says_where_to_begin() -> None:
    for words in ([], ["--help"], ["run", "no-such.yaml"]):
        assert "harness init" in CliRunner().invoke(main, words).output


def test_value_of_a_wrong_type_hides_no_other_mistake(workspace: Workspace) -> None:
    matrix = {**workspace.tree["matrix"], "data": [["letters"]]}
    told = refusal(workspace, matrix=matrix, exclude=[{"data": "leters"}])
    assert "matrix.data[0]: unknown data" in told
    assert "exclude[0].data: unknown data 'leters'" in told
