"""Adapters from elsewhere that bring embeddings of their own, or a larger vocabulary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.core.errors import HarnessError
from tests.conftest import Workspace
from tests.families import byte_tokenizer, make

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`"),
]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make("llama", tmp_path / "base", tie_word_embeddings=False)


def trained(base: Path, folder: Path, rows: int = 0, **options: Any) -> Any:
    """A LoRA as PEFT's users train and save it."""
    import peft
    from transformers import AutoModelForCausalLM

    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_pretrained(base)
    if rows:
        model.resize_token_embeddings(rows)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=3, **options)
    model = peft.get_peft_model(model, config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    return model.eval()


def scored(workspace: Workspace, base: Path, folder: Path) -> tuple[float, Any]:
    """The perplexity of general text, through the stages; and the plan."""
    workspace.write(
        models={"tiny": str(base)}, matrix={}, base={}, evaluate=["general"],
        checkpoints={"theirs": str(folder)}, scorers=["perplexity"],
    )  # fmt: skip
    planned = workspace.open().plan
    outcome = workspace.run()
    assert not outcome.failed, [record.error for record in outcome.failed]
    (score,) = [r for r in outcome.records.values() if r.kind == "score"]
    return float(score.metrics["metrics"]["perplexity"]["value"]), planned


@pytest.mark.parametrize(
    "targets", [["lm_head", "q_proj"], ["embed_tokens", "q_proj"], ["lm_head", "embed_tokens"]]
)
def test_adapters_of_the_embedding_or_the_head_are_scored(
    workspace: Workspace, base: Path, tmp_path: Path, targets: list[str]
) -> None:
    model = trained(base, tmp_path / "theirs", target_modules=targets)
    found, _ = scored(workspace, base, tmp_path / "theirs")
    assert found == pytest.approx(perplexity(model, workspace), rel=1e-4)


@pytest.mark.parametrize("targets", [["q_proj"], ["q_proj", "lm_head"]])
def test_a_larger_vocabulary_is_taken_over_and_said_by_plan(
    workspace: Workspace, base: Path, tmp_path: Path, targets: list[str]
) -> None:
    rows = len(byte_tokenizer()) + 4
    model = trained(base, tmp_path / "theirs", rows, target_modules=targets)
    found, planned = scored(workspace, base, tmp_path / "theirs")
    assert any(f"embeddings of {rows} tokens" in told for told in planned.warnings)
    assert found == pytest.approx(perplexity(model, workspace), rel=1e-4)


@pytest.mark.parametrize("key", ["pad_token", "chat_template"])
def test_a_tokenizer_beyond_the_vocabulary_is_refused_by_plan(
    workspace: Workspace, base: Path, tmp_path: Path, key: str
) -> None:
    trained(base, tmp_path / "theirs", target_modules=["q_proj"])
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|more|>"]})
    setattr(tokenizer, key, "<|more|>")
    tokenizer.save_pretrained(tmp_path / "theirs")
    with pytest.raises(HarnessError, match=r"<\|more\|>[\s\S]*rows[\s\S]*resize_token_embeddings"):
        scored(workspace, base, tmp_path / "theirs")


def perplexity(model: Any, workspace: Workspace) -> float:
    """By a plain loop over the rows' tokens."""
    tokenizer, total, count = byte_tokenizer(), 0.0, 0
    for line in (workspace.folder / "general.jsonl").read_text().splitlines():
        ids = torch.tensor([tokenizer(json.loads(line)["text"])["input_ids"]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        total, count = total + float(losses.sum()), count + len(losses)
    return float(torch.tensor(total / count).exp())
