"""Every method trains as a plain script of TRL and PEFT does, and costs what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core import from_yaml, registry
from harness.models.files import ModelRef
from tests.conftest import Workspace, chat_rows
from tests.methods.test_methods import logits

STEPS = 3
# Our YAML, and the PEFT config that a script would give for it (None: no adapter).
CASES: dict[str, tuple[str, dict[str, Any], str | None, dict[str, Any]]] = {
    "full": ("full", {}, None, {}),
    "lora": ("lora", {"r": 4}, "LoraConfig", {"r": 4, "lora_alpha": 32}),
    "lora-some": (
        "lora",
        {"r": 2, "target_modules": ["q_proj", "down_proj"], "lora_alpha": 4},
        "LoraConfig",
        {"r": 2, "target_modules": ["q_proj", "down_proj"], "lora_alpha": 4},
    ),
    "dora": ("dora", {"r": 4}, "LoraConfig", {"r": 4, "lora_alpha": 32, "use_dora": True}),
    "rslora": ("rslora", {"r": 4}, "LoraConfig", {"r": 4, "lora_alpha": 32, "use_rslora": True}),
    "pissa": (
        "pissa",
        {"r": 4, "lora_alpha": 4},
        "LoraConfig",
        {"r": 4, "lora_alpha": 4, "init_lora_weights": "pissa"},
    ),
    "ia3": (
        "ia3",
        {},
        "IA3Config",
        {
            "target_modules": ["k_proj", "v_proj", "down_proj"],
            "feedforward_modules": ["down_proj"],
        },
    ),
    "prompt_tuning": (
        "prompt_tuning",
        {"num_virtual_tokens": 5},
        "PromptTuningConfig",
        {"num_virtual_tokens": 5, "prompt_tuning_init": "SAMPLE_VOCAB"},
    ),
    "prompt_tuning-random": (
        "prompt_tuning",
        {"num_virtual_tokens": 5, "init": "random"},
        "PromptTuningConfig",
        {"num_virtual_tokens": 5},
    ),
    "p_tuning": (
        "p_tuning",
        {"num_virtual_tokens": 5, "encoder_hidden_size": 16},
        "PromptEncoderConfig",
        {"num_virtual_tokens": 5, "encoder_hidden_size": 16},
    ),
    "p_tuning-lstm": (
        "p_tuning",
        {"num_virtual_tokens": 5, "encoder": "lstm", "encoder_hidden_size": 16},
        "PromptEncoderConfig",
        {
            "num_virtual_tokens": 5,
            "encoder_reparameterization_type": "LSTM",
            "encoder_hidden_size": 16,
        },
    ),
    "prefix_tuning": (
        "prefix_tuning",
        {"num_virtual_tokens": 5},
        "PrefixTuningConfig",
        {"num_virtual_tokens": 5},
    ),
    "prefix_tuning-projection": (
        "prefix_tuning",
        {"num_virtual_tokens": 5, "projection": True, "encoder_hidden_size": 16},
        "PrefixTuningConfig",
        {"num_virtual_tokens": 5, "prefix_projection": True, "encoder_hidden_size": 16},
    ),
}


def plain(
    model: Path, folder: Path, config: str | None, options: dict[str, Any], **loading: Any
) -> list[float]:
    """What a user would write without the harness; returns the losses, saves to `folder`."""
    import peft
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    if config == "LoraConfig":
        options = {"target_modules": "all-linear", **options}
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, **loading),
        processing_class=AutoTokenizer.from_pretrained(model),
        train_dataset=Dataset.from_list([{"messages": r["messages"]} for r in chat_rows(0, 24)]),
        peft_config=getattr(peft, config)(task_type="CAUSAL_LM", **options) if config else None,
        args=SFTConfig(
            output_dir=str(folder), learning_rate=1e-2, max_steps=STEPS, max_length=64,
            per_device_train_batch_size=4, optim="adamw_torch", bf16=False, seed=0, data_seed=0,
            gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to=[],
            use_cpu=True, dataloader_pin_memory=False, disable_tqdm=True, assistant_only_loss=True,
        ),
    )  # fmt: skip
    trainer.train()
    trainer.model.save_pretrained(folder)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def losses_of(folder: Path) -> list[float]:
    """The losses in a training stage's step log."""
    lines = (folder / "steps.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize("case", CASES)
def test_training_equals_plain_trl_and_peft_and_costs_what_the_formulas_say(
    workspace: Workspace, tiny_model: Path, case: str
) -> None:
    from safetensors.torch import load_file

    method, ours, config, theirs = CASES[case]
    objective = dict(workspace.tree["matrix"]["objective"][0]["sft"], max_steps=STEPS)
    workspace.write(
        matrix={"method": [{method: ours}], "objective": [{"sft": objective}]},
        scorers=["exact_match"],
    )
    outcome = workspace.run()
    assert not outcome.failed, [r.error for r in outcome.failed]
    (record,) = [r for r in outcome.records.values() if r.kind == "train"]
    folder = workspace.store / "train" / record.key[:24]

    found = losses_of(folder)
    expected = plain(tiny_model, workspace.folder / "plain", config, theirs)
    assert found == pytest.approx(expected, abs=0, rel=1e-6)

    name = "adapter_model.safetensors" if config else "model.safetensors"
    own = load_file(folder / "checkpoint" / name)
    other = load_file(workspace.folder / "plain" / name)
    assert own.keys() == other.keys()
    for key, tensor in other.items():
        difference = float((own[key] - tensor).abs().max())
        assert difference <= 1e-6 * float(tensor.abs().max()), key

    made = from_yaml.build_fields(registry.find("method", method), ours, method)
    ref = ModelRef(str(tiny_model), "float32", "cpu")
    elsewhere = logits(made.load_trained(ref, workspace.folder / "plain"))
    scale = float(elsewhere.abs().max())
    here = logits(made.load_trained(ref, folder / "checkpoint"))
    assert float((here - elsewhere).abs().max()) <= 1e-5 * scale

    base = made.load(ref)
    predicted = made.state_bytes(made.describe(base), "float32")
    tensors = len(made.trainable_state(made.attach(base)))
    predicted["optimizer"] += 4 * tensors  # AdamW counts the steps of each tensor
    assert {part: record.cost["state"][part] for part in predicted} == predicted
