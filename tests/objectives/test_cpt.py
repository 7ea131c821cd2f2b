"""Continued pre-training: packed documents are trained on as if they stood alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import DataError, HarnessError
from harness.store.stage import Record
from tests.conftest import Workspace, chat_rows, write_jsonl

TEXTS = [f"document {i}: {'abc ' * (1 + i % 5)}" for i in range(20)]


@pytest.fixture
def texts(workspace: Workspace) -> Workspace:
    """cpt on plain text instead of sft on chats."""
    write_jsonl(workspace.folder / "texts.jsonl", [{"text": text} for text in TEXTS])
    write_jsonl(workspace.folder / "more.jsonl", [{"text": f"general {i}"} for i in range(40)])
    workspace.write(
        data={
            "texts": {"train": "texts.jsonl", "test": "general.jsonl"},
            "general": {"train": "more.jsonl"},
        },
        scorers=["perplexity"],
        base={"base": {}},
    )
    return cpt(workspace)


def cpt(workspace: Workspace, **options: Any) -> Workspace:
    fields = {"learning_rate": 1e-2, "per_device_train_batch_size": 4, "max_length": 64}
    matrix = {"data": ["texts"], "method": ["full"], "objective": [{"cpt": {**fields, **options}}]}
    workspace.write(matrix=matrix)
    return workspace


def trained(workspace: Workspace) -> tuple[Record, list[dict[str, float]]]:
    outcome = workspace.run(only="full-cpt")
    assert not outcome.failed, outcome.failed[0].error
    (record,) = [r for r in outcome.records.values() if r.kind == "train"]
    log = workspace.store / "train" / record.key[:24] / "steps.jsonl"
    return record, [json.loads(line) for line in log.read_text().splitlines()]


def load(tiny_model: Path, attention: str = "sdpa") -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(
        tiny_model, dtype=torch.float32, attn_implementation=attention
    )
    return model.eval(), AutoTokenizer.from_pretrained(tiny_model)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]


def loss_one_by_one(model: Any, documents: list[list[int]]) -> float:
    """The oracle: each document alone in the model, nothing but torch's cross-entropy."""
    import torch

    nats, tokens = 0.0, 0
    for ids in documents:
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
        nats, tokens = nats + losses.sum().item(), tokens + len(ids) - 1
    return nats / tokens


def test_packed_step_has_the_loss_of_the_documents_one_by_one(
    texts: Workspace, tiny_model: Path
) -> None:
    model, tokenizer = load(tiny_model)
    alone = loss_one_by_one(model, [ids_of(tokenizer, text) for text in TEXTS])
    cpt(texts, per_device_train_batch_size=100)
    record, (step,) = trained(texts)
    assert record.metrics["sequences"] < len(TEXTS)  # something was packed
    assert step["loss"] == pytest.approx(alone, rel=1e-5)
    cpt(texts, per_device_train_batch_size=100, isolate_documents=False)
    _, (mixed,) = trained(texts)
    assert mixed["loss"] != pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_documents_are_isolated_in_logits_and_a_plain_mask_would_leak(
    tiny_model: Path, attention: str
) -> None:
    import torch

    from harness.objectives._trl.cpt import Collator

    model, tokenizer = load(tiny_model, attention)
    documents = [ids_of(tokenizer, text) for text in ("one two", "three", "four five six")]
    row = {
        "input_ids": [t for ids in documents for t in ids],
        "seq_lengths": [len(ids) for ids in documents],
    }
    short = {"input_ids": documents[0], "seq_lengths": [len(documents[0])]}
    batch = Collator(1, isolated=True)([row, short])
    batch.pop("tokens"), batch.pop("labels")
    packed = model(**batch, use_cache=False).logits
    leaking = model(
        **batch, attention_mask=torch.ones_like(batch["input_ids"]), use_cache=False
    ).logits
    start = len(documents[0])
    for ids in documents[1:]:
        alone = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        assert torch.allclose(packed[0, start : start + len(ids)], alone, atol=1e-5)
        assert not torch.allclose(leaking[0, start : start + len(ids)], alone, atol=1e-3)
        start += len(ids)
    assert torch.allclose(packed[1, : len(documents[0])], packed[0, : len(documents[0])], atol=1e-5)


def test_losses_equal_plain_trl_with_packing(texts: Workspace, tiny_model: Path) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    record, steps = trained(texts)
    torch.manual_seed(0)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
        train_dataset=Dataset.from_list([{"text": text} for text in TEXTS]),
        args=SFTConfig(
            output_dir=str(texts.folder / "trl"), learning_rate=1e-2, num_train_epochs=1,
            per_device_train_batch_size=4, max_length=64, optim="adamw_torch", bf16=False,
            packing=True, packing_strategy="bfd_split", shuffle_dataset=False,
            gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to=[],
            use_cpu=True, seed=0, data_seed=0, dataloader_pin_memory=False, disable_tqdm=True,
        ),
    )  # fmt: skip
    trainer.train()
    plain = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(plain) > 1
    assert [s["loss"] for s in steps] == pytest.approx([s["loss"] for s in plain], rel=1e-4)
    assert record.cost["tokens"] == plain[-1]["num_tokens"]  # TRL lays batches out unpadded


@pytest.mark.parametrize(
    "options",
    [{}, {"packing": False}, {"isolate_documents": False}, {"num_train_epochs": 2}],
)
def test_tokens_in_the_record_are_the_documents_without_padding(
    texts: Workspace, tiny_model: Path, options: dict[str, Any]
) -> None:
    _, tokenizer = load(tiny_model)
    tokens = sum(len(ids_of(tokenizer, text)) for text in TEXTS)
    record, _ = trained(cpt(texts, **options))
    assert record.cost["tokens"] == tokens * options.get("num_train_epochs", 1)
    assert record.metrics["tokens_cut"] == 0


@settings(max_examples=40, deadline=None)
@given(
    documents=st.lists(st.lists(st.integers(5, 90), min_size=2, max_size=30), min_size=1),
    limit=st.integers(4, 12),
    packing=st.booleans(),
)
def test_packing_keeps_every_token_and_no_sequence_is_over_the_length(
    documents: list[list[int]], limit: int, packing: bool
) -> None:
    from datasets.utils.logging import disable_progress_bar

    from harness.objectives._trl.cpt import _sequences
    from harness.objectives.cpt import Cpt

    disable_progress_bar()
    made = _sequences(Cpt(max_length=limit, packing=packing), documents)
    assert [len(ids) for ids in made["input_ids"]] == [sum(parts) for parts in made["seq_lengths"]]
    assert max(len(ids) for ids in made["input_ids"]) <= limit
    parts = [ids[i : i + limit] for ids in documents for i in range(0, len(ids), limit)]
    packed = []
    for ids, sizes in zip(made["input_ids"], made["seq_lengths"], strict=True):
        for size in sizes:
            packed.append(ids[:size])
            ids = ids[size:]
    left_out = [part for part in parts if len(part) == 1]  # nothing to predict in them
    assert sorted(p for p in packed if len(p) > 1) == sorted(p for p in parts if len(p) > 1)
    assert len(packed) >= len(parts) - len(left_out)


def test_replay_has_its_share_of_the_tokens_and_is_the_same_every_time(texts: Workspace) -> None:
    cpt(texts, replay={"data": "general", "share": 0.25})
    record, _ = trained(texts)
    assert record.metrics["replay_share"] == pytest.approx(0.25, abs=0.001)
    first = {r.key: r for r in texts.run(store=texts.folder / "again").records.values()}
    assert first[record.key].outputs == record.outputs
    data = texts.tree["data"]
    texts.write(data={"texts": data["texts"], "renamed": data["general"]})
    cpt(texts, replay={"data": "renamed", "share": 0.25})
    assert record.key in {stage.key for stage in texts.open().plan.stages()}
    plain, _ = trained(cpt(texts))
    assert plain.cost["tokens"] < record.cost["tokens"]


def test_replayed_rows_are_checked_for_contamination_too(texts: Workspace) -> None:
    cpt(texts, replay={"data": "general", "share": 0.25})
    labels = [stage.label for stage in texts.open().plan.contamination]
    assert "general/train in texts/test" in labels


def test_too_little_text_to_replay_is_an_error_with_the_share_it_would_give() -> None:
    from harness.objectives._trl.cpt import replayed

    general = [[1] * 10] * 5
    assert sum(len(ids) for ids in replayed(general, 90, 0.1, seed=0)) == 10
    assert sum(len(ids) for ids in replayed(general, 93, 0.1, seed=0)) == 10
    with pytest.raises(DataError, match=r"lower the share to 0\.333"):
        replayed(general, 100, 0.5, seed=0)


def test_unknown_entry_to_replay_is_named(texts: Workspace) -> None:
    cpt(texts, replay={"data": "genral"})
    with pytest.raises(HarnessError, match="did you mean 'general'"):
        texts.open()


def test_chats_are_rendered_as_documents_and_preferences_are_refused(texts: Workspace) -> None:
    write_jsonl(texts.folder / "texts.jsonl", chat_rows(0, 12))
    record, _ = trained(texts)
    assert record.metrics["documents"] == 12
    pairs = [{"prompt": "a", "chosen": f"b{i}", "rejected": "c"} for i in range(4)]
    write_jsonl(texts.folder / "texts.jsonl", pairs)
    with pytest.raises(HarnessError, match="answers that are not wanted"):
        texts.run()


def test_method_that_cannot_keep_packed_documents_apart_is_refused(
    texts: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toy_method import Bitfit

    monkeypatch.setattr(Bitfit, "traits", frozenset())
    matrix = texts.tree["matrix"]
    texts.write(matrix={**matrix, "method": ["bitfit"]})
    with pytest.raises(HarnessError, match=r"'bitfit' cannot be trained with 'cpt'.*packing"):
        texts.open()
    objective = {"cpt": {"packing": False, "max_length": 64}}
    texts.write(matrix={**matrix, "method": ["bitfit"], "objective": [objective]})
    assert texts.open().plan.paths


def test_training_that_broke_off_goes_on_to_the_same_tokens_and_weights(
    texts: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.objectives._trl.cpt import PackedTrainer

    texts.write(resources={"checkpoint_seconds": 0})
    cpt(texts, num_train_epochs=2, per_device_train_batch_size=2)
    whole, _ = trained(texts)
    compute, calls = PackedTrainer.compute_loss, []

    def breaks_once(self: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("the plug was pulled")
        return compute(self, *arguments, **named)

    monkeypatch.setattr(PackedTrainer, "compute_loss", breaks_once)
    again = texts.folder / "again"
    assert texts.run(store=again).failed
    records = texts.run(store=again).records
    assert len(calls) < 2 * whole.metrics["steps"]  # it did not start from the beginning
    assert records[whole.key].outputs == whole.outputs
    assert records[whole.key].cost["tokens"] == whole.cost["tokens"]
