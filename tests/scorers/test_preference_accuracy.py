"""The share of preferences a policy agrees with, by its own log-probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from harness.core.errors import DataError
from harness.scorers.base import LoadedModel, ScoreJob
from harness.scorers.preference_accuracy import PreferenceAccuracy
from tests.conftest import Workspace, write_jsonl
from tests.objectives.test_preference import CHATS, PAIRS, model_of


def scored(folder: Path, rows: list[dict[str, Any]], **fields: Any) -> list[dict[str, Any]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    named = [{"id": str(i), "cluster": "", "group": "", **row} for i, row in enumerate(rows)]
    job = ScoreJob({"model": LoadedModel(model_of(folder), tokenizer), "rows": named})
    return PreferenceAccuracy(**fields).score_job(job)


def log_probability(folder: Path, prompt: str, answer: str) -> tuple[float, int]:
    """Sum over the answer's tokens, its end included, and their number."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), model_of(folder)
    start = len(tokenizer(prompt)["input_ids"])
    ids = torch.tensor([tokenizer(prompt + answer + "<|end|>")["input_ids"]])
    with torch.no_grad():
        found = model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])
    return found[start - 1 :].sum().item(), ids.shape[1] - start


@pytest.mark.parametrize("per_token", [True, False])
def test_pairs_are_compared_by_the_models_log_probabilities(
    tiny_model: Path, per_token: bool
) -> None:
    found = scored(tiny_model, PAIRS, per_token=per_token)
    margins = []
    for row in PAIRS:
        (one, m), (other, n) = (
            log_probability(tiny_model, row["prompt"], row[side]) for side in ("chosen", "rejected")
        )
        margins.append(one / m - other / n if per_token else one - other)
    assert [row["preference_margin"] for row in found] == pytest.approx(margins, abs=1e-4)
    assert [row["preference_accuracy"] for row in found] == [float(m > 0) for m in margins]
    assert 0 < sum(row["preference_accuracy"] for row in found) < len(PAIRS)


def test_a_ranking_is_the_mean_of_its_pairs_without_ties(tiny_model: Path) -> None:
    row = {"prompt": "p: ", "responses": ["a", "bb", "c", "dddd"], "ranks": [3, 3, 2, 1]}
    better = [(3, 2), (3, 0), (3, 1), (2, 0), (2, 1)]
    pairs = [
        {"prompt": "p: ", "chosen": row["responses"][i], "rejected": row["responses"][j]}
        for i, j in better
    ]
    alone = scored(tiny_model, pairs)
    (together,) = scored(tiny_model, [row])
    for name in ("preference_accuracy", "preference_margin"):
        mean = sum(found[name] for found in alone) / len(alone)
        assert together[name] == pytest.approx(mean, abs=1e-5)
    (by_score,) = scored(tiny_model, [{**row, "ranks": None, "scores": [1, 1, 4, 7]}])
    assert by_score == pytest.approx(together, abs=1e-6)


def test_swapped_sides_and_equal_likelihoods(tiny_model: Path) -> None:
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in CHATS]
    for one, other in zip(scored(tiny_model, CHATS), scored(tiny_model, swapped), strict=True):
        assert one["preference_accuracy"] == 1 - other["preference_accuracy"]
        assert one["preference_margin"] == pytest.approx(-other["preference_margin"], abs=1e-6)
    (tie,) = scored(tiny_model, [{"prompt": "p", "chosen": "same", "rejected": "same"}])
    assert (tie["preference_accuracy"], tie["preference_margin"]) == (0.5, 0)


def test_rows_without_a_preference_are_refused(tiny_model: Path) -> None:
    with pytest.raises(DataError, match="row 0 is no preference"):
        scored(tiny_model, [{"prompt": "p", "completion": "a"}])
    with pytest.raises(DataError, match="row 0 ties all its answers"):
        scored(tiny_model, [{"prompt": "p", "responses": ["a", "b"], "ranks": [1, 1]}])


def test_dpo_raises_it_on_the_pairs_it_learnt(workspace: Workspace) -> None:
    pairs = [{"id": f"p{i}", **row, "dimension": "ab"[i % 2]} for i, row in enumerate(CHATS)]
    write_jsonl(workspace.folder / "pairs.jsonl", pairs)
    workspace.tree["data"]["pairs"] = {"train": "pairs.jsonl", "test": "pairs.jsonl"}
    fields = {"data": "pairs", "learning_rate": 1e-2, "max_steps": 8, "max_length": 64,
              "start": "base", "per_device_train_batch_size": 6}  # fmt: skip
    workspace.write(
        matrix={"data": ["letters"], "method": ["full"], "objective": [{"dpo": fields}]},
        scorers=[{"preference_accuracy": {"data": "pairs"}}],
    )
    outcome = workspace.run()
    assert not [record.error for record in outcome.failed]
    values = {
        record.label.split()[0]: record.metrics["metrics"]["preference_accuracy"]["value"]
        for record in outcome.records.values()
        if record.kind == "score"
    }
    base, trained = sorted(values.values())
    assert trained > base
    assert trained == 1
