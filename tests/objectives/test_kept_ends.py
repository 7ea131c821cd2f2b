"""Rows that are cut at their beginning: their answers stay, what is given in them stays out of the
loss, and the audit knows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from harness.data.render import encoded
from harness.objectives._trl import dpo as _dpo
from harness.objectives._trl.tokens import LearntOnly
from harness.objectives.base import Evidence
from harness.objectives.dpo import Dpo
from harness.stages._audit_loss import IGNORED, RowIndex, audit_loss
from tests.conftest import Workspace
from tests.objectives.test_preference import job_of, model_of
from tests.stages.test_cut_rows import rows_of, suite, trained


@pytest.mark.parametrize("prompt", [0, 2, 4, 5, 9])
@pytest.mark.parametrize("end", ["keep_start", "keep_end"])
def test_what_is_given_stays_out_of_the_loss_wherever_a_pair_is_cut(end: str, prompt: int) -> None:
    """Tokens say what they are: under 100 asked, under 200 learnt, over it given."""
    example = {
        "prompt_ids": [*range(1, prompt + 1)],
        "chosen_ids": [100, 200, 101, 201], "chosen_unlearnt": [1, 3],
        "rejected_ids": [202, 102], "rejected_unlearnt": [0],
    }  # fmt: skip
    short = {**example, "prompt_ids": [1], "chosen_ids": [103], "chosen_unlearnt": []}
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


@pytest.mark.filterwarnings("ignore::FutureWarning")  # that TRL will leave keep_end out one day
def test_rows_cut_at_their_beginning_pass_the_audit(workspace: Workspace) -> None:
    rows = [*rows_of("prompt_completion", 40, 4, 4), *rows_of("prompt_completion", 2, 40, 4)]
    cut = {"overlong": "truncate", "max_length": 24, "args": {"truncation_mode": "keep_end"}}
    record = trained(suite(workspace, {"sft": cut}, rows))
    assert record.ok, record.error
    assert record.metrics["rows"]["cut"] == 8
    found = {check["check"]: check["status"] for check in record.metrics["audit"]}
    assert found["the loss is on the tokens it should be on"] == "passed"


def test_a_row_cut_at_its_beginning_is_held_to_the_answers_that_are_left(tiny_model: Path) -> None:
    """Two answers, of which the first is cut in two: only what entered the model can be wrong."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    said = ["ask", "one two three", "more", "four five"]
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
    row = {"id": "a", "messages": turns}
    own = encoded(tokenizer, row)
    inside = own.trained.index(True) + 3

    def status(start: int, learnt: list[bool]) -> str:
        """Of the row without its first tokens."""
        index, ids = RowIndex(slice(start - len(own.ids), None)), own.ids[start:]
        index.add(row, own.ids)
        given = zip(ids, learnt[start:], strict=True)
        labels = [token if is_in else IGNORED for token, is_in in given]
        batch = {"input_ids": [ids], "labels": [labels]}
        (_, found) = audit_loss(tokenizer, index, Evidence(batches=(batch,)), True)
        return found["status"]

    assert status(inside, own.trained) == "passed"
    verdicts = []
    for place in range(inside, len(own.ids)):
        other = [*own.trained[:place], not own.trained[place], *own.trained[place + 1 :]]
        assert status(inside, other) == status(0, other)
        verdicts.append(status(inside, other))
    assert verdicts.count("failed") > len(verdicts) - 3  # white space after an answer is no matter
