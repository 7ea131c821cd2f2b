"""Pairs that are cut at their beginning: their answers stay, and what is given in them stays out of
the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_preference import job_of, model_of
from trl.trainer.dpo_trainer import DataCollatorForPreference

from harness.objectives import _dpo
from harness.objectives._tokens import LearntOnly
from harness.objectives.dpo import Dpo


@pytest.mark.parametrize("prompt", [0, 2, 4, 5, 9])
@pytest.mark.parametrize("end", ["keep_start", "keep_end"])
def test_what_is_given_stays_out_of_the_loss_wherever_a_pair_is_cut(end: str, prompt: int) -> None:
    """Tokens say what they are: under 100 asked, under 200 learnt, over it given."""
    example = {
        "prompt_ids": [*range(1, prompt + 1)],
        "chosen_ids": [100, 200, 101, 201], "chosen_given": [1, 3],
        "rejected_ids": [202, 102], "rejected_given": [0],
    }  # fmt: skip
    short = {**example, "prompt_ids": [1], "chosen_ids": [103], "chosen_given": []}
    collate = DataCollatorForPreference(pad_token_id=0, max_length=5, truncation_mode=end)
    batch = LearntOnly(collate, {"completion_mask": ("chosen", "rejected")})([example, short])
    learnt = (batch["input_ids"] >= 100) & (batch["input_ids"] < 200)
    assert batch["completion_mask"].bool().tolist() == learnt.tolist()


@pytest.mark.filterwarnings("ignore:The `'keep_end'` truncation mode:FutureWarning")
@pytest.mark.parametrize(("end", "kept"), [("keep_start", 1), ("keep_end", 2)])
def test_a_pair_whose_answers_are_kept_is_trained_on(
    tiny_model: Path, tmp_path: Path, end: str, kept: int
) -> None:
    rows = [{"prompt": "ask " * n, "chosen": "yes", "rejected": "no"} for n in (1, 40)]
    cut: dict[str, Any] = {"overlong": "truncate", "max_length": 16}
    objective = Dpo(**cut, args={"truncation_mode": end})
    job = job_of(model_of(tiny_model), tiny_model, tmp_path, rows)
    trainer = _dpo._trainer(
        objective, job, _dpo.pairs_of(rows, "drop")[0], _dpo.arguments(objective, job, 1), []
    )
    assert len(trainer.train_dataset) == kept
