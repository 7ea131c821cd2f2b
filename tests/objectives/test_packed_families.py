"""Whatever the model's family, packed documents never see one another in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.objectives._trl.packed import CHECK, apart
from harness.store.stage import Record
from tests.conftest import Workspace, write_jsonl

TEXTS = [f"document {i}: {'abc ' * (1 + i % 5)}" for i in range(20)]
APART, LEAKING = ("llama", "gpt2", "gpt_neox"), ("opt", "falcon", "mamba")


def config_of(family: str) -> Any:
    """A tiny random model's config, for the tiny tokenizer."""
    import transformers

    vocabulary: dict[str, Any] = {
        "vocab_size": 260, "eos_token_id": 0, "pad_token_id": 1, "bos_token_id": None
    }  # fmt: skip
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, **vocabulary}
    made = {
        "llama": lambda: transformers.LlamaConfig(intermediate_size=48, **shape),
        "gpt2": lambda: transformers.GPT2Config(
            n_embd=32, n_layer=2, n_head=2, n_positions=256, **vocabulary
        ),
        "gpt_neox": lambda: transformers.GPTNeoXConfig(intermediate_size=48, **shape),
        "opt": lambda: transformers.OPTConfig(
            ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=256, **shape
        ),
        "falcon": lambda: transformers.FalconConfig(**shape),
        "mamba": lambda: transformers.MambaConfig(
            hidden_size=32, num_hidden_layers=2, state_size=8, **vocabulary
        ),
    }
    return made[family]()


def model_of(family: str, dtype: Any = None) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    attention = "eager" if family == "mamba" else "sdpa"
    made = AutoModelForCausalLM.from_config(
        config_of(family), attn_implementation=attention, dtype=dtype or torch.float32
    )
    return made


def collator(kind: str) -> Any:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from harness.objectives._trl.cpt import Collator

    if kind == "cpt":
        return Collator(1, isolated=True)
    return DataCollatorForLanguageModeling(pad_token_id=1, padding_free=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", [*APART, *LEAKING])
def test_the_check_tells_families_that_leak_from_those_that_do_not(family: str, dtype: str) -> None:
    import torch

    model = model_of(family, getattr(torch, dtype))
    documents = [list(range(10, 40)), list(range(50, 75))]
    for kind, rows in (("cpt", 2), ("cpt", 1), ("sft", 1)):
        found = apart(model, collator(kind), documents, rows)
        assert found["status"] == ("passed" if family in APART else "failed"), (kind, found)


def test_the_check_changes_neither_modes_nor_random_states_and_sees_an_adapter() -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(model_of("opt"), LoraConfig(r=2, target_modules=["q_proj"]))
    model.train()
    part = next(module for module in model.modules() if isinstance(module, torch.nn.LayerNorm))
    part.eval()
    modes = [module.training for module in model.modules()]
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    assert apart(model, collator("cpt"), [[9, 8, 7], [6, 5]])["status"] == "failed"
    assert torch.equal(torch.rand(2), wanted)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize(
    "documents", [[], [[7, 8, 9]], [[7, 7], [7]]], ids=["none", "one", "one token in all"]
)
def test_where_there_are_no_two_documents_nothing_is_claimed(documents: list[list[int]]) -> None:
    assert apart(model_of("opt"), collator("cpt"), documents)["status"] == "skipped"


def suite(
    workspace: Workspace, tiny_model: Path, family: str, objective: dict[str, Any], method: str
) -> Workspace:
    """The tiny tokenizer on a model of the family, trained for two steps."""
    from transformers import AutoTokenizer

    folder = workspace.folder / family
    model_of(family).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    write_jsonl(workspace.folder / "texts.jsonl", [{"text": text} for text in TEXTS])
    ((name, options),) = objective.items()
    short = {"max_steps": 2, "per_device_train_batch_size": 2, "max_length": 64}
    spec = {"path": str(folder), "attn_implementation": "eager" if family == "mamba" else "sdpa"}
    workspace.write(
        models={"tiny": spec},
        data={"texts": {"train": "texts.jsonl", "test": "general.jsonl"}},
        matrix={
            "data": ["texts"], "method": [method], "objective": [{name: {**short, **options}}]
        },
        scorers=["perplexity"],
        base={},
    )  # fmt: skip
    return workspace


def trained(workspace: Workspace) -> Record:
    (record,) = [r for r in workspace.run().records.values() if r.kind == "train"]
    return record


def entry(record: Record) -> dict[str, str]:
    (found,) = [c for c in record.metrics["audit"] if c["check"] == CHECK]
    return found


@pytest.mark.parametrize("family", LEAKING)
def test_cpt_unpacks_where_documents_would_leak_and_says_so(
    workspace: Workspace, tiny_model: Path, family: str
) -> None:
    from harness.comparison.compare import compare

    made = suite(workspace, tiny_model, family, {"cpt": {}}, "full")
    opened = made.open()
    record = trained(made)
    assert record.ok, record.error
    assert record.metrics["sequences"] == record.metrics["documents"] == len(TEXTS)
    assert entry(record)["status"] == "skipped"
    (note,) = record.metrics["notes"]
    assert "not packed" in note
    assert "another first document moves" in note
    outcome = made.run()
    told = compare(opened.plan, outcome.records, opened.store).notes
    assert any(note in sentence for sentence in told)


@pytest.mark.parametrize("objective", ["cpt", "sft"])
def test_packing_that_was_asked_for_is_refused_where_documents_would_leak(
    workspace: Workspace, tiny_model: Path, objective: str
) -> None:
    made = suite(workspace, tiny_model, "opt", {objective: {"packing": True}}, "lora")
    record = trained(made)
    assert record.error is not None
    assert "would see one another" in record.error["message"]
    assert f"set `packing: false` on {objective}" in str(record.error)


@pytest.mark.parametrize(
    ("family", "objective", "options"),
    [("llama", "cpt", {}), ("gpt2", "sft", {"packing": True}), ("gpt_neox", "cpt", {})],
)
def test_packing_where_documents_stay_apart_is_in_the_audit(
    workspace: Workspace, tiny_model: Path, family: str, objective: str, options: dict[str, Any]
) -> None:
    record = trained(suite(workspace, tiny_model, family, {objective: options}, "full"))
    assert record.ok, record.error
    assert entry(record)["status"] == "passed"
    assert "notes" not in record.metrics
    assert record.metrics.get("sequences", 0) < len(TEXTS)


@pytest.mark.parametrize(("family", "status"), [("llama", "passed"), ("opt", "skipped")])
def test_a_quantised_base_in_bfloat16_is_tried_as_it_trains(
    workspace: Workspace, tiny_model: Path, family: str, status: str
) -> None:
    made = suite(workspace, tiny_model, family, {"cpt": {}}, "qlora")
    made.tree["models"]["tiny"]["dtype"] = "bfloat16"
    record = trained(made)
    assert record.ok, record.error
    assert entry(record)["status"] == status
