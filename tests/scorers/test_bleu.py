"""BLEU, chrF and TER are sacrebleu's, on the corpus and on every resample of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.comparison.intervals import Inference, Runs, infer
from harness.comparison.statistics import Clusters, Sample
from harness.core.aggregate import AGGREGATES
from harness.core.errors import SuiteError
from harness.scorers.base import Prediction, Scorer
from harness.scorers.bleu import Bleu
from harness.scorers.chrf import Chrf
from harness.scorers.ter import Ter

CHOICES: list[Scorer] = [
    Bleu(),
    Bleu(smooth="none"),
    Bleu(effective_order=True),
    Bleu(smooth="none", effective_order=True, tokenize="char", lowercase=True),
    Bleu(max_ngram_order=2),
    Chrf(),
    Chrf(word_order=2, whitespace=True),
    Chrf(word_order=2, eps_smoothing=True),
    Ter(),
    Ter(normalized=True, no_punct=True),
]
texts = st.lists(st.sampled_from(["a", "b", "cd", "Ef", "(gh).", ".", "ü"]), max_size=7).map(
    " ".join
)
corpora = st.lists(
    st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=5
)


def predictions(rows: list[tuple[str, list[str]]]) -> list[Prediction]:
    return [Prediction(str(i), str(i), "", "", text, tuple(r)) for i, (text, r) in enumerate(rows)]


def sample(scorer: Scorer, given_: list[Prediction]) -> Sample:
    ((_, metric),) = scorer.declared().items()
    rows = scorer.score_all(given_)
    columns = {s: np.array([row[c] for row in rows]) for s, c in metric.columns.items()}
    return Sample(metric.aggregate, columns)


def streams(rows: list[tuple[str, list[str]]]) -> list[list[str | None]]:
    most = max(len(references) for _, references in rows)
    return [[r[k] if k < len(r) else None for _, r in rows] for k in range(most)]


@pytest.mark.parametrize("scorer", CHOICES, ids=repr)
@settings(max_examples=60, deadline=None)
@given(rows=corpora)
def test_corpus_score_is_sacrebleus(scorer: Any, rows: list[tuple[str, list[str]]]) -> None:
    expected = scorer._metric.corpus_score([text for text, _ in rows], streams(rows)).score
    assert sample(scorer, predictions(rows)).point() == pytest.approx(
        expected, rel=1e-13, abs=1e-13
    )


@pytest.mark.parametrize("scorer", CHOICES, ids=repr)
def test_each_rows_part_is_what_the_corpus_scores_without_it(scorer: Any) -> None:
    rows = [
        ("a b cd", ["a b cd Ef"]),
        ("Ef a", ["a Ef", "b"]),
        ("", ["a b"]),
        ("b b b b b", ["b b"]),
    ]
    moves = sample(scorer, predictions(rows)).moves(Clusters(["0", "1", "2", "3"]))
    rest = [[row for row in rows if row is not left] for left in rows]
    without = np.asarray(
        [scorer._metric.corpus_score([t for t, _ in own], streams(own)).score for own in rest]
    )
    assert moves == pytest.approx(3 * (without.mean() - without), rel=1e-11, abs=1e-11)


def test_signature_says_how_the_score_was_made() -> None:
    bleu = Bleu(lowercase=True)
    bleu.score_all(predictions([("a", ["a", "b"]), ("b", ["c", "d"])]))
    made = bleu.provenance()["signature"]
    assert made.startswith("nrefs:2|case:lc|eff:no|tok:13a|smooth:exp|version:2.")
    assert "nrefs:var" in _signed(Ter(), [("a", ["a", "b"]), ("b", ["c"])])


def _signed(scorer: Scorer, rows: list[tuple[str, list[str]]]) -> str:
    scorer.score_all(predictions(rows))
    return str(scorer.provenance()["signature"])


def test_aggregates_are_quiet_where_nothing_was_said() -> None:
    for scorer in CHOICES:
        value = sample(scorer, predictions([("", [""])])).point()
        assert value == pytest.approx(0.0, abs=1e-13)


def test_a_run_reports_bleu_with_its_signature(workspace: Any) -> None:
    workspace.write(scorers=["bleu", {"chrf": {"label": "chrf++", "word_order": 2}}, "chrf", "ter"])
    outcome = workspace.run()
    assert not outcome.failed
    scored = [r for r in outcome.records.values() if r.kind == "score"]
    assert {m for r in scored for m in r.metrics["metrics"]} == {"bleu", "chrf", "ter"}
    assert all("version:2." in r.provenance["scorer"]["signature"] for r in scored)
    assert all("label" not in r.config["scorer"] for r in scored)


def test_two_metrics_of_one_name_are_refused_before_anything_runs(workspace: Any) -> None:
    workspace.write(scorers=["rouge", {"bleu": {"label": "rougeL"}}])
    with pytest.raises(
        SuiteError, match=r"scorers\[1\].bleu: 'rougeL' is a metric of scorers\[0\]"
    ):
        workspace.open()


# What others published.

WMT, BASE = "sacrebleu_wmt17_ende", "newstest2017.LIUM-NMT.4900.en-de"


@pytest.fixture(
    params=[2, pytest.param(None, marks=pytest.mark.slow)], ids=["two systems", "all systems"]
)
def wmt(
    real_data: Path, request: pytest.FixtureRequest
) -> tuple[dict[str, Any], dict[str, list[Prediction]]]:
    """What was published of the systems, and what these said: of the base and one more every
    day."""
    folder = real_data / "metrics" / WMT
    lines = {p.stem: p.read_text().splitlines() for p in sorted(folder.glob("*.txt"))}
    references = lines.pop("reference.0")
    lines.pop("SOURCE", None)
    systems = {
        name: predictions(list(zip(found, [[r] for r in references], strict=True)))
        for name, found in sorted(lines.items(), key=lambda item: item[0] != BASE)[: request.param]
    }
    return json.loads((folder / "expected.json").read_text()), systems


@pytest.mark.real
def test_published_figures_of_the_wmt17_systems(
    wmt: tuple[dict[str, Any], dict[str, list[Prediction]]],
) -> None:
    expected, systems = wmt
    for name, given_ in systems.items():
        assert round(sample(Bleu(), given_).point(), 2) == expected["bleu_13a"][name]
        if name in expected["chrf"]:
            assert round(sample(Chrf(), given_).point(), 4) == expected["chrf"][name]
            plus = sample(Chrf(word_order=2, eps_smoothing=True), given_).point()
            assert round(plus, 4) == expected["chrf++"][name]


@pytest.mark.real
def test_paired_resampling_agrees_with_sacrebleu_and_moses(
    wmt: tuple[dict[str, Any], dict[str, list[Prediction]]],
) -> None:
    from sacrebleu.metrics import BLEU
    from sacrebleu.significance import PairedTest

    expected, systems = wmt
    names = [BASE, *(name for name in systems if name != BASE)]
    named = [(name, [p.text for p in systems[name]]) for name in names]
    references = [[p.references[0] for p in systems[BASE]]]
    metric = BLEU(tokenize="none", references=references, force=True)
    theirs = PairedTest(named, {"BLEU": metric}, None, test_type="bs", n_samples=1000)()[1]["BLEU"]
    scorer, clusters = Bleu(tokenize="none"), Clusters([p.cluster for p in systems[BASE]])
    base = sample(scorer, systems[BASE])
    for name, result in zip(names, theirs, strict=True):
        own = sample(scorer, systems[name])
        alone = infer(runs(own, clusters), clusters.count)
        assert own.point() == pytest.approx(result.score, rel=1e-6)  # theirs sums in float32
        assert alone.low is not None
        assert alone.high is not None
        assert (alone.high - alone.low) / 2 == pytest.approx(result.ci, rel=0.1)
        if name == BASE:
            continue
        found = differing(own, base, clusters)
        randomised = expected["multeval_approx_randomisation_p_bleu_ter"][name][0]
        assert found.p == pytest.approx(randomised, abs=0.03)


def runs(own: Sample, clusters: Clusters) -> Runs:
    return Runs(np.asarray([own.point()]), own.moves(clusters)[None])


def differing(own: Sample, base: Sample, clusters: Clusters) -> Inference:
    return infer(runs(own, clusters) - runs(base, clusters), clusters.count)


@pytest.mark.real
@pytest.mark.slow
def test_published_ter_and_its_test(
    wmt: tuple[dict[str, Any], dict[str, list[Prediction]]],
) -> None:
    expected, systems = wmt
    name = "newstest2017.FBK.4870.en-de"
    own, base = sample(Ter(), systems[name]), sample(Ter(), systems[BASE])
    assert round(own.point() / 100, 3) == expected["ter"][name]
    assert round(base.point() / 100, 3) == expected["ter"][BASE]
    found = differing(own, base, Clusters([p.cluster for p in systems[BASE]]))
    randomised = expected["multeval_approx_randomisation_p_bleu_ter"][name][1]
    assert found.p == pytest.approx(randomised, abs=0.03)


@pytest.mark.real
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_nlg_eval_publishes_the_same_bleu(real_data: Path, order: int) -> None:
    folder = real_data / "metrics" / "nlg_eval"
    hypotheses, *references = (
        (folder / f"{name}.txt").read_text().splitlines() for name in ("hyp", "ref1", "ref2")
    )
    rows = [(h, list(r)) for h, r in zip(hypotheses, zip(*references, strict=True), strict=True)]
    found = sample(Bleu(smooth="none", tokenize="none", max_ngram_order=order), predictions(rows))
    expected = json.loads((folder / "expected.json").read_text())[f"Bleu_{order}"]
    assert math.isclose(found.point() / 100, expected, abs_tol=1e-6)
    assert AGGREGATES[found.aggregate].statistics == ()
