"""Answers depend on the suite alone: a model's generation_config.json changes none of them."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import ModelError
from tests.conftest import Workspace

OTHER: dict[str, Any] = {
    "max_length": 7, "max_new_tokens": 2, "min_length": 40, "min_new_tokens": 9,
    "early_stopping": True, "max_time": 1e-9, "stop_strings": ["a"], "do_sample": True,
    "num_beams": 3, "use_cache": False, "cache_implementation": "static", "temperature": 3.0,
    "top_k": 2, "top_p": 0.2, "min_p": 0.3, "top_h": 0.3, "typical_p": 0.4,
    "epsilon_cutoff": 0.3, "eta_cutoff": 0.3, "repetition_penalty": 50.0,
    "encoder_repetition_penalty": 50.0, "length_penalty": 4.0, "no_repeat_ngram_size": 1,
    "bad_words_ids": [[i] for i in range(40, 200)], "renormalize_logits": True,
    "forced_bos_token_id": 9, "forced_eos_token_id": 0, "remove_invalid_values": True,
    "exponential_decay_length_penalty": [1, 9.0], "suppress_tokens": list(range(40, 200)),
    "begin_suppress_tokens": list(range(40, 200)),
    "sequence_bias": [[[i], -90.0] for i in range(99)],
    "token_healing": True, "guidance_scale": 9.0,
    "watermarking_config": {"greenlist_ratio": 0.1, "bias": 50.0}, "num_return_sequences": 3,
    "output_attentions": True, "output_hidden_states": True, "output_scores": True,
    "output_logits": True, "return_dict_in_generate": True, "encoder_no_repeat_ngram_size": 1,
    "decoder_start_token_id": 9, "is_assistant": True, "num_assistant_tokens": 3,
    "num_assistant_tokens_schedule": "heuristic", "assistant_confidence_threshold": 0.9,
    "prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 2, "assistant_early_exit": 1,
    "assistant_lookbehind": 3, "target_lookbehind": 3, "low_memory": True, "penalty_alpha": 0.6,
    "dola_layers": "low", "diversity_penalty": 5.0, "num_beam_groups": 2,
    "constraints": [1], "force_words_ids": [[65]], "prefill_chunk_size": 2,
}  # fmt: skip
"""A value of each field that greedy decoding or sampling would do something else with, or crash."""
WITHOUT = {
    "bos_token_id", "eos_token_id", "pad_token_id",  # token ids are the model's to say
    "cache_config", "max_cache_len", "use_mtp", "speculation_type", "assistant_ensemble_weight",
    "compile_config", "disable_compile", "continuous_batching_config",  # how, never what
    "transformers_version",
}  # fmt: skip


@pytest.fixture
def plain(tiny_model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    return folder


def ask(folder: Path, **fields: Any) -> None:
    path = folder / "generation_config.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**told, **fields}), encoding="utf-8")


def answers(folder: Path) -> tuple[list[str], list[str], list[list[int]]]:
    """Greedy answers, drawn ones, and a policy's rollouts."""
    from harness.inference.generate import generate
    from harness.models.files import ModelRef
    from harness.objectives._ppo.rollout import Sampling, sample

    ref = ModelRef(str(folder), "float32", "cpu")
    model, tokenizer = ref.load(), ref.tokenizer()
    prompts = [tokenizer(text)["input_ids"] for text in ("one two three", "x")]
    options = {
        "max_new_tokens": 12, "batch_tokens": 4096, "until": [], "temperature": 1.0, "top_p": 1.0,
    }  # fmt: skip
    greedy = generate(model, tokenizer, prompts, options, lambda *_: None)
    drawn = generate(model, tokenizer, prompts, options, lambda *_: None, seeds=[1, 2])
    how = Sampling(frozenset({0}), 1, 12, 1.0, 1.0, 4096)
    rolled = sample(model, prompts, [1, 2], how)
    return [a.raw for a in greedy], [a.raw for a in drawn], rolled.answers


def test_every_field_of_the_config_is_tried_or_named() -> None:
    from transformers import GenerationConfig

    fields = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    assert fields <= OTHER.keys() | WITHOUT


@pytest.mark.parametrize("field", sorted(OTHER))
def test_a_loaded_model_knows_nothing_of_a_field_but_token_ids(field: str, plain: Path) -> None:
    from transformers import GenerationConfig

    from harness.models.generation_defaults import plain_config

    wanted, _ = plain_config(str(plain), None)
    ask(plain, **{field: OTHER[field]})
    found, asks = plain_config(str(plain), None)
    assert found.to_dict() == wanted.to_dict()
    assert found.eos_token_id == 0
    assert getattr(found, field) == getattr(GenerationConfig(), field)
    assert asks.keys() == {field} - {"use_cache", "decoder_start_token_id"}


@pytest.mark.slow
@pytest.mark.parametrize("field", sorted(OTHER))
def test_no_field_of_the_models_file_changes_an_answer(field: str, plain: Path) -> None:
    wanted = answers(plain)
    ask(plain, **{field: OTHER[field]})
    assert answers(plain) == wanted


def test_all_fields_at_once_change_no_answer(plain: Path) -> None:
    wanted = answers(plain)
    ask(plain, **OTHER)
    assert answers(plain) == wanted


def test_requests_in_an_old_config_json_change_no_answer(plain: Path) -> None:
    (plain / "generation_config.json").unlink()
    wanted = answers(plain)
    path = plain / "config.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**told, "suppress_tokens": list(range(40, 200))}))
    assert answers(plain) == wanted


def test_end_tokens_of_the_models_file_still_end_answers(plain: Path) -> None:
    wanted, _, _ = answers(plain)
    first = wanted[0][0]
    from harness.models.files import ModelRef

    token = ModelRef(str(plain), "float32", "cpu").tokenizer()(first)["input_ids"][0]
    ask(plain, eos_token_id=[0, token])
    found, _, _ = answers(plain)
    assert found[0] == ""


def test_a_model_from_elsewhere_answers_as_the_suite_says_and_keeps_its_config(plain: Path) -> None:
    from transformers import AutoModelForCausalLM

    from harness.inference.generate import generate
    from harness.models.files import ModelRef

    tokenizer = ModelRef(str(plain), "float32", "cpu").tokenizer()
    options = {"max_new_tokens": 8, "batch_tokens": 4096, "until": []}
    prompts = [tokenizer("one two")["input_ids"]]
    model = AutoModelForCausalLM.from_pretrained(plain).eval()
    (wanted,) = generate(model, tokenizer, prompts, options, lambda *_: None)
    model.generation_config.suppress_tokens = list(range(40, 200))
    (found,) = generate(model, tokenizer, prompts, options, lambda *_: None)
    assert found == wanted
    assert model.generation_config.suppress_tokens == list(range(40, 200))


def test_plan_and_record_name_what_the_file_asks(workspace: Workspace, plain: Path) -> None:
    ask(plain, temperature=0.6, do_sample=True, suppress_tokens=[70])
    workspace.tree |= {"models": {"tiny": str(plain)}, "matrix": {}, "evaluate": ["letters"]}
    opened = workspace.open()
    (told,) = [text for text in opened.plan.warnings if "generation_config" in text]
    assert "models.tiny" in told
    assert "temperature 0.6" in told
    assert "suppress_tokens [70]" in told
    outcome = workspace.run()
    (stage,) = [s for s in opened.plan.stages() if s.kind == "generate"]
    metrics = outcome.records[stage.key].metrics
    assert metrics["generation_config_left_out"] == {
        "do_sample": True, "suppress_tokens": [70], "temperature": 0.6,
    }  # fmt: skip


def test_a_whole_checkpoint_carries_its_bases_requests_on(plain: Path, tmp_path: Path) -> None:
    from harness.methods.full import Full
    from harness.models.files import ModelRef

    ask(plain, temperature=0.6, num_return_sequences=3)  # neither could be saved by transformers
    model = ModelRef(str(plain), "float32", "cpu").load()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Full().save(model, tmp_path / "saved")
    told = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert (told["temperature"], told["num_return_sequences"], told["eos_token_id"]) == (0.6, 3, 0)


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_answers_that_trl_samples_in_training_depend_on_the_suite_alone(
    kind: str, tiny_model: Path, tmp_path: Path
) -> None:
    from harness.objectives._trl import online_trainer as _online_trainer
    from tests.objectives.test_online import ONLINE, SAMPLED, asked
    from tests.objectives.test_preference import job_of, model_of

    seen = []
    for name, asks in (("plain", {}), ("asks", {"suppress_tokens": list(range(40, 200))})):
        model = model_of(tiny_model)
        for field, value in asks.items():
            setattr(model.generation_config, field, value)
        job = job_of(model, tiny_model, tmp_path / name, asked(4))
        _online_trainer.train(ONLINE[kind](**SAMPLED), job)
        lines = [json.loads(line) for line in job.step_log.read_text().splitlines()]
        seen.append([(line["loss"], line["reward"], line["entropy"]) for line in lines])
        assert getattr(model.generation_config, "suppress_tokens", None) == asks.get(
            "suppress_tokens"
        )
    assert seen[0] == seen[1]


def test_within_a_training_the_end_of_a_turn_ends_answers_and_is_taken_back(plain: Path) -> None:
    from harness.inference.decoding import suite_alone
    from harness.models.files import ModelRef

    ask(plain, eos_token_id=[0, 9], top_k=3)
    model = ModelRef(str(plain), "float32", "cpu").load()
    model.generation_config.top_k = 3
    with suite_alone(model, {0, 9, 30}):
        assert model.generation_config.eos_token_id == [0, 9, 30]
        assert model.generation_config.top_k is None
    assert (model.generation_config.eos_token_id, model.generation_config.top_k) == ([0, 9], 3)


def test_a_damaged_file_is_refused_by_plan_with_its_name(workspace: Workspace, plain: Path) -> None:
    (plain / "generation_config.json").write_text("{")
    workspace.tree["models"] = {"tiny": str(plain)}
    with pytest.raises(ModelError, match=r"generation_config\.json is not JSON"):
        workspace.open()
