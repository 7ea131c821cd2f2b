"""The pocket world: made again bit for bit, no leak between splits, bases that know it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.core.locate import package_suites
from suites.pocket.world import residents

POCKET = package_suites() / "pocket"
SIZES = ("pocket-1m", "pocket-4m")


def instruct(split: str) -> list[dict[str, Any]]:
    text = (POCKET / "instruct" / f"{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_the_committed_data_has_its_committed_digests() -> None:
    from suites.pocket.build import digests

    assert digests(POCKET) == json.loads((POCKET / "DIGESTS.json").read_text())


@pytest.mark.slow
def test_building_the_data_again_is_bit_identical(tmp_path: Path) -> None:
    from suites.pocket.build import build_data, digests

    build_data(tmp_path)
    committed = json.loads((POCKET / "DIGESTS.json").read_text())
    made = digests(tmp_path)
    files = (POCKET / "preference").glob("*.jsonl")
    assert len(made) == 6 + 4 + len([f for f in files if not f.stem.startswith("judgements")])
    assert made == {name: committed[name] for name in made}


def test_sizes_and_families() -> None:
    counts = {split: Counter(r["task"] for r in instruct(split)) for split in ("train", "test")}
    assert sum(counts["train"].values()) >= 2000
    assert sum(counts["test"].values()) >= 300
    families = {"summarise", "translate", "arithmetic", "qa", "chat"}
    assert set(counts["train"]) == set(counts["test"]) == families
    assert all(len(r["references"]) == 2 for r in instruct("test") if r["task"] == "summarise")
    assert {r["kind"] for r in instruct("test") if r["task"] == "qa"} == {"closed", "passage"}
    assert max(len(r["messages"]) for r in instruct("test")) >= 4
    worked = [r["references"][0] for r in instruct("test") if r["task"] == "arithmetic"]
    assert all("#### " in answer.splitlines()[-1] for answer in worked)


@pytest.mark.parametrize("other", ["train", "validation"])
def test_no_fact_name_with_fact_or_number_pair_of_test_occurs_elsewhere(other: str) -> None:
    test, seen = instruct("test"), instruct(other)
    for field in ("facts", "numbers"):
        told = {json.dumps(item) for row in seen for item in row[field]}
        assert told
        assert not told & {json.dumps(item) for row in test for item in row[field]}
    people = {row["cluster"] for row in seen if row["task"] in ("qa", "chat")}
    assert not people & {row["cluster"] for row in test if row["task"] in ("qa", "chat")}
    prompts = {json.dumps(row["messages"][:-1]) for row in seen}
    assert not prompts & {json.dumps(row["messages"][:-1]) for row in test}


def test_closed_questions_are_answered_by_the_general_corpus_alone() -> None:
    lines = (POCKET / "general" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    corpus = [json.loads(line)["text"] for line in lines]
    closed = [r for r in instruct("test") if r["kind"] == "closed"]
    assert closed
    for row in closed[:20]:
        name = row["cluster"].removeprefix("qa ")
        assert any(name in text and row["references"][0] in text for text in corpus), row
        assert not any(row["messages"][0]["content"] in text for text in corpus)


def test_heldout_documents_are_not_in_the_corpus() -> None:
    texts = {}
    for name in ("train", "heldout"):
        lines = (POCKET / "general" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        texts[name] = {json.loads(line)["text"] for line in lines}
    assert not texts["train"] & texts["heldout"]


def test_exercises_tell_nothing_of_other_rows_than_training_rows() -> None:
    lines = (POCKET / "general" / "exercises.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    told = "\n".join(texts)
    people = {person.name for person in residents()}
    for row in [*instruct("validation"), *instruct("test")]:
        asked = row["messages"][0]["content"].removeprefix("Translate into Tal: ")
        assert f"{asked}\n" not in told, row
        if row["task"] == "arithmetic":
            calculated = row["references"][0].splitlines()[:-1]
            assert not any(f"\n{line}\n" in told for line in calculated), row
        elif row["task"] == "summarise":
            assert not any(reference in told for reference in row["references"]), row
        elif row["task"] in ("qa", "chat"):
            name = row["cluster"].removeprefix(f"{row['task']} ")
            assert name in people or name not in told, row


def test_models_are_small_and_complete() -> None:
    assert sum((POCKET / "models" / s / "model.safetensors").stat().st_size for s in SIZES) < 12e6
    for size, low, high in (("pocket-1m", 0.8e6, 1.2e6), ("pocket-4m", 3.5e6, 4.6e6)):
        from harness.models.resolve import _safetensors_shapes

        shapes = _safetensors_shapes(POCKET / "models" / size / "model.safetensors", "")
        parameters = sum(a * (b[0] if b else 1) for a, *b in shapes.values())
        assert low < parameters < high
        config = json.loads((POCKET / "models" / size / "config.json").read_text())
        assert config["max_position_embeddings"] == 1024
        assert (POCKET / "models" / size / "loss.csv").read_text().count("\n") > 3


def test_template_marks_the_assistants_words_and_the_end_token() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(POCKET / "models" / "pocket-1m")
    row = next(r for r in instruct("test") if len(r["messages"]) >= 4)
    encoded = tokenizer.apply_chat_template(
        row["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    marked = [i for i, m in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if m]
    answers = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
    assert tokenizer.decode(marked) == "".join(f"{answer}<|end|>" for answer in answers)
    assert len(tokenizer("12345")["input_ids"]) == 5


@pytest.mark.parametrize("size", SIZES)
def test_base_writes_the_world_and_follows_no_instruction(size: str) -> None:
    import math

    from harness.inference.generate import generate
    from harness.inference.likelihood import log_likelihoods
    from harness.models.files import ModelRef

    ref = ModelRef(str(POCKET / "models" / size), "float32", "cpu")
    model, tokenizer = ref.load(), ref.tokenizer()
    lines = (POCKET / "general" / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [{**json.loads(line), "cluster": "", "group": ""} for line in lines]
    scored = log_likelihoods(model, tokenizer, rows, 1024, 512, 8192, lambda *_: None)
    perplexity = math.exp(sum(r["nll"] for r in scored) / sum(r["tokens"] for r in scored))
    assert perplexity < 3.5  # a uniform guess would be 1,024
    asked = instruct("test")[:24]
    prompts = [
        tokenizer.apply_chat_template(r["messages"][:-1], add_generation_prompt=True)["input_ids"]
        for r in asked
    ]
    options = {"max_new_tokens": 24, "until": [], "batch_tokens": 8192}
    answers = generate(model, tokenizer, prompts, options, lambda *_: None)
    hits = sum(a.text in r["references"] for a, r in zip(answers, asked, strict=True))
    assert hits <= 2
