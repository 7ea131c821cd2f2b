"""Scores equal those of the libraries that people cite."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.aggregate import AGGREGATES
from harness.core.errors import DataError
from harness.scorers.base import Prediction
from harness.scorers.classification import Classification
from harness.scorers.distinct import Distinct
from harness.scorers.exact_match import ExactMatch
from harness.scorers.rouge import Rouge
from harness.scorers.squad import Squad
from harness.scorers.token_f1 import TokenF1


def prediction(text: str, *references: str) -> Prediction:
    return Prediction("1", "1", "", "", text, references)


words = st.text(alphabet="abc \n.é\u212a\u0130\udc80", max_size=30)


@settings(max_examples=50, deadline=None)
@given(words, st.lists(words, min_size=1, max_size=3), st.booleans())
def test_rouge_is_the_best_reference_of_rouge_score(
    text: str, references: list[str], stem: bool
) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    types = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    oracle = RougeScorer(types, use_stemmer=stem)
    one_by_one = [oracle.score(reference, text) for reference in references]
    found = Rouge(use_stemmer=stem).score(prediction(text, *references))
    for name in types:
        assert found[name] == max(scores[name].fmeasure for scores in one_by_one)


@pytest.mark.real
def test_rouge_reproduces_the_published_figures(real_data: Path) -> None:
    """The ground truth of ROUGE-1.5.5 in rouge_scorer_test.py, to its five decimals."""
    folder = real_data / "metrics" / "google_rouge"
    published = json.loads((folder / "expected.json").read_text(encoding="utf-8"))

    def file(name: str) -> str:
        return (folder / f"{name}.txt").read_text(encoding="utf-8")

    targets, predictions = file("target").splitlines(), file("prediction").splitlines()
    cases = [(targets[int(i)], predictions[int(i)], figures)
             for i, figures in published["target_vs_prediction_line"].items()]  # fmt: skip
    cases.append((file("target_multi.0"), file("prediction_multi.0"), published["multi.0"]))
    cases += [(case.pop("target"), case.pop("prediction"), case) for case in published["inline"]]
    assert len(cases) == 7
    for target, text, figures in cases:
        for figure, (_, _, f1) in figures.items():
            stem = figure.endswith("_stem")
            found = Rouge(use_stemmer=stem).score(prediction(text, target))
            assert found[figure.removesuffix("_stem")] == pytest.approx(f1, abs=5e-6), figure


@pytest.mark.parametrize(
    ("text", "reference", "hit"),
    [
        ("3 + 4 = 7\n#### 7", "4 + 3 = 7\n#### 7", 1.0),
        ("so it is 7", "#### 7", 0.0),
        ("#### 7 apples", "#### 7", 1.0),
        ("Orla", "orla", 1.0),
        ("Orla.", "Orla", 0.0),
        ("", "Orla", 0.0),
    ],
)
def test_exact_match_judges_the_final_answer(text: str, reference: str, hit: float) -> None:
    assert ExactMatch().score(prediction(text, reference)) == {"exact_match": hit}


def test_exact_match_takes_any_reference_and_can_ignore_punctuation() -> None:
    assert ExactMatch().score(prediction("b", "a", "b"))["exact_match"] == 1.0
    strict = ExactMatch(normalise=True)
    assert strict.score(prediction("The Orla!", "orla"))["exact_match"] == 1.0


@pytest.mark.parametrize(
    ("text", "reference", "f1"),
    [("a cat sat", "the cat sat down", 0.8), ("dog", "cat", 0), ("", "", 1), ("x x", "x", 2 / 3)],
)
def test_token_f1_is_squads(text: str, reference: str, f1: float) -> None:
    assert TokenF1().score(prediction(text, reference))["token_f1"] == pytest.approx(f1)


@pytest.mark.parametrize(
    ("text", "references", "exact", "f1"),
    [
        ("The  Orla!", ("orla",), 1, 1),
        ("a cat sat", ("dog", "the cat sat down"), 0, 0.8),
        ("an", ("the",), 1, 1),
        ("something", ("",), 0, 0),
        ("", ("",), 1, 1),
    ],
)
def test_squad_normalises_and_takes_the_best_reference(
    text: str, references: tuple[str, ...], exact: float, f1: float
) -> None:
    found = Squad().score(prediction(text, *references))
    assert found == {"squad_exact": exact, "squad_f1": pytest.approx(f1)}


def aggregated(scorer: Any, predictions: list[Prediction]) -> dict[str, float]:
    rows = scorer.score_all(predictions)
    found = {}
    for name, metric in scorer.declared().items():
        declared = metric.declare(name)
        sums = {s: sum(row[c] for row in rows) for s, c in declared["columns"].items()}
        found[name] = float(AGGREGATES[declared["aggregate"]].compute({**sums, "n": len(rows)}))
    return found


LABELS = ["yes", "no", "not sure"]
answers = st.sampled_from(["yes", "No", "not  sure", "maybe", ""])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(answers, st.sampled_from(LABELS)), min_size=1, max_size=8))
def test_macro_f1_is_the_mean_of_each_labels_f1(pairs: list[tuple[str, str]]) -> None:
    found = aggregated(Classification(labels=LABELS), [prediction(t, r) for t, r in pairs])
    given_ = [" ".join(text.lower().split()) for text, _ in pairs]
    gold = [reference for _, reference in pairs]
    scores = []
    for label in LABELS:
        hits = sum(a == b == label for a, b in zip(given_, gold, strict=True))
        precision = hits / given_.count(label) if given_.count(label) else 0
        recall = hits / gold.count(label) if gold.count(label) else 0
        total = precision + recall
        scores.append(2 * precision * recall / total if total else 0)
    assert found["macro_f1"] == pytest.approx(sum(scores) / len(LABELS))
    right = sum(a == b for a, b in zip(given_, gold, strict=True))
    assert found["accuracy"] == pytest.approx(right / len(pairs))
    assert found["no_label"] == pytest.approx(sum(a not in LABELS for a in given_) / len(pairs))


@pytest.mark.parametrize(
    ("text", "hit"),
    [("I am not sure, no", 0.0), ("No: not sure", 1.0), ("nothing", 0.0), ("The answer: NO.", 1.0)],
)
def test_first_label_that_stands_as_a_word_counts(text: str, hit: float) -> None:
    found = Classification(labels=LABELS, match="first").score(prediction(text, "no"))
    assert found["accuracy"] == hit


def test_reference_that_is_no_label_is_an_error_that_names_the_row() -> None:
    with pytest.raises(DataError, match=r"example 1: .*\['maybe'\] is a label"):
        Classification(labels=LABELS).score(prediction("yes", "maybe"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="ab C", max_size=8), min_size=1, max_size=6))
def test_distinct_is_the_share_of_different_ngrams(texts: list[str]) -> None:
    found = aggregated(Distinct(orders=[1, 2]), [prediction(text, "") for text in texts])
    for n in (1, 2):
        words = [text.lower().split() for text in texts]
        grams = [tuple(own[i : i + n]) for own in words for i in range(len(own) - n + 1)]
        expected = len(set(grams)) / len(grams) if grams else 0.0
        assert found[f"distinct_{n}"] == pytest.approx(expected)


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> tuple[Any, Any]:
    from harness.models.files import ModelRef

    ref = ModelRef(str(tiny_model), "float32", "cpu")
    return ref.load(), ref.tokenizer()


def likelihoods(loaded: tuple[Any, Any], rows: list[dict[str, Any]], length: int, stride: int,
                batch: int = 4096) -> list[dict[str, Any]]:  # fmt: skip
    from harness.inference.likelihood import log_likelihoods

    rows = [{"id": str(i), "cluster": "", "group": "", **row} for i, row in enumerate(rows)]
    return log_likelihoods(*loaded, rows, length, stride, batch, lambda *_: None)


def test_perplexity_of_text_is_the_models_own_loss(loaded: tuple[Any, Any]) -> None:
    import torch

    model, tokenizer = loaded
    texts = ["a short text", "another one that is longer than the first"]
    found = likelihoods(loaded, [{"text": text} for text in texts], 256, 128)
    for text, row in zip(texts, found, strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            loss = float(model(input_ids=ids, labels=ids).loss)
        assert row["nll"] / row["tokens"] == pytest.approx(loss, rel=1e-5)
        assert row["tokens"] == ids.numel() - 1


def test_answer_is_scored_without_its_prompt(loaded: tuple[Any, Any]) -> None:
    chat = [{"role": "user", "content": "abc?"}, {"role": "assistant", "content": "xy"}]
    (row,) = likelihoods(loaded, [{"messages": chat, "references": ["xy"]}], 256, 128)
    assert row["tokens"] == 3  # x, y and the end token, as trained on


@settings(max_examples=30, deadline=None)
@given(length=st.integers(2, 12), stride=st.integers(1, 12), size=st.integers(2, 60),
       start=st.integers(0, 30))  # fmt: skip
def test_every_token_is_scored_once_whatever_the_window(
    length: int, stride: int, size: int, start: int
) -> None:
    from harness.inference.likelihood import _windows

    start = min(start, size - 1)
    ids = list(range(size))
    scored = []
    for window in _windows(ids, start, length, min(stride, length)):
        assert len(window.ids) <= length
        assert window.count < len(window.ids)  # nothing predicts a window's first token
        scored += window.ids[-window.count :]
    assert scored == ids[max(start, 1) :]


def test_batches_do_not_change_a_likelihood(loaded: tuple[Any, Any]) -> None:
    rows = [{"text": "x" * n + " y z"} for n in (3, 40, 7, 90)]
    alone = likelihoods(loaded, rows, 64, 32, batch=1)
    together = likelihoods(loaded, rows, 64, 32, batch=10_000)
    for a, b in zip(alone, together, strict=True):
        assert a["nll"] == pytest.approx(b["nll"], rel=1e-5)
        assert math.isfinite(a["nll"])


def test_generation_stops_at_stop_strings_and_equals_one_by_one(loaded: tuple[Any, Any]) -> None:
    from harness.inference.generate import generate

    model, tokenizer = loaded
    prompts = [tokenizer(text)["input_ids"] for text in ("abc", "hello there", "x")]
    options = {"max_new_tokens": 12, "until": [], "batch_tokens": 4096}
    together = generate(model, tokenizer, prompts, options, lambda *_: None)
    alone = generate(model, tokenizer, prompts, {**options, "batch_tokens": 1}, lambda *_: None)
    assert together == alone
    first = together[0].text
    if len(first) > 3:
        cut = generate(
            model, tokenizer, prompts[:1], {**options, "until": [first[2:4]]}, lambda *_: None
        )
        assert (cut[0].finish, cut[0].text) == ("stop", first[: first.find(first[2:4])].strip())


def test_a_prompt_that_leaves_no_room_or_is_empty_is_an_error(loaded: tuple[Any, Any]) -> None:
    from harness.core.errors import StageFailed
    from harness.inference.generate import generate

    options = {"max_new_tokens": 12, "until": [], "batch_tokens": 4096}
    with pytest.raises(StageFailed, match="context has room for 256"):
        generate(*loaded, [[5] * 250], options, lambda *_: None)
    with pytest.raises(StageFailed, match="prompt 1 has no tokens"):
        generate(*loaded, [[5], []], options, lambda *_: None)
