"""Drawn answers are scored one by one: their mean, and the noise of drawing them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from harness.scorers.base import Prediction, ScoreJob, Scorer
from harness.scorers.bleu import Bleu
from harness.scorers.exact_match import ExactMatch
from harness.scorers.lm_eval import LmEval
from harness.scorers.perplexity import Perplexity
from harness.scorers.self_bleu import SelfBleu
from harness.scorers.token_f1 import TokenF1


def prediction(name: str, *samples: str) -> Prediction:
    return Prediction(name, name, "", "q", "greedy", ("yes",), samples)


def test_example_has_the_mean_over_its_drawn_answers_and_the_noise_of_drawing() -> None:
    scorer = ExactMatch(answer_pattern=None, drawn=True)
    asked = {
        "answers": [prediction("a", "yes", " yes\n", "no", "no"), prediction("b", "yes", "yes")]
    }
    rows = scorer.score_job(ScoreJob(asked))
    assert [row["exact_match"] for row in rows] == [0.5, 1.0]
    wanted = np.var([1, 1, 0, 0], ddof=1) / 4
    assert [row["exact_match drawn"] for row in rows] == [pytest.approx(wanted), 0.0]
    (greedy, _) = ExactMatch(answer_pattern=None).score_job(ScoreJob(asked))
    assert greedy == {"exact_match": 0.0}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [(Bleu, {}), (SelfBleu, {}), (Perplexity, {}), (LmEval, {"tasks": ["arc_easy"]})],
)  # fmt: skip
def test_scorer_of_more_than_one_answer_or_of_a_corpus_refuses_drawn(
    kind: type[Scorer], fields: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError, match="drawn: "):
        kind(**fields, drawn=True)


def test_only_a_scorer_that_reads_drawn_answers_has_another_identity() -> None:
    assert "drawn" not in TokenF1().identity()
    assert TokenF1(drawn=True).identity()["drawn"] is True
