"""Planted faults: each is caught by an audit that says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.methods.lora import Lora
from harness.methods.qlora import Qlora
from harness.objectives._trl import sft as _sft
from harness.objectives.base import TrainJob, TrainResult
from harness.objectives.sft import Sft
from harness.stages import generate
from tests.conftest import Workspace

attach, save, load_trained = Lora.attach, Lora.save, Lora.load_trained
Patch = pytest.MonkeyPatch


def never_attached(patch: Patch) -> None:
    patch.setattr(Lora, "attach", lambda self, base, also_train=(): base)


def attached_but_frozen(patch: Patch) -> None:
    patch.setattr(
        Lora, "attach", lambda self, base, also_train=(): attach(self, base).requires_grad_(False)
    )


def attached_to_fewer_layers(patch: Patch) -> None:
    def fewer(self: Lora, base: Any, also_train: tuple[str, ...] = ()) -> Any:
        return attach(self.model_copy(update={"target_modules": ["q_proj"]}), base)

    patch.setattr(Lora, "attach", fewer)


def gradients_dropped(patch: Patch) -> None:
    def deaf(self: Lora, base: Any, also_train: tuple[str, ...] = ()) -> Any:
        model = attach(self, base)
        for name, parameter in model.named_parameters():
            if "layers.1" in name and parameter.requires_grad:
                parameter.register_hook(lambda gradient: gradient * 0)
        return model

    patch.setattr(Lora, "attach", deaf)


def _touching(change: Callable[[Any], None]) -> Callable[[Patch], None]:
    """Plant a change of the model behind training's back."""

    def plant(patch: Patch) -> None:
        def train(objective: Sft, job: TrainJob) -> TrainResult:
            result = _sft.train(objective, job)
            change(job.model)
            return result

        patch.setattr(Sft, "working_part", lambda self: train)

    return plant


def _shift_base(model: Any) -> None:
    model.get_input_embeddings().weight.data[0] += 1e-3


def reference_trains_along(patch: Patch) -> None:
    def with_reference(self: Lora, base: Any, also_train: tuple[str, ...] = ()) -> Any:
        model = attach(self, base)
        model.add_adapter("reference", model.peft_config["default"])
        for name, parameter in model.named_parameters():
            if ".reference." in name:
                parameter.requires_grad_(False)
        return model

    def shift(model: Any) -> None:
        for name, parameter in model.named_parameters():
            if "lora_B.reference" in name:
                parameter.data += 1e-3

    patch.setattr(Lora, "attach", with_reference)
    _touching(shift)(patch)


def checkpoint_does_not_reload(patch: Patch) -> None:
    def half(self: Lora, model: Any, folder: Path) -> None:
        for name, parameter in model.named_parameters():
            if "layers.0" in name and "lora_B" in name:
                kept = parameter.data.clone()
                parameter.data.zero_()
                save(self, model, folder)
                parameter.data.copy_(kept)
                return

    patch.setattr(Lora, "save", half)


def merged_twice(patch: Patch) -> None:
    def twice(self: Lora, ref: Any, checkpoint: Path) -> Any:
        model = load_trained(self, ref, checkpoint)
        model.merge_adapter()
        for module in model.modules():
            if hasattr(module, "get_delta_weight"):
                module.base_layer.weight.data += module.get_delta_weight("default")
        return model

    patch.setattr(Lora, "load_trained", twice)


def _collating(change: Callable[[dict[str, Any]], None]) -> Callable[[Patch], None]:
    """Plant a change of the batches that the trainer makes."""

    def plant(patch: Patch) -> None:
        class Trainer(_sft.LabelledTrainer):
            def __init__(self, **arguments: Any) -> None:
                super().__init__(**arguments)
                collate = self.data_collator

                def changed(rows: list[Any]) -> dict[str, Any]:
                    batch: dict[str, Any] = collate(rows)
                    change(batch)
                    return batch

                self.data_collator = changed

        patch.setattr(_sft, "LabelledTrainer", Trainer)

    return plant


def _train_pads(batch: dict[str, Any]) -> None:
    pads = batch["attention_mask"] == 0
    batch["labels"][pads] = batch["input_ids"][pads]


def _train_everything(batch: dict[str, Any]) -> None:
    seen = batch["attention_mask"] == 1
    batch["labels"][seen] = batch["input_ids"][seen]


def unquantised(patch: Patch) -> None:
    """`qlora` by name, on a base that was loaded as it is."""
    patch.setattr(Qlora, "load", lambda self, ref, head="lm": ref.load(head))


FAULTS = [
    (never_attached, "trainable parameters as declared"),
    (attached_but_frozen, "trainable parameters as declared: 0, declared"),
    (attached_to_fewer_layers, "trainable parameters as declared"),
    (gradients_dropped, r"gradients reached every trainable tensor: none at .*layers\.1"),
    (_touching(_shift_base), "nothing frozen moved: .*embed_tokens"),
    (reference_trains_along, "nothing frozen moved: .*reference"),
    (checkpoint_does_not_reload, "the checkpoint reloads: relative logit difference"),
    (merged_twice, "the checkpoint reloads: relative logit difference"),
    (_collating(_train_pads), r"no padding in the loss: \d+ padded tokens"),
    (_collating(_train_everything), "tokens of the prompt in the loss"),
]


@pytest.mark.parametrize(("plant", "says"), FAULTS)
def test_planted_fault_fails_the_cell_and_is_named(
    workspace: Workspace, monkeypatch: Patch, plant: Callable[[Patch], None], says: str
) -> None:
    plant(monkeypatch)
    workspace.write(scorers=["exact_match"])
    (failed,) = [r for r in workspace.run(only="lora*").failed if r.kind == "train"]
    assert failed.error is not None
    assert failed.error["reason"] == "audit"
    assert re.search(says, failed.error["message"]), failed.error["message"]


def test_qlora_on_an_unquantised_base_fails_the_cell_and_is_named(
    workspace: Workspace, monkeypatch: Patch
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: no qlora here")
    unquantised(monkeypatch)
    (objective,) = workspace.tree["matrix"]["objective"]
    workspace.write(matrix={"method": [{"qlora": {"r": 2}}], "objective": [objective]})
    (failed,) = [r for r in workspace.run(only="qlora*").failed if r.kind == "train"]
    assert failed.error is not None
    assert failed.error["reason"] == "audit"
    # 2 layers of 7 projections each; and it says what was wrong with the base
    says = r"linear layers are in 4 bits: 14 hold whole weights, first .*without quantisation"
    assert re.search(says, failed.error["message"]), failed.error["message"]


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_training_in_bfloat16_passes_its_audits(
    workspace: Workspace, tiny_model: Path, method: str
) -> None:
    """Under autocast a model computes otherwise than its checkpoint: the audit must not see that,
    or every adapter trained in bfloat16 fails."""
    if method == "qlora":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: no qlora here")
    (objective,) = workspace.tree["matrix"]["objective"]
    workspace.write(
        models={"tiny": {"path": str(tiny_model), "dtype": "bfloat16"}},
        matrix={"method": [{method: {"r": 2}}], "objective": [objective]},
        scorers=["exact_match"],
    )
    assert not workspace.run(only=f"{method}*").failed


def test_another_chat_template_at_generation_is_refused(
    workspace: Workspace, monkeypatch: Patch
) -> None:
    load_subject = generate.load_subject

    def another(*arguments: Any) -> tuple[Any, Any, Any]:
        model, found, trained = load_subject(*arguments)
        found.chat_template += " "
        return model, found, trained

    monkeypatch.setattr(generate, "load_subject", another)
    failed = [r for r in workspace.run(only="lora*").failed if r.kind == "generate"]
    reasons = {r.label: (r.error or {})["reason"] for r in failed}
    assert reasons == {"lora-sft on letters": "chat template"}


def test_short_texts_are_found_with_the_end_that_the_trainer_adds(tiny_model: Path) -> None:
    """TRL ends each text with the end token, which the row's own tokens lack."""
    from transformers import AutoTokenizer

    from harness.data.render import encode
    from harness.stages._audit_loss import RowIndex

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    index = RowIndex()
    rows = [{"text": "ab" * n} for n in (1, 5, 15, 16, 20, 40)]
    for row in rows:
        index.add(row, encode(tokenizer, row)[0])
    for row in rows:
        ids = encode(tokenizer, row)[0]
        assert index.find(tokenizer, [*ids, tokenizer.eos_token_id]) is row
        assert index.find(tokenizer, ids) is not None
        assert index.find(tokenizer, [*ids[:-1], ids[-1] + 1]) is None
