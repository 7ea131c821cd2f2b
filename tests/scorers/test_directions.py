"""Which way is better: a better answer never has the worse score, by what the scorer declares."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.core import registry
from harness.core.errors import SuiteError
from harness.scorers.base import Prediction, ScoreJob, Scorer
from harness.scorers.distinct import Distinct
from harness.scorers.pairwise import Pairwise
from harness.scorers.refusal import Refusal
from harness.scorers.self_bleu import SelfBleu
from harness.scorers.win_rate import WinRate
from harness.variants.expand import refuse_samples
from tests.scorers.test_score_edges import figures

BETTER_WHEN_LOWER = {
    "bits_per_byte", "kl", "no_label", "over_refused", "perplexity", "self_bleu", "ter",
}  # fmt: skip
GIVEN: dict[str, dict[str, Any]] = {
    "classification": {"labels": ["yes", "no"]}, "win_rate": {"rule": "rule.py:better"},
    "pairwise": {"labeller": "reward"}, "listwise": {"labeller": "judge"},
    "pointwise": {"labeller": "judge"},
}  # fmt: skip
BY_MODULE = {"evaluate", "lm_eval", "toy"}
"""Their metrics are those of a module or a task that is named."""


def ours() -> list[str]:
    return [name for name in registry.names("scorer")
            if registry.find("scorer", name).__module__.startswith("harness.")]  # fmt: skip


def test_metrics_that_are_better_when_they_are_lower_are_these() -> None:
    declared: dict[str, bool] = {}
    for name in sorted({*ours()} - BY_MODULE):
        scorer: Any = registry.find("scorer", name)(**GIVEN.get(name, {}))
        declared |= {metric: kind.higher_is_better for metric, kind in scorer.declared().items()}
    assert len(declared) > 20
    assert {metric for metric, up in declared.items() if not up} == BETTER_WHEN_LOWER


def said(text: str, group: str = "", samples: tuple[str, ...] = ()) -> Prediction:
    right = "yes" if len(text) < 6 else "the cat sat on the warm mat"
    return Prediction("row", "row", group, "", text, (right,), samples)


RIGHT, WRONG = "the cat sat on the warm mat", "zebras quietly ate 17 onions"
ALIKE, DIFFERENT = (RIGHT,) * 3, (RIGHT, WRONG, "nobody knows what comes after that")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        *(
            (name, said(RIGHT), said(WRONG))
            for name in ("exact_match", "rouge", "bleu", "chrf", "ter", "token_f1", "squad")
        ),
        ("classification", said("yes"), said("no.")),
        ("self_bleu", said(RIGHT, samples=DIFFERENT), said(RIGHT, samples=ALIKE)),
        ("distinct", said(RIGHT, samples=DIFFERENT), said(RIGHT, samples=ALIKE)),
    ],
)
def test_a_better_answer_has_a_better_score(name: str, good: Prediction, bad: Prediction) -> None:
    more = {"over": "samples"} if name == "distinct" else GIVEN.get(name, {})
    scorer: Any = registry.find("scorer", name)(**more)
    found = [figures(scorer, [prediction]) for prediction in (good, bad)]
    for metric, kind in scorer.declared().items():
        better, worse = (one[metric] for one in found)
        assert better > worse if kind.higher_is_better else better < worse


def test_refusing_what_is_harmless_is_worse() -> None:
    no, answer = "I'm sorry, I can't help.", "Mix flour and eggs."
    scorer = Refusal()
    good = figures(scorer, [said(no, "harmful"), said(answer, "cooking")])
    bad = figures(scorer, [said(answer, "harmful"), said(no, "cooking")])
    assert good == {"handled": 1.0, "refused": 1.0, "over_refused": 0.0}
    assert bad == {"handled": 0.0, "refused": 0.0, "over_refused": 1.0}


@pytest.mark.parametrize(
    ("samples", "value"),
    [(("", " "), 100), (("", "", RIGHT), 200 / 3), (("", RIGHT), 0), ((RIGHT, RIGHT), 100)],
)
def test_empty_samples_are_alike(samples: tuple[str, ...], value: float) -> None:
    assert SelfBleu().score(said("", samples=samples))["self_bleu"] == pytest.approx(value)


@pytest.mark.parametrize("scorer", [SelfBleu(), Distinct(over="samples")])
def test_one_sample_cannot_be_compared_with_others_of_its_prompt(scorer: Scorer) -> None:
    def drawing(samples: int) -> Any:
        return SimpleNamespace(id="full-sft", generate=SimpleNamespace(samples=samples))

    for samples in (0, 1):
        with pytest.raises(SuiteError, match="draws"):
            refuse_samples(drawing(samples), [scorer])
    refuse_samples(drawing(2), [scorer])
    refuse_samples(drawing(0), [Distinct()])


def test_a_win_rate_is_of_the_variants_answers_and_not_of_its_starts() -> None:
    texts = (("longer", "short"), ("tiny", "longest"), ("same", "same"))
    one, start = (
        [Prediction(str(i), "", "", "", pair[k], ()) for i, pair in enumerate(texts)]
        for k in (0, 1)
    )

    def longer(row: object, one: str, other: str) -> int:
        return (len(one) > len(other)) - (len(one) < len(other))

    rows = [{"id": str(i)} for i in range(3)]
    job = ScoreJob({"answers": one, "start": start, "rows": rows, "rule": longer})
    scorer = WinRate(rule="rule.py:longer")
    assert scorer.score_job(job) == [{"win_rate": 1.0}, {"win_rate": 0.0}, {"win_rate": 0.5}]
    assert scorer.provenance() == {"won": 1, "tied": 1, "lost": 1}


@pytest.mark.parametrize("against", ["baseline", "start", "reference", "variants"])
def test_a_judged_metric_is_held_to_one_half_where_it_compares_with_the_baseline(
    against: Any,
) -> None:
    """Of the others the baseline has a value of its own, and its variants are compared with it."""
    declared = Pairwise(labeller="reward", against=against).declared()
    wanted = 0.5 if against == "baseline" else None
    assert {metric.even for metric in declared.values()} == {wanted}
