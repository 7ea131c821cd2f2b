"""How many optimizer steps an objective says it will take, against transformers' own count."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from harness.core import registry
from harness.objectives._trainer import TrainerObjective
from harness.objectives._trl import trainer as _trainer
from harness.objectives.sft import Sft
from harness.stages.base import member_of


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


@pytest.mark.parametrize("ends", [{}, {"max_steps": 9}, {"max_tokens": 900}, {"max_seconds": 9.0}])
@pytest.mark.parametrize("epochs", [0.3, 1.0, 1.25, 2.0])
@pytest.mark.parametrize("warmup", [0.0, 0.03])
@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_trainings_whose_warmup_was_counted_otherwise_have_another_key(
    ends: dict[str, Any], epochs: float, warmup: float, name: str
) -> None:
    """Steps of parts of an epoch were rounded to the nearest number once."""
    kind = cast(type[TrainerObjective], registry.find("objective", name))
    objective = kind(**{"num_train_epochs": epochs, "warmup_ratio": warmup, **ends})

    def warmups(count: Callable[[float], int]) -> list[int]:
        steps = [count(rows / 8 * epochs) for rows in range(8, 801, 8)]
        return [math.ceil(number * warmup) for number in steps]

    moved = not ends and warmups(round) != warmups(math.ceil)
    assert (objective.identity()["version"] != kind.VERSION) == moved
    assert member_of("objective", objective.identity()) == objective, "a worker builds it again"


def test_a_step_takes_until_its_loss_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, a GPU has only been asked for it: the times of steps, and so MFU, would be wrong."""
    now = [0.0]
    monkeypatch.setattr(_trainer, "time", SimpleNamespace(monotonic=lambda: now[0]))
    job: Any = SimpleNamespace(
        checkpoints=tmp_path, step_log=tmp_path / "steps.jsonl", checkpoint_seconds=math.inf,
        progress=lambda *_: None,
    )  # fmt: skip
    log, state = _trainer.StepLog(job), cast(Any, SimpleNamespace(global_step=0, max_steps=2))
    calls = {"args": cast(Any, None), "state": state, "control": cast(Any, SimpleNamespace())}
    log.on_train_begin(**calls)
    for start in (0.0, 10.0):
        now[0] = start
        log.on_step_begin(**calls)
        now[0] = start + 1
        state.global_step += 1
        log.on_step_end(**calls)
        now[0] = start + 4
        log.on_log(**calls, logs={"loss": 1.0})
    log.close()
    assert log.seconds == [4.0, 4.0]
