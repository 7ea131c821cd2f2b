"""Answers in every script: a perfect one scores the best, nearly equal ones well, or it is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from harness import comparison as compare
from harness.commands.plan import table
from harness.core.aggregate import AGGREGATES
from harness.data.scripts import count_scripts, scripts_of
from harness.scorers.base import Prediction, Scorer
from harness.scorers.bleu import Bleu
from harness.scorers.chrf import Chrf
from harness.scorers.distinct import Distinct
from harness.scorers.exact_match import ExactMatch
from harness.scorers.rouge import Rouge
from harness.scorers.self_bleu import SelfBleu
from harness.scorers.squad import Squad
from harness.scorers.ter import Ter
from harness.scorers.token_f1 import TokenF1
from tests.conftest import Workspace, write_jsonl

TEXTS = {
    # Perfect, and the same but for one word or character.
    "English": ("the cat sat on the mat today", "the cat sat on the mat tonight"),
    "French": ("le café du coin est déjà fermé", "le café du coin est encore fermé"),
    "Czech": ("žena čte dlouhý příběh dětem", "žena čte krátký příběh dětem"),
    "Vietnamese": ("tôi về nhà với mẹ", "tôi về nhà với má"),
    "Russian": ("Москва это столица большой России", "Москва это столица новой России"),
    "Greek": ("η Αθήνα είναι η πρωτεύουσα της χώρας", "η Αθήνα είναι η πρωτεύουσα της Ελλάδας"),
    "Arabic": ("القاهرة هي عاصمة جمهورية مصر العربية", "القاهرة هي عاصمة دولة مصر العربية"),
    "Hebrew": ("ירושלים היא העיר הגדולה ביותר", "ירושלים היא העיר היפה ביותר"),
    "Hindi": ("दिल्ली भारत की सुंदर राजधानी है", "दिल्ली भारत की पुरानी राजधानी है"),
    "Thai": ("กรุงเทพเป็นเมืองหลวงของไทย", "กรุงเทพเป็นเมืองหลวงของเรา"),
    "Chinese": ("北京是中国的首都和中心", "北京是中国的首都和心脏"),
    "Japanese": ("東京は日本の首都です", "東京は日本の都市です"),
    "Korean": ("서울은 한국의 아름다운 수도 도시이다", "서울은 한국의 오래된 수도 도시이다"),
    "emoji": ("😀 🎉 🚀 🌍 👍 🔥", "😀 🎉 🚀 🌍 👍 💧"),
    "mixed": ("Beijing 北京 is the capital of China", "Beijing 北京 is the centre of China"),
}
SCORERS: list[Scorer] = [
    Rouge(), Rouge(tokenizer="unicode"), Rouge(tokenizer="character"), TokenF1(),
    TokenF1(tokenize="unicode"), TokenF1(tokenize="character"), TokenF1(tokenize="zh"), Squad(),
    Squad(tokenize="character"), Bleu(), Bleu(tokenize="intl"), Bleu(tokenize="zh"),
    Bleu(tokenize="char"), Chrf(), Chrf(word_order=2), Ter(),
    Ter(normalized=True, asian_support=True),
]  # fmt: skip
EXACT = {"squad_exact"}


def asked(text: str, reference: str, **fields: Any) -> Prediction:
    return replace(Prediction("0", "0", "", "", text, (reference,)), **fields)


def figures(scorer: Scorer, prediction: Prediction) -> dict[str, float]:
    """Every metric as a share of 1, the higher the better."""
    (row,) = scorer.score_all([prediction])
    found = {}
    for name, metric in scorer.declared().items():
        declared = metric.declare(name)
        sums = {statistic: row[column] for statistic, column in declared["columns"].items()}
        value = float(AGGREGATES[declared["aggregate"]].compute({**sums, "n": 1}))  # type: ignore[dict-item]
        value = value / 100 if name in ("bleu", "chrf", "ter", "self_bleu") else value
        found[name] = value if metric.higher_is_better else 1 - value
    return found


@pytest.mark.parametrize("scorer", SCORERS, ids=repr)
@pytest.mark.parametrize("language", TEXTS)
def test_a_perfect_answer_is_the_best_and_a_near_one_good_or_it_is_told(
    scorer: Scorer, language: str
) -> None:
    text, near = TEXTS[language]
    perfect, close = (figures(scorer, asked(answer, text)) for answer in (text, near))
    told = scorer.unread(count_scripts([text]), 1)
    if told:
        assert told in scorer.provenance()["notes"]
        return
    assert perfect == pytest.approx(dict.fromkeys(perfect, 1.0))
    assert all(value >= 0.2 for name, value in close.items() if name not in EXACT), close


@pytest.mark.parametrize("language", TEXTS)
def test_every_script_has_a_tokenizer_that_reads_it(language: str) -> None:
    """Emoji are neither letters nor digits, which is all that ROUGE's tokenizers read."""
    found = count_scripts([TEXTS[language][0]])
    for way in (TokenF1(tokenize="char"), Bleu(tokenize="char"), SelfBleu(tokenize="char"), Chrf()):
        assert way.unread(found, 1) == ""
    if language != "emoji":
        assert Rouge(tokenizer="character").unread(found, 1) == ""
        assert TokenF1(tokenize="character").unread(found, 1) == ""


@pytest.mark.parametrize("text", [TEXTS["English"][0], "a naïve question about the weather today"])
@pytest.mark.parametrize("scorer", SCORERS, ids=repr)
def test_nothing_is_told_of_text_that_all_read(scorer: Scorer, text: str) -> None:
    assert scorer.unread(count_scripts([text]), 1) == ""


@pytest.mark.parametrize("language", ["French", "Czech", "Vietnamese"])
def test_letters_that_english_has_not_are_told_where_rouge_leaves_them_out(language: str) -> None:
    """Its words of a to z alone make these two equal: má, mẹ."""
    found = count_scripts([TEXTS[language][0]])
    assert "non-English Latin letters" in Rouge().unread(found, 1)
    assert "set `tokenizer: unicode`" in Rouge().unread(found, 1)
    others = [s for s in SCORERS if getattr(s, "tokenizer", "") != "default"]
    assert not any(scorer.unread(found, 1) for scorer in others)
    pair = asked("má", "mẹ")
    assert figures(Rouge(), pair)["rouge1"] == 1.0
    assert figures(Rouge(tokenizer="unicode"), pair)["rouge1"] == 0.0


def test_what_is_told_names_a_way_out() -> None:
    chinese, thai = count_scripts(["北京是中国的首都"]), count_scripts(["กรุงเทพเป็นเมืองหลวง"])
    assert "set `tokenize: zh` or `tokenize: char`" in Bleu().unread(chinese, 1)
    assert "set `tokenize: char`" in Bleu().unread(thai, 1)
    assert "1 of 4 references are in Chinese letters" in TokenF1().unread(chinese, 4)
    assert "word_order: 0" in Chrf(word_order=2).unread(thai, 1)
    assert "normalized: true, asian_support: true" in Ter().unread(chinese, 1)
    assert "chrf and bertscore" in Ter().unread(thai, 1)
    for scorer in (Rouge(), TokenF1(), Distinct(), SelfBleu()):
        assert scorer.unread(chinese, 1).endswith("`") or "set `" in scorer.unread(chinese, 1)


def test_samples_that_are_nearly_equal_are_alike_where_the_tokenizer_cuts() -> None:
    samples = ("北京是中国的首都和中心", "北京是中国的首都和心脏")
    prediction = asked("", samples[0], samples=samples)
    plain, cut = SelfBleu(), SelfBleu(tokenize="zh")
    assert plain.score_all([prediction])[0]["self_bleu"] == 0
    assert "does not cut" in plain.provenance()["notes"][0]
    assert cut.score_all([prediction])[0]["self_bleu"] > 70
    assert not cut.provenance()


def test_no_ngram_at_all_is_told_and_not_taken_for_collapse() -> None:
    scorer = Distinct()
    scorer.score_all([asked("yes", "yes"), asked("no", "no")])
    (told,) = scorer.provenance()["answer_notes"]
    assert "no answer is long enough for distinct_2 (" in told
    full = Distinct(tokenize="character")
    assert figures(full, asked("北京是中国", "")) == {
        "distinct_1": 1.0,
        "distinct_2": 1.0,
    }
    assert not full.provenance()


def test_without_references_the_answers_are_looked_at() -> None:
    samples = ("北京是中国的首都", "北京是中国的城市")
    for scorer in (SelfBleu(), Distinct(over="samples")):
        scorer.score_all([replace(asked("", ""), references=(), text=samples[0], samples=samples)])
        assert "3 of 3 answers are in Chinese letters" in scorer.provenance()["answer_notes"][0]


@pytest.mark.parametrize("scorer", [Squad(), TokenF1(), ExactMatch(normalise=True)], ids=repr)
def test_references_that_normalising_leaves_nothing_of_are_told(scorer: Scorer) -> None:
    scorer.score_all([asked("", text) for text in ("A", "B", "...", "", "the cat")])
    assert scorer.provenance()["notes"][0].startswith("2 of 5 references are articles")
    plain = type(scorer)(**({"normalise": True} if isinstance(scorer, ExactMatch) else {}))
    plain.score_all([asked("", "B")])
    assert not plain.provenance()


def test_references_too_short_for_bleu_are_told() -> None:
    short = [asked("a b", "a b"), asked("c", "c")]
    scorer = Bleu()
    scorer.score_all(short)
    assert "no reference has 4 words" in scorer.provenance()["notes"][0]
    family = replace(short[0], group="short")
    scorer = Bleu()
    scorer.score_all([family, asked("a b c d e", "a b c d e", group="long")])
    assert "no reference of short has 4 words" in scorer.provenance()["notes"][0]
    for other in (Bleu(effective_order=True), Bleu(max_ngram_order=2)):
        other.score_all(short)
        assert "notes" not in other.provenance()


@pytest.mark.parametrize(
    ("text", "scripts"),
    [
        ("", set()), ("  ", set()), ("...", {"no"}), ("😀😀", {"no"}), ("1999", {"Latin"}),
        ("Zürich", {"Latin", "non-English Latin"}),
        ("Zürich is a town in Switzerland", {"Latin"}), ("東京は日本", {"Chinese", "Hiragana"}),
        ("The capital is 北京", {"Latin", "Chinese"}), ("x" * 99 + "北", {"Latin"}),
        ("١٢٣", {"Arabic-Indic"}), ("हिन्दी", {"Devanagari"}),
    ],
)  # fmt: skip
def test_scripts_of_a_text(text: str, scripts: set[str]) -> None:
    assert scripts_of(text) == scripts


def test_the_default_tokenizer_leaves_keys_as_they_were() -> None:
    for scorer in (TokenF1(), Squad(), Distinct()):
        assert "tokenize" not in scorer.identity()
        assert type(scorer)(tokenize="zh").identity()["tokenize"] == "zh"


@pytest.mark.parametrize("kind", [TokenF1, Squad, Distinct, Bleu, SelfBleu])
def test_unknown_tokenizers_and_missing_packages_are_refused(kind: Any) -> None:
    with pytest.raises(ValidationError, match="'13a'"):
        kind(tokenize="klingon")
    with pytest.raises(ValidationError, match=r"pip install 'sacrebleu\[ja\]'"):
        kind(tokenize="ja-mecab")


def test_exact_match_reads_every_script() -> None:
    for text, near in TEXTS.values():
        assert ExactMatch().score(asked(text, text)) == {"exact_match": 1.0}
        assert ExactMatch().score(asked(near, text)) == {"exact_match": 0.0}


def test_plan_and_report_tell_what_a_tokenizer_does_not_cut(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"{i}?"},
                      {"role": "assistant", "content": TEXTS["Chinese"][0]}]}
        for i in range(2)
    ]  # fmt: skip
    write_jsonl(workspace.folder / "test.jsonl", rows)
    workspace.tree |= {
        "matrix": {}, "evaluate": ["letters"], "base": {"one": {"max_new_tokens": 1}},
        "scorers": ["token_f1", {"rouge": {"tokenizer": "unicode"}}, "bleu", "exact_match",
                    "distinct"],
    }  # fmt: skip
    outcome = workspace.run()
    assert not outcome.failed
    printed = capsys.readouterr().err
    opened = workspace.open()
    planned = table(opened.plan, opened.store, why=False)
    reported = compare.compare(opened.plan, outcome.records, opened.store).notes
    for scorer in ("token_f1", "bleu"):
        start = f"{scorer} on letters: 2 of 2 references are in Chinese letters"
        for told in (planned, printed, "\n".join(reported)):
            assert start in told
    (told,) = [note for note in reported if "no answer is long enough" in note]
    assert told.startswith("distinct on letters: ")
    assert told.endswith("(one).")
    assert "rouge on letters:" not in planned
    assert not [note for note in reported if note.startswith("rouge on letters:")]
