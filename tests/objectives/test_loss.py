"""Logits are computed where there are labels and nowhere else, and losses stay what they were."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM
from trl.trainer import sft_trainer

from harness.core.errors import StageFailed
from harness.inference.likelihood import log_likelihoods
from harness.inference.sharing import sharing_of
from harness.objectives._trl import head as _head
from harness.objectives._trl import loss as _loss
from harness.objectives._trl.head import IGNORED
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
    labels[:, :5] = labels[0, -3:] = IGNORED
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
    monkeypatch.setattr(_head, "TILE_BYTES", tile)
    monkeypatch.setattr(_head, "SMALL_BYTES", tile)
    require_equal(family(name))


@pytest.mark.parametrize("name", ["llama", "gpt_neox"])
@pytest.mark.parametrize("count", [None, 1])
def test_loss_is_the_mean_over_the_labels_that_are_counted(name: str, count: int | None) -> None:
    model, given = family(name).eval(), batch()
    given["labels"][1, 7] = given["input_ids"][1, 7] = 0  # the first token of the vocabulary
    labels = int((given["labels"][:, 1:] != IGNORED).sum())
    wanted = by_hand(model, given, count or labels)
    _loss.add_labelled_loss(model)
    found = model(**given, loss_over=_loss.Labels(count)).loss
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_places_are_of_the_positions_that_predict_a_label_from_the_end() -> None:
    """A soft prompt adds columns before them."""
    none = IGNORED
    labels = torch.tensor([[none, 5, none, 7], [3, none, none, none], [none, none, 0, 1]])
    rows, columns = _loss.label_places(labels)
    assert [*zip(rows.tolist(), columns.tolist(), strict=True)] == [
        (0, -3),
        (0, -1),
        (2, -2),
        (2, -1),
    ]
    collated = _loss.WithPlaces(lambda examples: {"labels": labels, "rows": examples})(3)
    assert collated["rows"] == 3
    assert torch.equal(collated[_loss.PLACES], torch.stack([rows, columns]))


def test_tokens_without_a_label_are_marked_as_torch_marks_them() -> None:
    assert torch.nn.CrossEntropyLoss().ignore_index == IGNORED


def test_model_is_called_as_before_where_no_such_loss_is_asked_for() -> None:
    """`generate` reads from the signature what it may give to a model."""
    model, given = family("llama").eval(), batch()
    before, signature = model(**given), inspect.signature(model.forward)
    _loss.add_labelled_loss(model)
    after = model(**given)
    assert torch.equal(after.logits, before.logits)
    assert torch.equal(after.loss, before.loss)
    assert [*inspect.signature(model.forward).parameters] == [*signature.parameters]


def operations(model: Any, learns: bool) -> Counter[str]:
    """How often each operation ran while a loss was computed."""

    class Names(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            counted[func.overloadpacket.__name__] += 1
            return func(*args, **(kwargs or {}))

    counted: Counter[str] = Counter()
    with torch.set_grad_enabled(learns), Names():
        model(**batch(), loss_over=_loss.Labels(10))
    return counted


def test_gradients_are_computed_of_what_learns_and_of_nothing_else() -> None:
    """A head that is frozen, and an evaluation, would pay for them in vain."""
    whole, frozen = family("llama"), family("llama")
    frozen.get_output_embeddings().requires_grad_(False)
    for model in (whole, frozen):
        _loss.add_labelled_loss(model)
    counts = [operations(model, learns) for model in (whole, frozen) for learns in (True, False)]
    assert [count["addmm_"] for count in counts] == [1, 0, 0, 0]
    assert counts[0]["mm"] == counts[2]["mm"] == counts[1]["mm"] + 1 == counts[3]["mm"] + 1


def test_a_vocabulary_that_is_larger_than_a_tile_is_read_row_by_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = family("llama").requires_grad_(False)
    model.get_input_embeddings().requires_grad_(True)
    _loss.add_labelled_loss(model)
    monkeypatch.setattr(_head, "TILE_BYTES", 1)
    with Widest() as seen:
        model(**batch(), loss_over=_loss.Labels(10))
    assert seen.rows == 1


@pytest.mark.parametrize("training", [True, False])
def test_a_head_is_told_without_dropout_and_the_model_is_left_as_it_was(training: bool) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model("phi", **SIZES, embd_pdrop=0.5, resid_pdrop=0.5)
    model = AutoModelForCausalLM.from_config(config).train(training)
    assert _head.Head.of(model) is not None
    assert model.training is training


@pytest.mark.parametrize(
    ("dtype", "factor"), [(torch.float32, 1.001), (torch.bfloat16, 1.5), (torch.float32, -1.0)]
)
@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_a_head_whose_logits_are_off_by_a_share_is_not_taken_for_a_plain_one(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, factor: float, size: float
) -> None:
    model = family("llama").to(dtype)
    model.get_output_embeddings().weight.data.mul_(size)
    assert _head.Head.of(model) is not None
    own = type(model).forward

    def scaled(self: Any, *args: Any, **given: Any) -> Any:
        outputs = own(self, *args, **given)
        outputs.logits = outputs.logits * factor
        return outputs

    monkeypatch.setattr(type(model), "forward", scaled)
    assert _head.Head.of(model) is None


def test_a_head_of_zeros_is_a_plain_one() -> None:
    model = family("llama")
    model.get_output_embeddings().weight.data.zero_()
    assert _head.Head.of(model) is not None


@pytest.mark.parametrize(
    ("fields", "factor"),
    [
        ({"model_type": "granite", "logits_scaling": 8.0}, 1 / 8),
        ({"model_type": "hyperclovax", "logits_scaling": 0.5}, 0.5),
        ({"model_type": "cohere", "logit_scale": 0.0625}, 0.0625),
        ({"model_type": "falcon_h1", "lm_head_multiplier": 0.3}, 0.3),
        ({"model_type": "grok", "output_multiplier": 3.0, "logit_scale": None}, 3.0),
        ({"model_type": "llama", "logits_scaling": None}, 1.0),
    ],
)
def test_factor_of_the_logits_is_read_where_each_family_keeps_it(
    fields: dict[str, Any], factor: float
) -> None:
    assert _head._scale(SimpleNamespace(**fields)) == factor


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "gpt_neox"])
def test_each_family_with_one_matrix_for_a_head_takes_the_short_way(name: str) -> None:
    assert _head.Head.of(family(name)) is not None


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
    assert _head.Head.of(model) is None
    require_equal(model)


def test_an_adapter_on_the_head_is_trained() -> None:
    from peft import LoraConfig, get_peft_model

    model = family("llama")
    adapted = get_peft_model(model, LoraConfig(target_modules=["lm_head"], init_lora_weights=False))
    assert _head.Head.of(adapted.get_base_model()) is None
    require_equal(adapted.get_base_model())


@pytest.mark.parametrize("adapted", [False, True])
def test_no_logits_stand_where_there_is_no_label(
    adapted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, given = family("llama"), batch()
    if adapted:
        model.requires_grad_(False).get_input_embeddings().requires_grad_(True)
    _loss.add_labelled_loss(model)
    labels = int((given["labels"][:, 1:] != IGNORED).sum())
    monkeypatch.setattr(_head, "SMALL_BYTES", 0)
    with Widest() as seen:
        model(**given, loss_over=_loss.Labels(labels)).loss.backward()
    assert seen.rows == labels < ROWS * (LENGTH - 1)


def test_logits_of_a_large_batch_never_stand_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = family("llama"), batch()
    _loss.add_labelled_loss(model)
    monkeypatch.setattr(_head, "SMALL_BYTES", 0)
    monkeypatch.setattr(_head, "TILE_BYTES", 4 * VOCABULARY * 5)
    with Widest() as seen:
        loss = model(**given, loss_over=_loss.Labels(None)).loss
    assert seen.rows == 5
    assert loss.requires_grad


def test_a_batch_without_labels_has_no_loss_and_no_gradient() -> None:
    model, given = family("llama"), batch()
    given["labels"][:] = IGNORED
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
    assert plain["tokens"] == ours["tokens"]
    assert all(torch.equal(plain["weights"][n], ours["weights"][n]) for n in plain["weights"])


def test_the_experts_own_loss_is_added_as_trl_adds_it(tiny_model: Path, tmp_path: Path) -> None:
    plain, ours = (_trained("mixtral", tiny_model, tmp_path, own) for own in (False, True))
    for name in ("losses", "aux_loss", "tokens"):
        assert ours[name] == pytest.approx(plain[name], rel=1e-6)
        assert len(ours[name]) == 4


@pytest.mark.parametrize("count", [None, 60])
@pytest.mark.parametrize("training", [True, False])
def test_one_batch_is_judged_and_counted_as_trl_does_it(
    training: bool, count: int | None, tiny_model: Path, tmp_path: Path
) -> None:
    """In training and in an evaluation, with the labels of the batch or of a whole step."""
    told = []
    for own in (True, False):
        made = _trainer("mixtral", tiny_model, tmp_path / str(own), own)
        made.current_gradient_accumulation_steps = 2
        made.model.train(training)
        loss = made.compute_loss(made.model, batch(), num_items_in_batch=count)
        told.append((loss.item(), dict(made._metrics["train"]), dict(made._metrics["eval"])))
    (loss, *ours), (wanted, *theirs) = told
    assert loss == pytest.approx(wanted, rel=1e-6)
    for own_metrics, metrics in zip(ours, theirs, strict=True):
        for name in ("num_tokens", "aux_loss"):
            assert (name in own_metrics) == (name in metrics)
            own_values = [float(value) for value in own_metrics.get(name, [])]
            assert own_values == pytest.approx(metrics.get(name, []), rel=1e-6)


def test_outputs_are_returned_beside_the_loss_where_they_are_asked_for(
    tiny_model: Path, tmp_path: Path
) -> None:
    made = _trainer("full", tiny_model, tmp_path)
    with pytest.warns(FutureWarning, match="return_outputs"):
        loss, outputs = made.compute_loss(made.model, batch(), return_outputs=True)
    assert made.compute_loss(made.model, batch()).item() == pytest.approx(loss.item(), rel=1e-6)
    assert outputs.logits is not None


AS_TRL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "metrics of tokens": ({"token_metrics": True}, {}),
    "another loss": ({}, {"loss_type": "dft"}),
    "label smoothing": ({}, {"label_smoothing_factor": 0.1}),
    "a loss of the caller": ({"compute_loss_func": lambda *_, **__: torch.zeros(())}, {}),
}


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
@pytest.mark.parametrize(("further", "changed"), AS_TRL.values(), ids=AS_TRL)
def test_any_other_loss_is_left_to_trl_and_an_adapter_on_the_head_is_refused_there(
    further: dict[str, Any], changed: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    made = _trainer("full", tiny_model, tmp_path / "full", further=further, **changed)
    assert made._as_trl
    with pytest.raises(StageFailed, match="adapter on the head cannot be trained"):
        _trainer("head", tiny_model, tmp_path / "head", further=further, **changed)


@pytest.mark.parametrize("kind", ["full", "lora", "head"])
def test_the_plain_loss_is_of_labels_alone_unless_something_else_is_asked_for(
    kind: str, tiny_model: Path, tmp_path: Path
) -> None:
    made = _trainer(kind, tiny_model, tmp_path)
    assert not made._as_trl
    assert made.compute_loss(made.model, batch()).requires_grad
    assert sft_trainer.BaseTunerLayer is BaseTunerLayer, "TRL is as it was"


def test_tokens_of_a_batch_are_those_that_are_no_padding() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert _loss._tokens({"attention_mask": mask, "position_ids": torch.zeros(1, 9)}) == 3
    assert _loss._tokens({"position_ids": torch.zeros(1, 7)}) == 7


def _trained(kind: str, path: Path, folder: Path, own: bool) -> dict[str, Any]:
    made = _trainer(kind, path, folder, own)
    made.train()
    losses, tokens, experts = (
        [entry[name] for entry in made.state.log_history if name in entry]
        for name in ("loss", "num_tokens", "aux_loss")
    )
    weights = dict(made.model.named_parameters())
    return {"losses": losses, "tokens": tokens, "aux_loss": experts, "weights": weights}


def _trainer(
    kind: str, path: Path, folder: Path, own: bool = True, further: Any = None, **changed: Any
) -> Any:
    """TRL's trainer, or ours (`own`), of a tiny model.

    Args:
        further: arguments of the trainer. changed: fields of its config.
    """
    from datasets import Dataset
    from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    torch.manual_seed(0)
    if kind in ("mixtral", "head"):  # the tiny model's head is tied
        sizes = {**SIZES, "vocab_size": 300, "num_local_experts": 2}
        config = AutoConfig.for_model("mixtral" if kind == "mixtral" else "llama", **sizes)
        model = AutoModelForCausalLM.from_config(config)
    else:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    adapters = {
        "lora": LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"),
        "head": LoraConfig(target_modules=["lm_head"], task_type="CAUSAL_LM"),
        "prompt_tuning": PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
        "prefix_tuning": PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
    }
    if kind in adapters:
        model = get_peft_model(model, adapters[kind])
    return (_loss.LabelledTrainer if own else SFTTrainer)(
        model=model,
        processing_class=AutoTokenizer.from_pretrained(path),
        train_dataset=Dataset.from_list([{"messages": r["messages"]} for r in chat_rows(0, 24)]),
        args=SFTConfig(
            output_dir=str(folder), learning_rate=1e-2, max_steps=4, max_length=64,
            per_device_train_batch_size=3, gradient_accumulation_steps=2, bf16=False,
            gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to=[],
            use_cpu=True, dataloader_pin_memory=False, disable_tqdm=True, assistant_only_loss=True,
            router_aux_loss_coef=0.1 if kind == "mixtral" else None, **changed,
        ),
        **(further or {}),
    )  # fmt: skip


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
