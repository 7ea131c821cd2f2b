"""Training through the harness equals a plain TRL script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Workspace, chat_rows


def losses(workspace: Workspace, label: str) -> list[float]:
    for path in workspace.store.glob("train/*/steps.jsonl"):
        if json.loads((path.parent / "stage.json").read_text())["label"] == label:
            return [json.loads(line)["loss"] for line in path.read_text().splitlines()]
    raise AssertionError(f"no step log of {label}")


def plain_trl(
    model_path: Path, rows: list[dict[str, Any]], folder: Path, lora: bool, **own: Any
) -> list[float]:
    """What a user would write without the harness."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    torch.manual_seed(0)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(model_path),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(r=4, lora_alpha=32, target_modules="all-linear",
                               task_type="CAUSAL_LM") if lora else None,
        args=SFTConfig(
            output_dir=str(folder / "trl"), learning_rate=1e-2, num_train_epochs=1,
            per_device_train_batch_size=4, max_length=64, optim="adamw_torch", bf16=False,
            gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to=[],
            use_cpu=True, seed=0, data_seed=0, dataloader_pin_memory=False, disable_tqdm=True,
            **own,
        ),
    )  # fmt: skip
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_losses_equal_plain_trl_on_chats(
    workspace: Workspace, tiny_model: Path, method: str
) -> None:
    workspace.run(only=f"{method}-sft")
    rows = [{"messages": row["messages"]} for row in chat_rows(0, 24)]
    plain = plain_trl(
        tiny_model, rows, workspace.folder, method == "lora", assistant_only_loss=True
    )
    assert losses(workspace, f"{method}-sft") == pytest.approx(plain, abs=0, rel=1e-6)


@pytest.mark.parametrize(
    ("columns", "own"),
    [
        (("prompt", "completion"), {"completion_only_loss": True}),
        (("text",), {}),
        (("text",), {"packing": True, "packing_strategy": "wrapped"}),
    ],
)
def test_losses_equal_plain_trl_on_other_layouts(
    workspace: Workspace, tiny_model: Path, columns: tuple[str, ...], own: dict[str, Any]
) -> None:
    rows = [{name: f"{name} {i} {'ab' * (i % 5)}" for name in columns} for i in range(24)]
    (workspace.folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    packing = {f"sft.{name}": value for name, value in own.items() if name.startswith("packing")}
    workspace.write(overrides=[{"match": {}, "set": packing}] if packing else [])
    workspace.run(only="full-sft")
    plain = plain_trl(tiny_model, rows, workspace.folder, False, **own)
    assert losses(workspace, "full-sft") == pytest.approx(plain, abs=0, rel=1e-6)


def test_every_argument_that_matters_is_stated_in_the_record(workspace: Workspace) -> None:
    outcome = workspace.run(only="lora-sft")
    (record,) = [r for r in outcome.records.values() if r.kind == "train"]
    stated = record.metrics["arguments"]
    for name in ("bf16", "gradient_checkpointing", "optim", "lr_scheduler_type", "warmup_steps",
                 "learning_rate", "max_grad_norm", "seed", "data_seed"):  # fmt: skip
        assert name in stated
    assert stated["bf16"] is False
    assert record.config["model"]["dtype"] == "float32"


def test_checkpoint_works_in_plain_peft(workspace: Workspace, tiny_model: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    outcome = workspace.run(only="lora-sft")
    (record,) = [r for r in outcome.records.values() if r.kind == "train"]
    folder = workspace.store / "train" / record.key[:24] / "checkpoint"
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([tokenizer("abc")["input_ids"]])
    before = base(input_ids=ids).logits
    model = PeftModel.from_pretrained(base, folder)
    assert not torch.equal(before, model(input_ids=ids).logits)
    with model.disable_adapter():
        assert torch.equal(before, model(input_ids=ids).logits)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"use_rslora": True}, {"r": 8},
                                     {"target_modules": ["q_proj", "down_proj"]}])  # fmt: skip
def test_lora_formula_counts_what_trains(workspace: Workspace, options: dict[str, Any]) -> None:
    matrix = workspace.tree["matrix"]
    workspace.write(matrix={**matrix, "method": [{"lora": options}]}, scorers=["exact_match"])
    outcome = workspace.run()
    (record,) = [r for r in outcome.records.values() if r.kind == "train"]
    (check,) = [c for c in record.metrics["audit"] if "declared" in c["check"]]
    assert check["status"] == "passed", check


def test_audit_fails_a_cell_whose_adapter_does_not_train(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.methods.lora import Lora

    attach = Lora.attach

    def frozen(self: Lora, base: Any, also_train: tuple[str, ...] = ()) -> Any:
        model = attach(self, base, also_train)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("layers.0" in name and "lora" in name)
        return model

    monkeypatch.setattr(Lora, "attach", frozen)
    outcome = workspace.run(only="lora-sft")
    (failed,) = [r for r in outcome.failed if r.kind == "train"]
    assert (failed.error or {})["reason"] == "audit"
    assert "trainable parameters as declared" in (failed.error or {})["message"]


def test_generation_refuses_another_chat_template(workspace: Workspace, tiny_model: Path) -> None:
    from harness.core.errors import StageFailed
    from harness.models.files import ModelRef
    from harness.stages.generate import _same_template

    ref = ModelRef(str(tiny_model), "float32", "cpu", chat_template="{{ messages }}")
    with pytest.raises(StageFailed, match="not the one trained with"):
        _same_template(ref.tokenizer(), "0123456789abcdef")


def test_arguments_known_without_torch_are_the_fields_of_the_trainers_own_configurations() -> None:
    import dataclasses
    import importlib
    import warnings

    from harness.core import registry
    from harness.objectives._trl.arguments import fields_of

    places = {
        place
        for name in registry.names("objective")
        if (place := getattr(registry.find("objective", name, ""), "trainer_config", ""))
    }
    assert len(places) >= 7
    for place in places:
        module, _, name = place.partition(":")
        with warnings.catch_warnings(action="ignore"):  # of TRL's experimental part
            made = getattr(importlib.import_module(module), name)
        assert fields_of(place) == {f.name for f in dataclasses.fields(made) if f.init}, place
