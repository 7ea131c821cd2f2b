"""How many optimizer steps an objective says it will take, against transformers' own count."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from harness.objectives.sft import Sft


@pytest.mark.parametrize("rows", [1, 7, 16, 33])
@pytest.mark.parametrize("epochs", [0.3, 1.0, 1.1, 1.5, 2.25])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_steps_are_those_of_the_trainer(
    tmp_path: Path, rows: int, epochs: float, accumulation: int
) -> None:
    fields: dict[str, Any] = {
        "num_train_epochs": epochs, "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": accumulation,
    }  # fmt: skip
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[], **fields)
    trainer = Trainer(model=torch.nn.Linear(1, 1), args=arguments)
    batches = DataLoader(cast(Any, list(range(rows))), batch_size=4)
    *_, max_steps = trainer.set_initial_training_values(arguments, batches)
    assert Sft(**fields).steps(rows) == max_steps
