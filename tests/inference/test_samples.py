"""Samples are drawn alike in any batch, from the model's own distribution, and are compared."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import StageFailed, SuiteError
from harness.inference import continuous, decoding, sampling
from harness.inference.generate import generate
from harness.inference.sampling import sampled, seed_of, uniform
from harness.inference.sharing import Sharing
from harness.scorers.base import Prediction
from harness.scorers.distinct import Distinct
from harness.scorers.self_bleu import SelfBleu
from tests.conftest import Workspace

OPTIONS: dict[str, Any] = {
    "max_new_tokens": 6, "until": [], "batch_tokens": 4096, "temperature": 1.0, "top_p": 1.0,
}  # fmt: skip


def drawn(*samples: str) -> Prediction:
    return Prediction("1", "1", "", "", "", (), samples)


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    return model, AutoTokenizer.from_pretrained(tiny_model)


def test_a_sample_does_not_depend_on_what_it_is_batched_with(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    prompts = [tokenizer(text=text)["input_ids"] for text in ("a?", "a?", "bcd?", "e" * 9)]
    seeds = [seed_of(0, "row", k) for k in range(4)]
    nothing = lambda *_: None  # noqa: E731
    together = generate(model, tokenizer, prompts, OPTIONS, nothing, seeds=seeds)
    alone = [
        generate(model, tokenizer, [prompt], OPTIONS, nothing, seeds=[seed])[0]
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    assert together == alone
    assert together[0].text != together[1].text  # the same prompt, another seed
    assert together != generate(model, tokenizer, prompts, OPTIONS, nothing)


STOPPING = {**OPTIONS, "until": ["e", "\n"], "max_new_tokens": 20, "top_p": 0.9}


@pytest.mark.parametrize("batch_tokens", [4096, 60])
@pytest.mark.parametrize("options", [OPTIONS, STOPPING], ids=["plain", "stopping"])
def test_continuous_batching_answers_as_transformers_generate_does(
    options: dict[str, Any],
    batch_tokens: int,
    loaded: tuple[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, tokenizer = loaded
    texts = ["a?", "a?", "bcd?", "e" * 9, "a much longer one " * 6, "", "q" * 30]
    prompts = [tokenizer(text=text or "x")["input_ids"] for text in texts]
    asked = {**options, "batch_tokens": batch_tokens}
    nothing = lambda *_: None  # noqa: E731
    answers = []
    for sharing in (Sharing(True, answers=True), Sharing(False)):
        monkeypatch.setattr(decoding, "sharing_of", lambda _, found=sharing: found)
        answers.append([
            generate(model, tokenizer, prompts, asked, nothing, seeds=seeds)
            for seeds in (None, range(len(prompts)))
        ])  # fmt: skip
    assert answers[0] == answers[1]
    assert len({answer.text for answer in answers[0][1]}) > 4


def test_short_rows_do_not_wait_for_the_slots_that_a_long_one_takes(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = loaded
    prompts = [[5] * 200, *([7, 8 + i] for i in range(20))]
    slots: list[int] = []
    begin = continuous._Engine.__init__

    def counted(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        slots.append(self.slots)

    monkeypatch.setattr(continuous._Engine, "__init__", counted)
    model_sharing = Sharing(True, answers=True)
    monkeypatch.setattr(decoding, "sharing_of", lambda _: model_sharing)
    asked = {**OPTIONS, "batch_tokens": 256}
    assert len(generate(model, tokenizer, prompts, asked, lambda *_: None)) == 21
    assert slots == [1, 20]


@pytest.mark.parametrize("seeds", [None, [1]])
@pytest.mark.parametrize("sharing", [Sharing(True, answers=True), Sharing(False)])
def test_a_model_that_gives_no_numbers_gives_no_answer(
    sharing: Sharing, seeds: Any, loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.deepcopy(loaded[0])
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    monkeypatch.setattr(decoding, "sharing_of", lambda _: sharing)
    with pytest.raises(StageFailed, match="not numbers"):
        generate(model, loaded[1], [[5, 6]], OPTIONS, lambda *_: None, seeds=seeds)


def test_answers_are_the_models_own_whatever_its_generation_config_penalises(
    loaded: tuple[Any, Any],
) -> None:
    model, tokenizer = copy.deepcopy(loaded[0]), loaded[1]
    prompts = [tokenizer(text=text)["input_ids"] for text in ("a?", "bcd?", "e" * 9)]
    nothing = lambda *_: None  # noqa: E731
    plain = generate(model, tokenizer, prompts, OPTIONS, nothing)
    model.generation_config.repetition_penalty = 5.0  # as instruct models bring one
    model.generation_config.no_repeat_ngram_size = 1
    assert generate(model, tokenizer, prompts, OPTIONS, nothing) == plain


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.7)])
def test_tokens_come_as_often_as_their_probability(temperature: float, top_p: float) -> None:
    import torch

    logits = torch.tensor([2.0, 0.5, 1.0, -1.0])
    draws = [uniform(seed) for seed in range(4000)]
    chosen = Counter(sampled(draws, logits.expand(4000, -1), temperature, top_p).tolist())
    wanted = (logits / temperature).softmax(-1)
    kept, total = set(), 0.0
    for token in wanted.argsort(descending=True).tolist():
        if total < top_p:
            kept.add(token)
            total += float(wanted[token])
    for token in range(4):
        share = float(wanted[token]) / total if token in kept else 0.0
        assert chosen[token] / 4000 == pytest.approx(share, abs=0.03)
        assert token in kept or chosen[token] == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(alphabet="ab c", max_size=12), min_size=2, max_size=4))
def test_self_bleu_is_sacrebleus_of_each_against_the_others(samples: list[str]) -> None:
    from sacrebleu import sentence_bleu

    expected = []
    for i, own in enumerate(samples):
        others = samples[:i] + samples[i + 1 :]
        if own.strip():
            expected.append(sentence_bleu(own, others).score)
        else:
            expected.append(100.0 if any(not other.strip() for other in others) else 0.0)
    found = SelfBleu().score(drawn(*samples))["self_bleu"]
    assert found == pytest.approx(sum(expected) / len(expected))


def test_samples_that_are_alike_have_little_diversity() -> None:
    same, other = drawn("a b c d e", "a b c d e"), drawn("a b c d e", "v w x y z")
    scorer = Distinct(over="samples", orders=[1])
    likeness = SelfBleu()
    assert likeness.score(same)["self_bleu"] == pytest.approx(100)
    assert likeness.score(other)["self_bleu"] < 20
    assert scorer.score_all([same, other]) == [
        {"sample_distinct_1_new": 5.0, "sample_distinct_1_all": 10.0},
        {"sample_distinct_1_new": 10.0, "sample_distinct_1_all": 10.0},
    ]


def test_suite_draws_samples_beside_the_greedy_answer(workspace: Workspace) -> None:
    workspace.tree["generate"] = {"max_new_tokens": 4, "samples": 3}
    workspace.tree["scorers"] = ["exact_match", "self_bleu", {"distinct": {"over": "samples"}}]
    with pytest.raises(SuiteError, match=r"draws none[\s\S]*base.zero-shot"):
        workspace.open()
    workspace.tree["base"]["zero-shot"] = {"max_new_tokens": 4, "samples": 3}
    outcome = workspace.run(only="zero-shot")
    assert not outcome.failed, [r.error for r in outcome.failed]
    (folder,) = (workspace.store / "generate").iterdir()
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert {len(line["samples"]) for line in lines} == {3}
    assert any(len(set(line["samples"])) > 1 for line in lines)


def test_suites_without_samples_keep_their_cached_answers(workspace: Workspace) -> None:
    """What nothing is sampled with does not belong to a stage's identity."""
    plain = workspace.open("generate={max_new_tokens: 4}").plan
    cooled = workspace.open("generate={max_new_tokens: 4, temperature: 0.5}").plan
    drawing = workspace.open("generate={max_new_tokens: 4, samples: 2}").plan
    keys = [{g.key for p in plan.paths for g in p.generate.values()} for plan in
            (plain, cooled, drawing)]  # fmt: skip
    assert keys[0] == keys[1]
    assert keys[0] != keys[2]


def test_how_many_draws_are_made_at_once_changes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for steps in (1, 64):
        monkeypatch.setattr(sampling, "_STEPS", steps)
        draws, scores = [uniform(3), uniform(5)], torch.zeros(2, 50)
        found.append([sampled(draws, scores, 1.0, 1.0).tolist() for _ in range(150)])
    assert found[0] == found[1]
    assert len({tuple(tokens) for tokens in found[0]}) > 100
