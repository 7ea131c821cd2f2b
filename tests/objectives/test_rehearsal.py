"""A rehearsal writes down what the trainer then does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.data.steps import IGNORED
from harness.objectives._trl import sft as training
from harness.objectives._trl.loss import LabelledTrainer
from harness.objectives.base import TrainJob
from harness.objectives.sft import Sft
from harness.stages._stand_in import stand_in
from tests.conftest import chat_rows


def job(folder: Path, model: Any, tokenizer: Any) -> TrainJob:
    folder.mkdir()
    return TrainJob(
        model=model, tokenizer=tokenizer, rows=cast(Any, chat_rows(0, 11)), validation=[],
        checkpoints=folder, step_log=folder / "steps.jsonl", seed=3, data_seed=5,
        dtype="float32", device="cpu", checkpoint_seconds=60.0, report_to=[], label="it",
        progress=lambda done, total, note: None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"num_train_epochs": 2, "gradient_accumulation_steps": 2, "warmup_ratio": 0.3,
         "lr_scheduler_type": "cosine"},
        {"max_steps": 7, "train_sampling_strategy": "sequential", "max_length": 10,
         "overlong": "truncate", "assistant_only_loss": False},
        {"num_train_epochs": 1.5, "train_sampling_strategy": "group_by_length",
         "lr_scheduler_type": "polynomial", "args": {"lr_scheduler_kwargs": {"power": 2.0}}},
    ],
)  # fmt: skip
def test_a_rehearsal_has_the_batches_the_order_and_the_rates_of_the_training(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Mapping[str, Any]
) -> None:
    objective = Sft(learning_rate=1e-3, per_device_train_batch_size=4, **options)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    written = training.schedule(objective, job(tmp_path / "a", stand_in(), tokenizer))
    seen: list[tuple[int, float, int, list[list[int]], list[list[int]]]] = []
    before = LabelledTrainer.compute_loss

    def look(self: Any, model: Any, inputs: Any, *rest: Any, num_items_in_batch: Any) -> Any:
        rate, number = self.optimizer.param_groups[0]["lr"], num_items_in_batch
        masks = inputs["attention_mask"].tolist()
        ids, labels = (
            [[v for v, there in zip(row, mask, strict=True) if there]
             for row, mask in zip(inputs[name].tolist(), masks, strict=True)]
            for name in ("input_ids", "labels")
        )  # fmt: skip
        seen.append((self.state.global_step, rate, int(number), ids, labels))
        return before(self, model, inputs, *rest, num_items_in_batch=number)

    monkeypatch.setattr(LabelledTrainer, "compute_loss", look)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    training.train(objective, job(tmp_path / "b", model, tokenizer))
    told = [
        (number, step.learning_rate, step.labels, [list(r.ids) for r in rows],
         [list(r.labels) for r in rows])
        for number, step in enumerate(written.steps)
        for rows in step.passes
    ]  # fmt: skip
    assert told == seen
    for step in written.steps:
        assert step.labels == sum(sum(row.learnt) for row in step.sequences)
    assert any(IGNORED in row.labels for row in written.steps[0].sequences) == (
        objective.assistant_only_loss
    )
