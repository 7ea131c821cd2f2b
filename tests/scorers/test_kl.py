"""Divergence from the base is what its formula says, and is 0 for the base itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import comparison as compare
from harness.scorers.base import LoadedModel, ScoreJob
from harness.scorers.kl import Kl
from tests.conftest import Workspace


@pytest.fixture(scope="module")
def pair(tiny_model: Path) -> tuple[Any, Any, Any]:
    """A base, the same model with its weights moved, and their tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base, moved = (AutoModelForCausalLM.from_pretrained(tiny_model).eval() for _ in range(2))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in moved.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return base, moved, AutoTokenizer.from_pretrained(tiny_model)


def score(scorer: Kl, model: Any, base: Any, tokenizer: Any, texts: list[str]) -> list[Any]:
    rows = [{"id": str(i), "cluster": str(i), "group": "", "text": t} for i, t in enumerate(texts)]
    return scorer.score_job(reading(model, base, tokenizer, rows))


def reading(model: Any, base: Any, tokenizer: Any, rows: list[Any]) -> ScoreJob:
    before = LoadedModel(base, tokenizer)
    return ScoreJob({"model": LoadedModel(model, tokenizer), "base": before, "rows": rows})


@pytest.mark.parametrize("direction", ["from_base", "to_base"])
def test_divergence_is_torchs_own_in_double_precision(
    pair: tuple[Any, Any, Any], direction: str
) -> None:
    import torch

    base, moved, tokenizer = pair
    texts = ["a short text", "another one, rather longer than the first " * 3]
    found = score(Kl(direction=direction), moved, base, tokenizer, texts)
    for line, text in zip(found, texts, strict=True):
        ids = torch.tensor([tokenizer(text=text)["input_ids"]])
        with torch.inference_mode():
            p, q = (
                torch.distributions.Categorical(logits=m(ids).logits[0, :-1].double())
                for m in ((base, moved) if direction == "from_base" else (moved, base))
            )
        assert line["kl"] == pytest.approx(
            float(torch.distributions.kl_divergence(p, q).sum()), rel=1e-4
        )
        assert line["tokens"] == ids.shape[1] - 1


def test_a_model_does_not_diverge_from_itself(pair: tuple[Any, Any, Any]) -> None:
    base, _, tokenizer = pair
    assert [row["kl"] for row in score(Kl(), base, base, tokenizer, ["some text"])] == [0.0]


def test_long_texts_are_scored_once_a_token(pair: tuple[Any, Any, Any]) -> None:
    base, moved, tokenizer = pair
    text = "many words " * 30
    count = len(tokenizer(text=text)["input_ids"])
    (row,) = score(Kl(max_length=64, stride=16), moved, base, tokenizer, [text])
    assert row["tokens"] == count - 1


def test_of_an_answer_its_own_tokens_count_as_the_data_has_them(
    pair: tuple[Any, Any, Any],
) -> None:
    """Teacher-forced on the row's answer and its end, given the prompt, whose tokens are not
    counted; KL(base || variant) unless the suite turns it round."""
    import torch

    base, moved, tokenizer = pair
    row = {"id": "1", "cluster": "1", "group": "", "prompt": "question: ", "completion": "yes"}
    (found,) = Kl().score_job(reading(moved, base, tokenizer, [row]))
    asked = len(tokenizer(text=row["prompt"])["input_ids"])
    ids = torch.tensor([tokenizer(text="question: yes<|end|>")["input_ids"]])
    with torch.inference_mode():
        p, q = (m(ids).logits[0, asked - 1 : -1].double().log_softmax(-1) for m in (base, moved))
    assert found["tokens"] == ids.shape[1] - asked == 4
    assert found["kl"] == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-4)


def test_report_says_how_far_training_led_from_the_base(workspace: Workspace) -> None:
    kl = {"kl": {"data": "general"}}
    outcome = workspace.run("scorers=[exact_match, {kl: {data: general}}]")
    assert not outcome.failed, [r.error for r in outcome.failed]
    opened = workspace.open(f"scorers=[exact_match, {kl}]".replace("'", ""))
    found = compare.compare(opened.plan, outcome.records, opened.store)
    assert found.row("zero-shot", "kl_to_base").estimate.value == 0.0
    for variant in ("full-sft", "lora-sft"):
        row = found.row(variant, "kl_to_base")
        assert row.estimate.value > 0
        assert row.difference is not None
        assert row.difference.value == pytest.approx(row.estimate.value)
        assert not row.higher_is_better
