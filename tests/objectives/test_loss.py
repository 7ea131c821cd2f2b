"""Logits are computed where there are labels and nowhere else, and losses stay what they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from harness.inference.likelihood import log_likelihoods
from harness.inference.sharing import sharing_of
from harness.objectives._trl import loss as _loss
from tests.conftest import Workspace, chat_rows

VOCABULARY, ROWS, LENGTH = 97, 3, 12
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0,
    "eos_token_id": 1, "bos_token_id": 1,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama tied": {"tie_word_embeddings": True},
    "gemma2": {"final_logit_softcapping": 0.3},
    "granite": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 2.0},
    "phi": {},  # its head has a bias
    "gpt_neox": {},
    "mixtral": {"num_local_experts": 2},
}


class Widest(TorchDispatchMode):
    """The most rows of logits that any one operation made."""

    rows = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if torch.is_tensor(out) and out.dim() >= 2 and out.shape[-1] == VOCABULARY:
            rows = out.numel() // VOCABULARY
            if rows != SIZES["hidden_size"]:  # the head's matrix, turned
                self.rows = max(self.rows, rows)
        return out


def family(name: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(name.split()[0], **{**SIZES, **FAMILIES[name]})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20)  # logits that a cap bends
    return model


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(2, VOCABULARY, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[:, :5] = labels[0, -3:] = _loss.IGNORED
    return {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)}


def by_hand(model: Any, given: dict[str, torch.Tensor], count: int) -> torch.Tensor:
    logits = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits
    return (
        torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), given["labels"][:, 1:].flatten(), reduction="sum"
        )
        / count
    )


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    (2 * loss).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def require_equal(model: Any, count: int = 40) -> None:
    """The loss and each gradient are those of the model's own logits, all of them."""
    model.eval()
    given = batch()
    wanted = by_hand(model, given, count)
    slopes = gradients(model, wanted)
    _loss.add_labelled_loss(model)
    found = model(**given, loss_over=_loss.Labels(count)).loss
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
    own = gradients(model, found)
    assert own.keys() == slopes.keys()
    for name, slope in slopes.items():
        torch.testing.assert_close(own[name], slope, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("tile", [64 * 2**20, 4 * VOCABULARY * 7])
@pytest.mark.parametrize("name", FAMILIES)
def test_loss_and_gradients_are_those_of_all_logits(
    name: str, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_loss, "TILE_BYTES", tile)
    monkeypatch.setattr(_loss, "SMALL_BYTES", tile)
    require_equal(family(name))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "gpt_neox"])
def test_each_family_with_one_matrix_for_a_head_takes_the_short_way(name: str) -> None:
    assert _loss.Head.of(family(name)) is not None


def test_what_a_family_does_after_its_head_is_kept_even_if_nobody_knows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = family("llama")
    own = type(model).forward

    def bent(self: Any, *args: Any, **given: Any) -> Any:
        outputs = own(self, *args, **given)
        outputs.logits = torch.asinh(outputs.logits)
        return outputs

    monkeypatch.setattr(type(model), "forward", bent)
    assert _loss.Head.of(model) is None
    require_equal(model)


def test_an_adapter_on_the_head_is_trained() -> None:
    from peft import LoraConfig, get_peft_model

    model = family("llama")
    adapted = get_peft_model(model, LoraConfig(target_modules=["lm_head"], init_lora_weights=False))
    assert _loss.Head.of(adapted.get_base_model()) is None
    require_equal(adapted.get_base_model())


@pytest.mark.parametrize("adapted", [False, True])
def test_no_logits_stand_where_there_is_no_label(
    adapted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, given = family("llama"), batch()
    if adapted:
        model.requires_grad_(False).get_input_embeddings().requires_grad_(True)
    _loss.add_labelled_loss(model)
    labels = int((given["labels"][:, 1:] != _loss.IGNORED).sum())
    monkeypatch.setattr(_loss, "SMALL_BYTES", 0)
    with Widest() as seen:
        model(**given, loss_over=_loss.Labels(labels)).loss.backward()
    assert seen.rows == labels < ROWS * (LENGTH - 1)


def test_logits_of_a_large_batch_never_stand_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = family("llama"), batch()
    _loss.add_labelled_loss(model)
    monkeypatch.setattr(_loss, "SMALL_BYTES", 0)
    monkeypatch.setattr(_loss, "TILE_BYTES", 4 * VOCABULARY * 5)
    with Widest() as seen:
        loss = model(**given, loss_over=_loss.Labels(None)).loss
    assert seen.rows == 5
    assert loss.requires_grad


def test_a_batch_without_labels_has_no_loss_and_no_gradient() -> None:
    model, given = family("llama"), batch()
    given["labels"][:] = _loss.IGNORED
    _loss.add_labelled_loss(model)
    loss = model(**given, loss_over=_loss.Labels(None)).loss
    loss.backward()
    assert loss.item() == 0
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)


def test_in_bfloat16_the_loss_is_taken_in_float32() -> None:
    model, given = family("llama").eval(), batch()
    wanted = by_hand(model, given, 10)
    _loss.add_labelled_loss(model)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(**given, loss_over=_loss.Labels(10)).loss
    found.backward()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(wanted.item(), rel=2e-2)
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("kind", ["full", "lora", "prompt_tuning", "prefix_tuning"])
def test_training_is_that_of_plain_trl_to_the_bit(
    kind: str, tiny_model: Path, tmp_path: Path
) -> None:
    plain, ours = (_trained(kind, tiny_model, tmp_path, own) for own in (False, True))
    assert plain["losses"] == ours["losses"]
    assert all(torch.equal(plain["weights"][n], ours["weights"][n]) for n in plain["weights"])


def test_the_experts_own_loss_is_added_as_trl_adds_it(tiny_model: Path, tmp_path: Path) -> None:
    plain, ours = (_trained("mixtral", tiny_model, tmp_path, own) for own in (False, True))
    assert ours["losses"] == pytest.approx(plain["losses"], rel=1e-6)


def _trained(kind: str, path: Path, folder: Path, own: bool) -> dict[str, Any]:
    from datasets import Dataset
    from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    torch.manual_seed(0)
    if kind == "mixtral":
        config = AutoConfig.for_model(kind, **{**SIZES, "vocab_size": 300, "num_local_experts": 2})
        model = AutoModelForCausalLM.from_config(config)
    else:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    adapters = {
        "lora": LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"),
        "prompt_tuning": PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
        "prefix_tuning": PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
    }
    if kind in adapters:
        model = get_peft_model(model, adapters[kind])
    trainer = (_loss.LabelledTrainer if own else SFTTrainer)(
        model=model,
        processing_class=AutoTokenizer.from_pretrained(path),
        train_dataset=Dataset.from_list([{"messages": r["messages"]} for r in chat_rows(0, 24)]),
        args=SFTConfig(
            output_dir=str(folder), learning_rate=1e-2, max_steps=4, max_length=64,
            per_device_train_batch_size=3, gradient_accumulation_steps=2, bf16=False,
            gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to=[],
            use_cpu=True, dataloader_pin_memory=False, disable_tqdm=True, assistant_only_loss=True,
            router_aux_loss_coef=0.1 if kind == "mixtral" else None,
        ),
    )  # fmt: skip
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"losses": losses, "weights": dict(model.named_parameters())}


@pytest.mark.parametrize("asked", [False, True])
def test_entropy_and_accuracy_are_logged_where_they_are_asked_for(
    workspace: Workspace, asked: bool
) -> None:
    workspace.write(overrides=[{"match": {}, "set": {"sft.token_metrics": asked}}])
    workspace.run(only="lora-sft")
    (log,) = workspace.store.glob("train/*/steps.jsonl")
    first = json.loads(log.read_text().splitlines()[0])
    assert ("entropy" in first, "mean_token_accuracy" in first) == (asked, asked)


def test_answers_are_scored_without_logits_of_their_prompts(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    sharing_of(model)  # reads a few rows to find out how the model can be read
    seen: list[int] = []
    model.lm_head.register_forward_hook(lambda m, given, out: seen.append(given[0].shape[1]))
    rows = [
        {
            "id": str(i),
            "cluster": "",
            "group": "",
            "prompt": "a long prompt " * i,
            "completion": "b" * i,
        }
        for i in (1, 2, 3)
    ]
    found = log_likelihoods(model, tokenizer, rows, 64, 32, 4096, lambda *_: None)
    assert sum(seen) == sum(row["tokens"] for row in found)
