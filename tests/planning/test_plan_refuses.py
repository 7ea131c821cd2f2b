"""What can be known to fail before anything is spent is refused by `plan`, with place and fix."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.core import from_yaml, registry
from harness.core.errors import HarnessError
from tests.conftest import PPO, Workspace, chat_rows, write_jsonl

Change = Callable[[Path], None]
"""What a mutation does to a copy of the model's folder."""


def planned(workspace: Workspace) -> Any:
    """`harness plan` in this process: it is quick where nothing of torch is imported."""
    workspace.write()
    arguments = ["plan", str(workspace.path), "--store", str(workspace.store)]
    return CliRunner().invoke(main, arguments)


def require_refused(workspace: Workspace, place: str, words: list[str]) -> None:
    found = planned(workspace)
    told = found.output
    assert found.exit_code == 2, told
    assert "Traceback" not in told
    head = told.split("\n")[0]
    assert head.startswith(f"{workspace.path}: {place}"), told
    assert all(word in told for word in words), told
    assert not workspace.store.exists() or not list(workspace.store.glob("*/*/record.json"))


def cell(objective: dict[str, Any], method: Any = "lora", **more: Any) -> dict[str, Any]:
    return {"matrix": {"method": [method], "objective": [objective], **more}}


def sft(**fields: Any) -> dict[str, Any]:
    return cell({"sft": fields})


TUNE = {"trials": 2, "metric": "exact_match"}
SFT = "matrix.objective[0].sft."


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        (sft(learning_rate=0), f"{SFT}learning_rate", ["greater than 0", "(given: 0)"]),
        (sft(learning_rate=-1e-4), f"{SFT}learning_rate", ["(given: -0.0001)"]),
        (sft(learning_rate=float("nan")), f"{SFT}learning_rate", ["finite", "(given: nan)"]),
        (sft(learning_rate=float("inf")), f"{SFT}learning_rate", ["finite", "(given: inf)"]),
        (sft(learning_rate=True), "matrix.objective[0].sft: learning_rate", ["not true"]),
        (sft(max_steps=True), "matrix.objective[0].sft: max_steps", ["a number, not true"]),
        ({"resources": {"report_to": ["wandbb"]}}, "resources.report_to[0]",
         ["unknown tracker 'wandbb'", "did you mean 'wandb'", "tensorboard"]),
        ({"resources": {"report_to": ["neptune"]}}, "resources.report_to[0]",
         ["package neptune, which is not installed", "pip install neptune"]),
        (sft(max_steps=0), f"{SFT}max_steps", ["0 steps train nothing", "-1"]),
        (sft(max_steps=-2), f"{SFT}max_steps", ["(given: -2)"]),
        (sft(max_grad_norm=float("inf")), f"{SFT}max_grad_norm", ["finite"]),
        (sft(weight_decay=float("nan")), f"{SFT}weight_decay", ["finite"]),
        (sft(num_train_epochs=-1), f"{SFT}num_train_epochs", ["(given: -1)"]),
        (sft(num_train_epochs=float("inf")), f"{SFT}num_train_epochs", ["finite"]),
        (sft(adam_beta1=1.0), f"{SFT}adam_beta1", ["less than 1"]),
        (sft(adam_beta2=-0.1), f"{SFT}adam_beta2", ["(given: -0.1)"]),
        (sft(adam_epsilon=-1e-8), f"{SFT}adam_epsilon", ["(given: -1e-08)"]),
        (sft(per_device_train_batch_size=0), f"{SFT}per_device_train_batch_size", ["(given: 0)"]),
        (sft(gradient_accumulation_steps=-1), f"{SFT}gradient_accumulation_steps", ["(given: -1)"]),
        (sft(max_length=0), f"{SFT}max_length", ["(given: 0)"]),
        (sft(optim="adamw"), f"{SFT}optim", ["unknown optimizer 'adamw'", "adamw_torch", "known:"]),
        (sft(optim="galore_adamw"), f"{SFT}optim", ["galore_torch", "not installed"]),
        (sft(args={"learning_rate": -1}), f"{SFT}args", ["learning_rate", "beside `args`"]),
        (cell({"ppo": {**PPO, "learning_rate": -1}}), "matrix.objective[0].ppo.learning_rate",
         ["(given: -1)"]),
        (cell({"ppo": {**PPO, "value_learning_rate": 0}}),
         "matrix.objective[0].ppo.value_learning_rate", ["greater than 0"]),
        (cell({"ppo": {**PPO, "max_steps": 0}}), "matrix.objective[0].ppo.max_steps",
         ["0 steps train nothing"]),
        (cell({"ppo": {**PPO, "rollout_batch_size": 0}}),
         "matrix.objective[0].ppo.rollout_batch_size", ["(given: 0)"]),
        (cell({"ppo": PPO}) | {"reward_model": {"learning_rate": float("nan")}},
         "reward_model.learning_rate", ["finite"]),
        (cell({"ppo": PPO}) | {"reward_model": {"seed": -1}}, "reward_model.seed", ["not -1"]),
        ({"overrides": [{"set": {"sft.learning_rate": -1}}]},
         "overrides[0].set.sft.learning_rate", ["(given: -1)"]),
        (cell({"sft": {}}, **{"sft.max_steps": [2, 0]}), "matrix.sft.max_steps", ["0 steps"]),
        ({"tune": {**TUNE, "space": {"sft.learning_rate": [-1, 0.1]}}},
         "tune.space.sft.learning_rate", ["(given: -1)"]),
        ({"budget": {"steps": 0}}, "budget.steps", ["(given: 0)"]),
        ({"seeds": [0, -1]}, "seeds[1]", ["(given: -1)"]),
        ({"seeds": [2**32]}, "seeds[0]", ["less than 4294967296"]),
        ({"generate": {"max_new_tokens": 0}}, "generate.max_new_tokens", ["(given: 0)"]),
        ({"generate": {"temperature": float("nan")}}, "generate.temperature", ["finite"]),
        ({"generate": {"sample_seed": -1}}, "generate.sample_seed", ["(given: -1)"]),
        ({"executor": {"local": {"device_class": "cuda"}}}, "executor", ["shows none", "cpu"]),
        ({"executor": "local", "resources": {"gpus": 1}}, "executor", ["1 GPUs", "resources.gpus"]),
    ],
)  # fmt: skip
def test_number_that_cannot_be_meant_is_refused_where_it_stands(
    workspace: Workspace,
    change: dict[str, Any],
    place: str,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    write_jsonl(workspace.folder / "validation.jsonl", chat_rows(200, 4))
    validated = {**workspace.tree["data"]["letters"], "validation": "validation.jsonl"}
    workspace.tree["data"]["letters"] = validated
    workspace.tree |= change
    require_refused(workspace, place, words)


@pytest.mark.parametrize("axis", ["method", "objective", "scorer", "labeller", "executor"])
def test_no_member_of_an_axis_takes_a_rate_or_a_count_that_nothing_can_be_done_with(
    axis: str,
) -> None:
    checked = 0
    members = [registry.find(axis, name) for name in registry.names(axis)]
    for declared in (m for m in members if m.__module__.startswith("harness.")):
        for field, info in declared.model_fields.items():
            bad: list[float] = []
            if info.annotation in (float, float | None):
                bad += [float("nan"), float("inf"), -float("inf")]
            if field.endswith("learning_rate"):
                bad += [0, -1e-3]
            if field.endswith(("batch_size", "max_length", "max_new_tokens", "batch_tokens")):
                bad += [0, -1]
            if field == "max_steps":
                bad += [0, -2]
            for value in bad:
                checked += 1
                with pytest.raises(HarnessError, match=rf"here\.{field}: "):
                    from_yaml.build_fields(declared, {field: value}, "here")
    assert checked or axis == "executor"


def config_says(**values: Any) -> Change:
    def change(folder: Path) -> None:
        _edit(folder / "config.json", **values)

    return change


def _edit(path: Path, **values: Any) -> None:
    tree = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({k: v for k, v in tree.items() if v is not ...}))


def remove(*names: str) -> Change:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def shorten(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])


def shard(folder: Path) -> None:
    """An index that names two files, of which one is there."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    files = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def lose_a_tensor(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    files = {"model.layers.7.w": "model-00001-of-00001.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def no_ends(folder: Path) -> None:
    _edit(folder / "tokenizer_config.json", eos_token=..., pad_token=...)


def no_ends_said_so(folder: Path) -> None:
    _edit(folder / "tokenizer_config.json", eos_token=None, pad_token=None)


def padding_beyond_the_embedding(folder: Path) -> None:
    tokens = json.loads((folder / "tokenizer.json").read_text())
    more = {**tokens["added_tokens"][0], "content": "[PAD]", "id": 260}
    _edit(folder / "tokenizer.json", added_tokens=[*tokens["added_tokens"], more])
    _edit(folder / "tokenizer_config.json", pad_token="[PAD]")


def break_header(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(struct.pack("<Q", 2**40) + whole[8:])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (remove("tokenizer.json"), ["no tokenizer", "save_pretrained"]),
        (remove("tokenizer.json", "tokenizer_config.json"), ["no tokenizer", "save_pretrained"]),
        (no_ends, ["neither an eos_token nor a pad_token", "tokenizer_config.json"]),
        (no_ends_said_so, ["neither an eos_token nor a pad_token"]),
        (padding_beyond_the_embedding, ["pad_token '[PAD]'", "260 rows", "resize_token"]),
        (shorten, ["model.safetensors is damaged", "bytes", "again"]),
        (break_header, ["model.safetensors is damaged", "again"]),
        (shard, ["model-00002-of-00002.safetensors is not there", "fetch"]),
        (lose_a_tensor, ["model.layers.7.w", "fetch"]),
        (config_says(hidden_size=64), ["hidden_size 64", "have 32", "config.json"]),
        (config_says(vocab_size=300), ["vocab_size 300", "have 260"]),
        (config_says(num_hidden_layers=3), ["num_hidden_layers 3", "have 2"]),
        (config_says(num_hidden_layers=1), ["num_hidden_layers 1", "have 2"]),
        (config_says(intermediate_size=96), ["intermediate_size 96", "have 48"]),
        (lambda folder: (folder / "config.json").write_text("{"), ["config.json is not JSON"]),
        (lambda folder: (folder / "tokenizer_config.json").write_text("{"), ["is not JSON"]),
        (lambda folder: (folder / "tokenizer_config.json").write_text("[]"), ["no JSON object"]),
    ],
)  # fmt: skip
def test_model_that_cannot_be_loaded_as_it_is_is_refused(
    workspace: Workspace, tiny_model: Path, change: Change, words: list[str]
) -> None:
    folder = workspace.folder / "model"
    shutil.copytree(tiny_model, folder)
    change(folder)
    workspace.tree["models"] = {"tiny": str(folder)}
    require_refused(workspace, "models.tiny", words)


SMALL = {"vocab_size": 260, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 48}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "GPT2LMHead": {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 260},
    "GPTNeoX": SMALL,
    "Falcon": SMALL,
    "OPT": {**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 16},
    "Qwen3Moe": {**SMALL, "moe_intermediate_size": 24, "num_experts": 4,
                 "num_key_value_heads": 2, "decoder_sparse_step": 2},
    "Gemma2": {**SMALL, "num_key_value_heads": 2, "head_dim": 16},
    "Phi3": {**SMALL, "num_key_value_heads": 2, "pad_token_id": 1},
}  # fmt: skip
"""Shapes of other families, which must not be taken for faults."""


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_model_of_any_family_is_not_refused(
    workspace: Workspace, tiny_model: Path, family: str
) -> None:
    import transformers

    folder = workspace.folder / "model"
    made = getattr(transformers, f"{family}Model" if "LMHead" in family else f"{family}ForCausalLM")
    made = made(made.config_class(**FAMILIES[family]))
    made.save_pretrained(folder, max_shard_size="10KB")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny_model / name, folder)
    workspace.tree["models"] = {"tiny": str(folder)}
    found = planned(workspace)
    assert found.exit_code == 0, found.output


def test_what_ran_on_a_gpu_is_reported_without_one(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.commands.session import open_suite

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    workspace.write(executor={"local": {"device_class": "cuda"}})
    opened = open_suite(str(workspace.path), (), workspace.store, None, None, ended=True)
    assert opened.plan.executor.device() == "cuda"


def test_tracker_that_an_objective_has_no_use_for_is_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL's trainers report to all that transformers knows, PPO's own to TensorBoard."""
    from harness.commands import plan as plan_command
    from harness.planning import trackers as plan_trackers

    monkeypatch.setattr(plan_command, "_require", lambda *_: ())  # no pairs for the reward
    monkeypatch.setattr(plan_trackers, "find_spec", lambda package: package)  # all are installed
    workspace.tree |= {**cell({"ppo": PPO}), "resources": {"report_to": ["tensorboard", "wandb"]}}
    require_refused(workspace, "resources.report_to[1]", ["'ppo'", "tensorboard, not to 'wandb'"])
    workspace.tree["resources"] = {"report_to": ["tensorboard"]}
    assert planned(workspace).exit_code == 0
    workspace.tree |= {**sft(max_steps=1), "resources": {"report_to": ["wandb"]}}
    assert planned(workspace).exit_code == 0


def test_attention_that_transformers_does_not_know_is_refused(
    workspace: Workspace, tiny_model: Path
) -> None:
    model = {"path": str(tiny_model), "attn_implementation": "sdpaa"}
    workspace.tree["models"] = {"tiny": model}
    require_refused(workspace, "models.tiny.attn_implementation", ["'sdpa'", "eager"])
