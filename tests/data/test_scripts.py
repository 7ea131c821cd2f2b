"""ROUGE of any script; BERTScore of texts that are longer than its encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scorers.base import Prediction
from harness.scorers.rouge import TYPES, Rouge
from tests.conftest import Workspace, write_jsonl

SENTENCES = {
    "Hindi": "दिल्ली भारत की राजधानी है",
    "Chinese": "北京是中国的首都",
    "Russian": "Москва столица России",
    "Arabic": "القاهرة عاصمة مصر",
    "Greek": "Αθήνα είναι πρωτεύουσα",
    "Korean": "서울은 한국의 수도이다",
    "Japanese": "東京は日本の首都です",
    "Thai": "กรุงเทพเป็นเมืองหลวง",
}


def said(text: str, reference: str) -> Prediction:
    return Prediction("0", "0", "", "", text, (reference,))


@pytest.mark.parametrize("script", SENTENCES)
@pytest.mark.parametrize("tokenizer", ["unicode", "character"])
def test_equal_answers_score_1_in_every_script(script: str, tokenizer: Any) -> None:
    sentence = SENTENCES[script]
    scorer = Rouge(tokenizer=tokenizer)
    assert scorer.score(said(sentence, sentence)) == dict.fromkeys(TYPES, 1.0)
    other = SENTENCES["Greek" if script != "Greek" else "Hindi"]
    assert scorer.score(said(other, sentence)) == dict.fromkeys(TYPES, 0.0)
    assert not scorer.provenance()


@pytest.mark.parametrize("script", SENTENCES)
def test_what_the_default_tokenizer_does_not_read_is_counted_and_told(script: str) -> None:
    scorer = Rouge()
    sentence = SENTENCES[script]
    pairs = [said(sentence, sentence), said("A town.", "A town in 1999."), said("12", "12")]
    scorer.score_all(pairs)
    told = scorer.provenance()
    assert told["references_unread"] == 1
    assert "1 of 3 references" in told["notes"][0]
    assert "tokenizer: unicode" in told["notes"][0]


def test_few_accents_are_not_told_and_many_are() -> None:
    scorer = Rouge()
    scorer.score_all([said("Le café", "Le café du coin est au bout de la rue"), said("", "")])
    assert not scorer.provenance()
    scorer.score_all([said("", "žena čte"), said("", "the town")])
    assert scorer.provenance()["references_unread"] == 1


def test_a_mark_written_apart_is_the_same_letter() -> None:
    assert Rouge(tokenizer="unicode").score(said("CAFE\u0301", "café"))["rouge1"] == 1.0


@settings(deadline=None)
@given(st.lists(st.sampled_from(["cat", "sat", "mat", "Dog"]), min_size=1, max_size=6))
def test_plain_english_scores_alike_with_either_tokenizer(words: list[str]) -> None:
    pair = said(" ".join(words), "cat sat on the mat")
    plain, other = Rouge(use_stemmer=False), Rouge(tokenizer="unicode")
    assert plain.score(pair) == other.score(pair)


def test_the_tokenizer_joins_the_identity_only_where_it_is_another() -> None:
    assert "tokenizer" not in Rouge().identity()
    assert Rouge(tokenizer="unicode").identity()["tokenizer"] == "unicode"


def test_the_report_says_once_that_rouge_leaves_a_script_out(workspace: Workspace) -> None:
    from harness import comparison as compare

    rows = [
        {"messages": [{"role": "user", "content": f"{i}?"},
                      {"role": "assistant", "content": SENTENCES["Hindi"]}]}
        for i in range(2)
    ]  # fmt: skip
    write_jsonl(workspace.folder / "test.jsonl", rows)
    workspace.tree |= {
        "matrix": {}, "evaluate": ["letters"], "scorers": ["rouge"],
        "base": {"one": {"max_new_tokens": 2}, "two": {"max_new_tokens": 3}},
    }  # fmt: skip
    outcome = workspace.run()
    assert not outcome.failed
    opened = workspace.open()
    notes = compare.compare(opened.plan, outcome.records, opened.store).notes
    (note,) = [note for note in notes if "leaves out" in note]
    assert note.startswith("rouge on letters: 2 of 2 references")


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_bertscore_cuts_long_texts_where_bert_score_does_and_counts_them(
    kind: str, tmp_path: Path
) -> None:
    import torch
    from bert_score import score as bert_score
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        BertConfig,
        BertModel,
        PreTrainedTokenizerFast,
        RobertaConfig,
        RobertaModel,
    )

    from harness.scorers.base import ScoreJob
    from harness.scorers.bertscore import Bertscore

    names = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefgh"]
    backend = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", cls_token="<s>",
        sep_token="</s>", model_max_length=16,
    )  # fmt: skip
    torch.manual_seed(0)
    shape = {
        "vocab_size": len(names), "hidden_size": 16, "num_hidden_layers": 2, "pad_token_id": 1,
        "num_attention_heads": 2, "intermediate_size": 16, "initializer_range": 0.5,
    }  # fmt: skip
    if kind == "bert":
        model = BertModel(BertConfig(max_position_embeddings=16, **shape))
    else:
        model = RobertaModel(RobertaConfig(max_position_embeddings=18, **shape))
    model.save_pretrained(tmp_path / kind)
    tokenizer.save_pretrained(tmp_path / kind)
    texts = [" ".join("abcdefgh"[(i * k) % 8] for i in range(20)) for k in (1, 3)]
    pairs = [(texts[0], texts[1]), ("a b c", texts[0]), ("a b c", "b c d")]
    edges = [" ".join(texts[0].split()[:count]) for count in (13, 14, 15, 16)]  # + 2
    pairs += [(text, texts[1]) for text in edges] + [("a b c", text) for text in edges]
    found = Bertscore(model_type=str(tmp_path / kind), num_layers=2)
    job = ScoreJob({"answers": [said(*pair) for pair in pairs]}, cache=tmp_path / "cache")
    rows = found.score_job(job)
    wanted = bert_score(
        [a for a, _ in pairs], [b for _, b in pairs], model_type=str(tmp_path / kind), num_layers=2
    )
    for column, part in zip(wanted, ("precision", "recall", "f1"), strict=True):
        assert [row[f"bertscore_{part}"] for row in rows] == pytest.approx(
            column.tolist(), abs=1e-5
        )
    told = found.provenance()
    assert (told["cut_outputs"], told["cut_references"]) == (3, 8)
    assert told["notes"] == ["8 of 11 references are longer than the encoder's 16 tokens, and cut"]
