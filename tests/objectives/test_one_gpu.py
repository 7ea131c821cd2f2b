"""A training uses one GPU, however many its process sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from harness.models.files import ModelRef
from harness.objectives._trl.trainer import build_trainer


def test_a_batch_is_shared_with_no_other_gpu(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a stage is run by hand, or by an executor that shows several."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    model = ModelRef(str(tiny_model), "float32", "cpu").load()

    def make(arguments: dict[str, Any], callbacks: list[Any]) -> Trainer:
        rows: Any = [{"input_ids": [5, 6], "labels": [5, 6]}] * 8
        settings = TrainingArguments(**arguments)
        assert settings.n_gpu == 2
        return Trainer(model, settings, train_dataset=rows, callbacks=callbacks)

    rows = {"output_dir": str(tmp_path), "report_to": [], "per_device_train_batch_size": 4}
    rows["dataloader_pin_memory"] = False  # no GPU is here to take it
    trainer = build_trainer(make, rows, [], model)
    assert trainer._wrap_model(model) is model
    assert len(next(iter(trainer.get_train_dataloader()))["input_ids"]) == 4
