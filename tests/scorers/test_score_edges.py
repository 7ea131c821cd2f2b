"""Scores of what nobody expects: no reference, one class, nothing to measure, ties."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core import registry
from harness.core.aggregate import AGGREGATES
from harness.core.errors import StageFailed, SuiteError
from harness.inference.likelihood import log_likelihoods
from harness.scorers.base import Prediction, Scorer, Subject
from harness.scorers.classification import Classification
from harness.scorers.evaluate import Evaluate
from harness.scorers.perplexity import Perplexity
from harness.stages._metrics import aggregate, require_figures
from harness.stages.score import _require_references
from tests.conftest import Workspace, write_jsonl
from tests.scorers.test_preference_accuracy import log_probability, scored

WITHOUT = {"distinct", "self_bleu", "refusal", "win_rate", "reward", "pairwise", "pointwise",
           "listwise"}  # fmt: skip
"""Scorers of answers that hold them against nothing, or against a reference if they are told to."""


def said(text: str, *references: str) -> Prediction:
    return Prediction("row-7", "", "", "", text, references)


@pytest.mark.parametrize("name", registry.names("scorer"))
def test_scorers_that_compare_with_references_say_so(name: str) -> None:
    declared: Any = registry.find("scorer", name)
    scorer = declared.model_construct(rule="house.py:better", labeller="reward")
    answers = scorer.reads(Subject().answers())
    compares = answers and name not in WITHOUT and "toy" not in name
    compares = compares and declared.__module__.startswith("harness.")
    assert scorer.needs_references is compares


def test_a_row_without_a_reference_is_named_and_not_scored_0() -> None:
    scorer: Any = registry.find("scorer", "exact_match")()
    with pytest.raises(StageFailed, match="1 of 2 rows, such as row-7, have no reference"):
        _require_references([said("a", "a"), said("a")], scorer)


def test_rows_without_references_are_found_before_anything_is_trained(workspace: Workspace) -> None:
    asked = [{"prompt": f"letter {i}?"} for i in range(3)]
    write_jsonl(workspace.folder / "asked.jsonl", asked)
    workspace.tree["data"]["asked"] = {"test": "asked.jsonl"}
    workspace.write(evaluate=["asked"], scorers=["distinct", "exact_match"])
    with pytest.raises(SuiteError, match="3 of 3 rows have no reference, which exact_match"):
        workspace.run()
    assert not [path for path in workspace.store.glob("train/*")]
    workspace.write(scorers=["distinct"], matrix={})
    assert not workspace.run().failed


def test_a_metric_of_nothing_is_no_figure() -> None:
    declared = Perplexity.metrics["perplexity"].declare("perplexity")
    for rows in ([{"nll": 0.0, "tokens": 0.0}], [{"nll": 5000.0, "tokens": 2.0}]):
        value = aggregate(declared, rows)
        with pytest.raises(StageFailed, match=r"perplexity = (nan|inf) over all rows"):
            require_figures({"perplexity": value}, Perplexity())


labels = st.sampled_from(["yes", "no", "maybe"])
answered = st.sampled_from(["yes", "no", "maybe", "", "who knows"])


def figures(scorer: Scorer, predictions: list[Prediction]) -> dict[str, float]:
    rows = scorer.score_all(predictions)
    found = {}
    for name, metric in scorer.declared().items():
        declared = metric.declare(name)
        sums: Any = {s: sum(r[c] for r in rows) for s, c in declared["columns"].items()}
        found[name] = float(AGGREGATES[declared["aggregate"]].compute({**sums, "n": len(rows)}))
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(answered, labels), min_size=1, max_size=12))
def test_accuracy_and_macro_f1_are_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    names = ["yes", "no", "maybe"]
    scorer = Classification(labels=names)
    found = figures(scorer, [said(*pair) for pair in pairs])
    given_, gold = [[pair[k] for pair in pairs] for k in (0, 1)]
    wanted = metrics.f1_score(gold, given_, labels=names, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(wanted)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(gold, given_))


def test_one_class_and_the_chance_of_the_commonest_are_told() -> None:
    scorer = Classification(labels=["yes", "no", "maybe"])
    found = figures(scorer, [said("yes", "yes"), said("yes", "yes")])
    assert (found["accuracy"], found["macro_f1"]) == (1.0, pytest.approx(1 / 3))
    common, absent = scorer.provenance()["notes"]
    assert common == "'yes' alone, whatever is asked, has an accuracy of 1.000 here"
    assert absent == "no reference is 'no', 'maybe', so that macro_f1 is at most 0.333"


def test_notes_on_labels_speak_of_the_rows_alone() -> None:
    rows = [("yes", ("yes", "no")), ("no", ("yes", "no")), ("", ("no",))]
    told = []
    for change in ("", "yes", "no"):
        scorer = Classification(labels=["yes", "no"])
        scorer.score_all([said(change or text, *references) for text, references in rows])
        told.append(scorer.provenance()["notes"])
    assert told[0] == told[1] == told[2]
    assert "'no' alone" in told[0][0]


@pytest.mark.parametrize(
    ("text", "label"),
    [("答案是正面。", "正面"), ("คำตอบคือบวกครับ", "บวก"), ("Das ist unnegativ", None),
     ("it is negative.", "negative")],
)  # fmt: skip
def test_first_label_is_found_where_words_have_no_spaces(text: str, label: str | None) -> None:
    scorer = Classification(labels=["正面", "บวก", "negative"], match="first")
    row = scorer.score(said(text, label or "negative"))
    assert row["accuracy"] == float(label is not None)
    assert row["no_label"] == float(label is None)


@pytest.mark.parametrize("kind", ["array", "tuple", "number"])
def test_values_of_a_metric_module_may_be_numpys(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    made = {"array": np.array([0.5, 1.0]), "tuple": (0.5, 1.0), "number": np.float32(0.5)}[kind]
    scorer = Evaluate(metric="m", values=["v"], trust_remote_code=True)
    module = SimpleNamespace(compute=lambda **_: {"v": made})
    monkeypatch.setattr(Evaluate, "_load", lambda self: module)
    found = [row["v"] for row in scorer.score_all([said("a", "a"), said("b", "b")])]
    assert found == ([0.5, 0.5] if kind == "number" else [0.5, 1.0])


def test_equal_answers_tie_whatever_the_last_digits_of_their_likelihoods(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may stand in batches of other sizes, which add up in another order."""
    monkeypatch.setattr(
        "harness.scorers.preference_accuracy.log_likelihoods",
        lambda *given_, **_: [{"nll": 3 + i * 1e-6, "tokens": 2.0} for i in range(len(given_[2]))],
    )
    pair = {"prompt": "p", "chosen": "same", "rejected": "same"}
    ranked = {"prompt": "p", "responses": ["a", "a", "b"], "ranks": [1, 2, 2]}
    one, several = scored(tiny_model, [pair, ranked])
    assert (one["preference_accuracy"], one["preference_margin"]) == (0.5, 0.0)
    assert several["preference_accuracy"] == 0.75  # a tie with itself, and likelier than b


def test_answers_to_a_prompt_beyond_the_context_are_read_after_its_end(tiny_model: Path) -> None:
    """The context holds 256: half of it is left to the prompt's end, and not one token."""
    letters = "".join(random.Random(0).choices("abcdefgh", k=400))
    row = {"prompt": letters, "chosen": "good", "rejected": "bad one"}
    (found,) = scored(tiny_model, [row], per_token=False)
    sums = [
        log_probability(tiny_model, letters[-128:], row[side])[0] for side in ("chosen", "rejected")
    ]
    assert found["preference_margin"] == pytest.approx(sums[0] - sums[1], abs=1e-4)


def test_likelihoods_need_rows() -> None:
    from harness.core.errors import DataError

    with pytest.raises(DataError, match="no rows"):
        log_likelihoods(None, None, [], 8, 4, 16, lambda *_: None)


def test_stages_fail_where_there_is_no_reference_and_nothing_to_measure(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with rows read by an earlier version, whose records do not count what has no reference."""
    write_jsonl(workspace.folder / "asked.jsonl", [{"prompt": "letter?"}])
    write_jsonl(workspace.folder / "general.jsonl", [{"text": "a"}, {"text": "b"}])
    workspace.tree["data"]["asked"] = {"test": "asked.jsonl"}
    workspace.write(
        evaluate=["asked"], matrix={}, base={"one": {"max_new_tokens": 1}},
        scorers=["exact_match", {"perplexity": {"data": "general"}}],
    )  # fmt: skip
    monkeypatch.setattr("harness.planning.checks._asks_sense", lambda *_: None)
    failed = {record.label: record.error for record in workspace.run().failed}
    told = " ".join(str(error and error["message"]) for error in failed.values())
    assert len(failed) == 2
    assert "1 of 1 rows, such as 0, have no reference" in told
    assert "perplexity = nan" in told
